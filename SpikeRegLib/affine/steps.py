"""One step of an alignment: SimpleITK's optimum of a rigid, similarity or affine motion, and what to refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from SpikeRegLib.affine.alignment_images import BINS, SEARCH_SAMPLES, AlignmentImages
from SpikeRegLib.affine.matrices import homogeneous, to_itk
from SpikeRegLib.progress import Listener, Progress

_SAMPLES = {"rigid": 10_000, "similarity": 10_000, "affine": 25_000}  # the last step decides the accuracy
_SCALES = (0.6, 1.6)
_SHEAR = 0.3


def optimise(
    images: AlignmentImages, start: np.ndarray, step: str, measure: str, listener: Listener
) -> np.ndarray | str:
    """SimpleITK's optimum of one model applied before `start`; the reason, as a string, if there is none."""
    if step == "rigid":
        transform: Any = sitk.VersorRigid3DTransform()
    else:
        transform = sitk.Similarity3DTransform() if step == "similarity" else sitk.AffineTransform(3)
    method = sitk.ImageRegistrationMethod()
    if measure == "correlation":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(BINS)
    image = "blurred" if measure == "blurred" else "contrast"
    mask = images.masks[image]
    method.SetMetricFixedMask(mask)
    if image == "contrast" and images.moving_mask is not None:
        method.SetMetricMovingMask(images.moving_mask)
    samples = SEARCH_SAMPLES if measure == "blurred" else _SAMPLES[step]
    share = samples / max(1, int(sitk.GetArrayViewFromImage(mask).sum()))
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, images.seed + 1)  # 0 would mean the clock
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.1 if measure == "blurred" else 0.05,
        minStep=0.001 if measure == "blurred" else 0.0004,
        numberOfIterations=40 if measure == "blurred" else 100,
        relaxationFactor=0.5 if measure == "blurred" else 0.7,
        gradientMagnitudeTolerance=1e-9,
    )
    scales = {"rigid": [4.0] * 3 + [1.0] * 3, "similarity": [4.0] * 3 + [1.0] * 4, "affine": [1.0] * 12}[step]
    method.SetOptimizerScales(scales)  # a versor is half an angle
    method.SetMovingInitialTransform(to_itk(start))
    method.SetInitialTransform(transform, True)
    raised: list[BaseException] = []

    def report() -> None:
        # An exception must not cross ITK: it is kept, ITK is stopped, and it goes on from here.
        if raised:
            return
        try:
            done = min(1.0, method.GetOptimizerIteration() / 40)
            listener(Progress("align", done, f"{step} alignment"))
        except BaseException as error:
            raised.append(error)
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, report)
    failure = ""
    try:
        method.Execute(getattr(images.fixed, image), getattr(images.moving, image))
    except RuntimeError as error:
        failure = str(error).strip().splitlines()[-1]
    finally:
        method.RemoveAllCommands()
    if raised:
        raise raised[0]
    if failure:
        return failure
    matrix = start @ homogeneous(
        np.reshape(transform.GetMatrix(), (3, 3)), np.asarray(transform.GetTranslation(), float)
    )
    return matrix if np.isfinite(matrix).all() else "the optimum is not finite"


def implausible(matrix: np.ndarray) -> str:
    """Why no two anatomies differ by this linear map, or an empty string."""
    linear = matrix[:3, :3]
    if np.linalg.det(linear) <= 0:
        return "it mirrors the anatomy"
    scales = np.linalg.svd(linear, compute_uv=False)
    if scales.min() < _SCALES[0] or scales.max() > _SCALES[1]:
        return f"it scales by {scales.min():.2f} to {scales.max():.2f}, beyond {_SCALES[0]} to {_SCALES[1]}"
    upper = np.linalg.qr(linear)[1]
    upper = upper / np.diag(upper)[:, None]
    shear = float(np.abs(upper[np.triu_indices(3, 1)]).max())
    return f"it shears by {shear:.2f}, beyond {_SHEAR}" if shear > _SHEAR else ""
