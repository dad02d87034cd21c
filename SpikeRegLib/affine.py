"""Rigid and affine alignment: start search over rotations, then SimpleITK registration, each step kept only if better.

Both images are brought to a small isotropic grid in units of the object's radius, centred on the foreground, where
rotations, scales and translations have the same order of magnitude. What is compared there is the local contrast
(intensity minus its local mean, over its local deviation): it does not change with bias fields or gains, follows the
tissue rather than the outline, and so is not misled by wide ventricles and sulci. The domain is fixed, the fixed
foreground and a rim around it, and outside the moving image counts as background: shrinking or leaving the overlap
is never rewarded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from .errors import InputError
from .filters import gaussian
from .frames import Frame
from .images import Volume, foreground_mask, frame_of, set_frame, to_sitk
from .progress import Listener, Progress, silent
from .transforms import AffineTransform

_BLOCKS = 96  # voxels per axis, about, that an image is reduced to before anything else
_SPACING = 0.055  # of the working grid, in radii: 3 mm for an adult brain
_MARGIN = 0.6  # of background around the foreground, in radii
_RIM = 3  # voxels around the fixed foreground that take part
_LOCAL = 1.6  # standard deviation in voxels of the neighbourhood of the local contrast
_BLUR = 1.5  # standard deviation in voxels of the smoothing for the start search
_SAMPLES = {"rigid": 10_000, "similarity": 10_000, "affine": 60_000}  # the last step decides the accuracy
_SEARCH_SAMPLES = 3_000
_ROTATIONS = 600  # 20 degrees apart on average
_STARTS = 7  # that are refined on blurred images
_FINALISTS = 4  # that are refined on local contrast, at most
_NESTED = 0.6  # ratio of foreground volumes below which one image shows much more than the other
_BINS = 24
_SAME_CONTRAST = 0.2  # interior correlation above which two images count as the same contrast
_SCALES = (0.6, 1.6)
_SHEAR = 0.3
_LOW_CORRELATION = 0.3


@dataclass(frozen=True)
class Alignment:
    """The result of `align`.

    Attributes:
        transform: fixed -> moving, LPS mm.
        similarity_before, similarity_after: of the start and of `transform`, by the measure that decided every step.
        accepted_steps: the steps that improved it, in order; empty when the start was kept.
        warnings: one line each on what was not accepted and why, or what looks doubtful.
        measure: "correlation" (of local contrast, at most 1) or "mutual information" (of local contrast, nats).
    """

    transform: AffineTransform
    similarity_before: float
    similarity_after: float
    accepted_steps: list[str]
    warnings: list[str]
    measure: str


def align(
    fixed: Volume,
    moving: Volume,
    *,
    model: str = "affine",
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    initial: AffineTransform | None = None,
    listener: Listener = silent,
    seed: int = 0,
) -> Alignment:
    """Align `moving` to `fixed`, whatever their headers say about position and orientation.

    Args:
        fixed, moving: images on any grid; the contrast may differ.
        model: "rigid", or "affine" (rigid, then similarity, then affine).
        fixed_mask, moving_mask: non-zero where the anatomy is, on any grid; what lies outside counts as background.
        initial: fixed -> moving, LPS mm. Registration starts there and searches nothing; the rigid or affine motion
            found is applied before it. Without it, the start is what the headers say, then a search.
        listener: told of the progress at least every 0.2 s; whatever it raises ends the registration.
        seed: of the sample points; the result depends on nothing else.

    Raises:
        InputError: unknown model, empty mask, or constant image.
        Cancelled: raised by the listener.
    """
    if model not in ("affine", "rigid"):
        raise InputError(f"model: {model!r} is unknown; use affine or rigid")
    listener(Progress("align", 0.0, "preparing the images"))
    with _one_itk_thread():
        return _align(fixed, moving, model, (fixed_mask, moving_mask), initial, listener, seed)


@contextmanager
def _one_itk_thread() -> Iterator[None]:
    """ITK's metrics add up in the order in which their threads finish: only one thread gives the same bits again."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _align(
    fixed: Volume, moving: Volume, model: str, masks: tuple[Volume | None, Volume | None],
    initial: AffineTransform | None, listener: Listener, seed: int,
) -> Alignment:  # fmt: skip
    objects = _find(fixed, masks[0], "fixed"), _find(moving, masks[1], "moving")
    radius = min(o.radius for o in objects)
    listener(Progress("align", 0.1, "preparing the images"))
    matrix: np.ndarray = np.eye(4) if initial is None else initial.matrix
    # A brain against a whole head: the smaller one sets the domain, so it plays the fixed image.
    nested = min(o.volume for o in objects) < _NESTED * max(o.volume for o in objects)
    swapped = nested and objects[1].volume < objects[0].volume
    if swapped:
        objects, matrix = objects[::-1], np.linalg.inv(matrix)
    pair = _Pair(_prepare(objects[0], radius, alone=nested), _prepare(objects[1], radius), seed, nested=nested)
    to_unit = _unit_map(objects[0].centre, radius)
    from_unit = np.linalg.inv(_unit_map(objects[1].centre, radius))
    start = np.linalg.inv(from_unit) @ matrix @ np.linalg.inv(to_unit)

    warnings: list[str] = []
    best = start
    if initial is None:
        best = _search(pair, start, listener)
    measure = "correlation" if pair.interior_correlation(best) > _SAME_CONTRAST else "mutual information"
    before = pair.similarity(start, measure)
    current, similarity, accepted = start, before, []

    def offer(step: str, candidate: np.ndarray | str) -> None:
        nonlocal current, similarity
        if isinstance(candidate, str):
            warnings.append(f"{step} step failed and was left out: {candidate}")
            return
        if step in ("similarity", "affine") and (problem := _implausible(candidate)):
            warnings.append(f"{step} step not accepted: {problem}")
            return
        reached = pair.similarity(candidate, measure)
        if reached > similarity + 1e-6:
            current, similarity = candidate, reached
            accepted.append(step)

    if initial is None:
        offer("start search", best)
    steps = ["rigid"] if model == "rigid" else ["rigid", "similarity", "affine"]
    for number, step in enumerate(steps):
        begin, end = 0.5 + 0.5 * number / len(steps), 0.5 + 0.5 * (number + 1) / len(steps)
        offer(step, _optimise(pair, current, step, measure, listener, (begin, end)))
    if not accepted:
        warnings.append(f"no step improved the similarity ({measure} {before:.3f}); the start was kept")
    if measure == "correlation" and similarity < _LOW_CORRELATION:
        warnings.append(f"the images agree poorly after alignment ({measure} {similarity:.3f}); check the result")
    listener(Progress("align", 1.0, f"{measure} {before:.3f} -> {similarity:.3f}"))
    matrix = from_unit @ current @ to_unit
    transform = AffineTransform(np.linalg.inv(matrix) if swapped else matrix)
    return Alignment(transform, before, similarity, accepted, warnings, measure)


@dataclass(frozen=True)
class _Object:
    """An image reduced to about `_BLOCKS` voxels per axis, with its foreground."""

    intensity: sitk.Image  # [0, 1] between the foreground's robust percentiles
    foreground: sitk.Image  # float32, 0 or 1
    box: np.ndarray  # [2, 3] LPS mm, of the foreground
    centre: np.ndarray  # [3] LPS mm, of the foreground
    radius: float  # root mean square distance of the foreground from its centre, mm
    volume: float  # of the foreground, mm^3
    cut: bool  # the foreground goes on beyond the field of view


@dataclass(frozen=True)
class _Prepared:
    """An image on the working grid; positions are LPS relative to the centre, in radii."""

    contrast: sitk.Image
    blurred: sitk.Image
    foreground: np.ndarray  # [D, H, W] bool


def _find(volume: Volume, mask: Volume | None, role: str) -> _Object:
    where = volume.name or f"{role} image"
    image = sitk.Cast(to_sitk(volume), sitk.sitkFloat32)
    extent = np.asarray(image.GetSize()) * image.GetSpacing()
    block = float(np.prod(extent)) ** (1 / 3) / _BLOCKS
    image = sitk.BinShrink(image, [max(1, round(block / s)) for s in image.GetSpacing()])
    data = torch.from_numpy(sitk.GetArrayFromImage(image))
    if mask is None:
        inside = foreground_mask(Volume(data, frame_of(image))).numpy()
    else:
        there = sitk.Resample(
            sitk.Cast(to_sitk(mask) != 0, sitk.sitkFloat32), image, sitk.Transform(), sitk.sitkLinear, 0.0
        )
        inside = sitk.GetArrayFromImage(there) > 0.5
        if not inside.any():
            raise InputError(f"{mask.name or role + ' mask'}: the mask is empty on {where}; give a mask that covers it")
    values = data.numpy()
    low, high = np.percentile(values[inside], (0.5, 99.5))
    background = float(values[~inside].min()) if mask is None and not inside.all() else float(low)
    low = min(float(low), max(background, float(low) - 0.5 * float(high - low)))
    if high <= low:
        raise InputError(f"{where}: the image is constant where the anatomy should be; check the image and the mask")
    scaled = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    if mask is not None:
        scaled *= inside
    index = np.argwhere(inside)[:, ::-1]
    frame = frame_of(image)
    points = index @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]
    centre = points.mean(0)
    faces = np.concatenate([np.take(inside, i, axis).ravel() for axis in range(3) for i in (0, -1)])
    return _Object(
        set_frame(sitk.GetImageFromArray(scaled), frame),
        set_frame(sitk.GetImageFromArray(inside.astype(np.float32)), frame),
        np.stack([points.min(0), points.max(0)]),
        centre,
        float(np.sqrt(((points - centre) ** 2).sum(1).mean())),
        float(len(points) * np.prod(frame.spacing)),
        mask is None and float(faces.mean()) > 0.05,
    )


def _prepare(found: _Object, radius: float, *, alone: bool = False) -> _Prepared:
    """Bring an image to the working grid; `alone`: nothing outside the foreground, its outline included, counts."""
    lower = (found.box[0] - found.centre) / radius - _MARGIN
    upper = (found.box[1] - found.centre) / radius + _MARGIN
    spacing = max(_SPACING, float((upper - lower).max()) / 128)
    size = [int(n) for n in np.ceil((upper - lower) / spacing) + 1]
    frame = Frame((size[2], size[1], size[0]), (lower[0], lower[1], lower[2]), (spacing,) * 3)
    place = _affine(np.linalg.inv(_unit_map(found.centre, radius)))
    reference = set_frame(sitk.Image(size, sitk.sitkUInt8), frame)

    def on_grid(image: sitk.Image) -> torch.Tensor:
        return torch.from_numpy(
            sitk.GetArrayFromImage(sitk.Resample(image, reference, place, sitk.sitkLinear, 0.0, sitk.sitkFloat32))
        )

    intensity = gaussian(on_grid(found.intensity), 0.5)
    # Where the anatomy is cut by the field of view, the cut is no edge: only known voxels enter the local statistics.
    known = torch.ones_like(intensity)
    if alone:
        known = (on_grid(found.foreground) > 0.5).float()
    elif found.cut:
        known = on_grid(sitk.Cast(found.foreground >= 0, sitk.sitkFloat32))
    weight = gaussian(known, _LOCAL).clamp(min=1e-3)
    mean = gaussian(intensity * known, _LOCAL) / weight
    variance = gaussian(intensity * intensity * known, _LOCAL) / weight - mean * mean
    contrast = known * (intensity - mean) / (variance.clamp(min=0) + 0.05**2).sqrt()
    return _Prepared(
        set_frame(sitk.GetImageFromArray(contrast.numpy()), frame),
        set_frame(sitk.GetImageFromArray(gaussian(intensity, _BLUR).numpy()), frame),
        (on_grid(found.foreground) > 0.5).numpy(),
    )


class _Pair:
    """Two prepared images, the domain on which they are compared, and the measures on it.

    Matrices are 4x4, fixed -> moving, in the units of `_Prepared`.
    """

    def __init__(self, fixed: _Prepared, moving: _Prepared, seed: int, *, nested: bool = False) -> None:
        self.fixed, self.moving, self.seed, self.nested = fixed, moving, seed, nested
        foreground = sitk.GetImageFromArray(fixed.foreground.astype(np.uint8))
        rim = sitk.GetArrayFromImage(sitk.BinaryDilate(foreground, [_RIM] * 3)).astype(bool)
        self.domain = fixed.foreground if nested else rim
        self.interior = sitk.GetArrayFromImage(sitk.BinaryErode(foreground, [2] * 3)).astype(bool)
        frame = frame_of(fixed.contrast)
        self.masks = {
            "blurred": set_frame(sitk.GetImageFromArray(rim.astype(np.uint8)), frame),
            "contrast": set_frame(sitk.GetImageFromArray(self.domain.astype(np.uint8)), frame),
        }
        index = np.argwhere(rim)  # the search needs the outline, which a skull-stripped brain shares with the skull
        chosen = np.random.default_rng(seed).permutation(len(index))[:_SEARCH_SAMPLES]
        self._points = index[chosen][:, ::-1] @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]
        blurred = sitk.GetArrayViewFromImage(fixed.blurred)
        self._codes = _bin(blurred[tuple(index[chosen].T)], 0, 1) * _BINS
        target = frame_of(moving.blurred)
        self._to_index = target.inverse_matrix
        self._size = np.asarray(target.size)
        padded = np.pad(_bin(sitk.GetArrayFromImage(moving.blurred), 0, 1), 1)  # a rim of background catches the rest
        self._moving_codes = np.ascontiguousarray(padded.transpose(2, 1, 0))

    def quick_similarity(self, matrix: np.ndarray) -> float:
        """Mutual information of the blurred intensities at a few points, nats."""
        to_index = self._to_index @ matrix
        index = np.rint(self._points @ to_index[:3, :3].T + (to_index[:3, 3] + 1)).astype(np.intp)
        np.clip(index, 0, self._size + 1, out=index)
        values = self._moving_codes[index[:, 0], index[:, 1], index[:, 2]]
        return _mutual_information(np.bincount(self._codes + values, minlength=_BINS * _BINS))

    def similarity(self, matrix: np.ndarray, measure: str) -> float:
        """The measure that decides: on every voxel of the domain."""
        fixed, moving = self._sampled(matrix, self.domain)
        if measure == "correlation":
            return _correlation(fixed, moving)
        return _mutual_information(
            np.bincount(_bin(fixed, -2, 2) * _BINS + _bin(moving, -2, 2), minlength=_BINS * _BINS)
        )

    def interior_correlation(self, matrix: np.ndarray) -> float:
        """Correlation of the local contrast away from the outline, which every contrast shares."""
        return _correlation(*self._sampled(matrix, self.interior)) if self.interior.any() else 0.0

    def _sampled(self, matrix: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        warped = sitk.Resample(self.moving.contrast, self.fixed.contrast, _affine(matrix), sitk.sitkLinear, 0.0)
        return sitk.GetArrayViewFromImage(self.fixed.contrast)[where], sitk.GetArrayViewFromImage(warped)[where]


def _search(pair: _Pair, header: np.ndarray, listener: Listener) -> np.ndarray:
    """The best rigid start: headers, centres of the foreground, and rotations about them all over the sphere."""
    directions = (-0.4, 0.0, 0.4)
    shifts = np.array([[x, y, z] for x in directions for y in directions for z in (-0.8, *directions, 0.8)])
    rotations = [np.eye(3), *(_rotation(q) for q in _quaternions(_ROTATIONS // (5 if pair.nested else 1)))]
    scored: list[tuple[float, np.ndarray]] = []
    for number, rotation in enumerate(rotations):
        if number % 20 == 0:
            listener(Progress("align", 0.2 + 0.1 * number / len(rotations), "searching the orientation"))
        scored.append(_best_shift(pair, _homogeneous(rotation), shifts if pair.nested else shifts[:0]))
    # The first two are what the headers suggest: the position they give, and their orientation about the centres.
    chosen = [header, scored[0][1]]
    for _, matrix in sorted(scored, key=lambda item: -item[0]):
        if len(chosen) < _STARTS and all(_angle(matrix, other) > 25 for other in chosen[1:]):
            chosen.append(matrix)
    coarse: list[tuple[float, np.ndarray]] = []
    for number, matrix in enumerate(chosen):
        _, best = _best_shift(pair, matrix, shifts if number else shifts[:0])
        span = (0.3 + 0.1 * number / len(chosen), 0.3 + 0.1 * (number + 1) / len(chosen))
        found = _optimise(pair, best, "rigid", "blurred", listener, span)
        best = best if isinstance(found, str) else found
        # Of two starts that are as good as equal, the one that the headers suggest.
        coarse.append((pair.quick_similarity(best) * (1.02 if number < 2 else 1.0), best))
    # The better of the two that the headers suggest goes on in any case: blurred outlines alone can mislead.
    suggested = max(coarse[:2], key=lambda item: item[0])
    ranked = [suggested, *sorted(coarse, key=lambda item: -item[0])]
    fine: list[tuple[float, np.ndarray]] = []
    distinct: list[np.ndarray] = []
    for score, matrix in ranked:
        if len(distinct) == _FINALISTS:
            break
        near = any(_angle(matrix, d) < 10 and np.abs(matrix - d)[:3, 3].max() < 0.2 for d in distinct)
        if near or (distinct and score < 0.5 * ranked[1][0]):
            continue
        distinct.append(matrix)
        span = (0.4 + 0.1 * len(fine) / _FINALISTS, 0.4 + 0.1 * (len(fine) + 1) / _FINALISTS)
        found = _optimise(pair, matrix, "rigid", "mutual information", listener, span)
        best = matrix if isinstance(found, str) else found
        fine.append((pair.similarity(best, "mutual information"), best))
    return max(fine, key=lambda item: item[0])[1]


def _best_shift(pair: _Pair, matrix: np.ndarray, shifts: np.ndarray) -> tuple[float, np.ndarray]:
    """`matrix`, moved by the best of the shifts or not at all, with its quick similarity."""
    shifted = [matrix, *(_homogeneous(matrix[:3, :3], matrix[:3, 3] + s) for s in shifts)]
    scores = [pair.quick_similarity(m) for m in shifted]
    best = int(np.argmax(scores))
    return scores[best], shifted[best]


def _optimise(
    pair: _Pair, start: np.ndarray, step: str, measure: str, listener: Listener, span: tuple[float, float]
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
        method.SetMetricAsMattesMutualInformation(_BINS)
    image = "blurred" if measure == "blurred" else "contrast"
    mask = pair.masks[image]
    method.SetMetricFixedMask(mask)
    samples = _SEARCH_SAMPLES if measure == "blurred" else _SAMPLES[step]
    share = samples / max(1, int(sitk.GetArrayViewFromImage(mask).sum()))
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, pair.seed + 1)  # 0 would mean the clock
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
    method.SetMovingInitialTransform(_affine(start))
    method.SetInitialTransform(transform, True)
    raised: list[BaseException] = []

    def report() -> None:
        # An exception must not cross ITK: it is kept, ITK is stopped, and it goes on from here.
        if raised:
            return
        try:
            done = min(1.0, method.GetOptimizerIteration() / 40)
            listener(Progress("align", span[0] + (span[1] - span[0]) * done, f"{step} alignment"))
        except BaseException as error:
            raised.append(error)
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, report)
    failure = ""
    try:
        method.Execute(getattr(pair.fixed, image), getattr(pair.moving, image))
    except RuntimeError as error:
        failure = str(error).strip().splitlines()[-1]
    finally:
        method.RemoveAllCommands()
    if raised:
        raise raised[0]
    if failure:
        return failure
    matrix = start @ _homogeneous(
        np.reshape(transform.GetMatrix(), (3, 3)), np.asarray(transform.GetTranslation(), float)
    )
    return matrix if np.isfinite(matrix).all() else "the optimum is not finite"


def _implausible(matrix: np.ndarray) -> str:
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


def _bin(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) * (_BINS / (high - low)), 0, _BINS - 1).astype(np.intp)


def _mutual_information(joint: np.ndarray) -> float:
    share = joint.reshape(_BINS, _BINS) / joint.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return -float((p * np.log(p)).sum())

    return entropy(share.sum(0)) + entropy(share.sum(1)) - entropy(share.ravel())


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def _affine(matrix: np.ndarray) -> sitk.AffineTransform:
    return sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())


def _unit_map(centre: np.ndarray, radius: float) -> np.ndarray:
    """LPS mm to radii from the centre."""
    return _homogeneous(np.eye(3) / radius, -centre / radius)


def _homogeneous(linear: np.ndarray, translation: np.ndarray | None = None) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    if translation is not None:
        matrix[:3, 3] = translation
    return matrix


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations."""
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def _quaternions(count: int) -> np.ndarray:
    """[count, 4] unit quaternions spread evenly over the rotations (super-Fibonacci spiral, Alexa 2022)."""
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    a, b = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    return np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], 1)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
