"""The last stage: from a displacement on the working frame to transforms, images and every figure of the result."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from SpikeRegLib import __version__, metrics
from SpikeRegLib.frames import Frame
from SpikeRegLib.images import Volume
from SpikeRegLib.inverse import fine_inverse
from SpikeRegLib.predict import Prediction
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement.diffeomorphic import remove_folds
from SpikeRegLib.refinement.displacement import hold_border
from SpikeRegLib.registration import SCHEMA, Registration
from SpikeRegLib.transforms import AffineTransform, DisplacementTransform, Transform, compose, warp_image
from SpikeRegLib.verdict import judge

if TYPE_CHECKING:
    from SpikeRegLib.pipeline import Run

# Resampled between two reports, so that a run can be stopped at once.
VOXELS_PER_REPORT = 2_000_000
# Voxels at which forward and inverse are compared: the mean is then right to about one percent.
CONSISTENCY_SAMPLES = 20_000


def finish(
    run: Run,
    base: Transform,
    deformation: DisplacementTransform,
    *,
    itk_jacobian: torch.Tensor | None,
    method: str,
    model: dict[str, Any],
    prediction: Prediction | None,
    iterations: tuple[int, ...],
    similarity: dict[str, Any],
) -> Registration:
    """Compose, invert, warp and measure.

    Args:
        run: inputs and what the earlier stages gathered.
        base: fixed -> moving before deformation.
        deformation: on the working frame, from fixed to aligned moving points.
        itk_jacobian: second reading of the Jacobian that may not fold either, see `as_itk_sees`.
        method, model, prediction, iterations, similarity: for the result.
    """

    def report(fraction: float, message: str) -> None:
        run.listener(Progress("finish", fraction, message))

    with run.stage("finish"):
        spacing_mm = deformation.frame.spacing[0]
        settled, _ = remove_folds(hold_border(deformation.field / spacing_mm), linear=itk_jacobian)
        deformation = DisplacementTransform(settled * spacing_mm, deformation.frame)
        report(0.1, "inverting")
        transform = compose(deformation, base)
        inverse = compose(base.inverse(), fine_inverse(deformation))
        fixed, moving = run.fixed, run.moving
        total = torch.empty(3, *fixed.image.frame.shape)
        values = torch.empty(fixed.image.frame.shape, dtype=moving.image.data.dtype)
        label_values = None
        if moving.labels is not None:
            label_values = torch.empty(fixed.image.frame.shape, dtype=moving.labels.data.dtype)
        for start, stop, slab in _slabs(fixed.image.frame):
            report(0.5 + 0.2 * start / len(values), "resampling")
            total[:, start:stop] = transform.displacement_on(slab)
            sampled = DisplacementTransform(total[:, start:stop], slab)  # the same map, sampled where it is needed
            values[start:stop] = warp_image(moving.image, sampled, slab).data
            if moving.labels is not None and label_values is not None:
                label_values[start:stop] = warp_image(moving.labels, sampled, slab, interpolation="nearest").data
        warped = replace(moving.image, data=values, frame=fixed.image.frame)
        warped_labels = None
        if moving.labels is not None and label_values is not None:
            warped_labels = replace(moving.labels, data=label_values, frame=fixed.image.frame)
        report(0.7, "measuring the deformation")
        jacobian = metrics.jacobian_determinant(total, fixed.image.frame)
        report(0.8, "measuring the deformation")
        summary = metrics.deformation_summary(total, fixed.image.frame, fixed.mask, jacobian=jacobian)
        summary["inverse_consistency_mm"] = metrics.inverse_consistency_mm(
            transform, inverse, fixed.image.frame, fixed.mask, samples=CONSISTENCY_SAMPLES
        )
        report(0.9, "measuring the overlap")
        dice = _dice(run, base, warped_labels)
        report(0.95, "measuring the overlap")
        result: dict[str, Any] = {
            "schema": SCHEMA,
            "method": method,
            "preset": run.preset.name,
            "model": model,
            "inputs": {"fixed": fixed.image.name, "moving": moving.image.name},
            "device": run.device if prediction is None else prediction.device,
            "arithmetic": None if prediction is None else prediction.arithmetic,
            "tile": None if prediction is None else prediction.tile,
            "threads": run.threads,
            "seed": run.seed,
            "versions": _versions(),
            "peak_memory_mb": None,
            "similarity": similarity,
            "refinement": {"iterations": list(iterations)},
            "deformation": summary,
            "dice": dice,
            "hd95_mm": _hd95(run, warped_labels),
            "tre_mm": _landmarks(run, transform),
            "spikes": _spikes(prediction),
            "energy": None if prediction is None or not prediction.layers else prediction.energy.as_result(),
        }
        result["verdict"] = judge(result)
        result["warnings"] = run.warnings
    result["timing_s"] = {**run.seconds, "total": sum(run.seconds.values())}
    result["cpu_s"] = {**run.cpu_seconds, "process": time.process_time()}
    result["peak_memory_mb"] = _peak_memory_mb()
    return Registration(
        fixed=fixed.image,
        moving=moving.image,
        warped=warped,
        transform=transform,
        inverse=inverse,
        displacement=total,
        jacobian=Volume(jacobian, fixed.image.frame, "jacobian"),
        warped_labels=warped_labels,
        fixed_labels=fixed.labels,
        spike_maps={} if prediction is None else prediction.maps,
        result=result,
    )


def _slabs(frame: Frame) -> Iterator[tuple[int, int, Frame]]:
    """Ranges of slices and the grid of each, small enough to be resampled between two reports."""
    depth, height, width = frame.shape
    step = max(1, VOXELS_PER_REPORT // (height * width))
    for start in range(0, depth, step):
        stop = min(depth, start + step)
        x, y, z = (float(v) for v in (frame.matrix @ np.array([0, 0, start, 1]))[:3])
        yield start, stop, replace(frame, shape=(stop - start, height, width), origin=(x, y, z))


def _dice(run: Run, base: Transform, warped: Volume | None) -> dict[str, Any] | None:
    fixed, moving = run.fixed.labels, run.moving.labels
    if fixed is None or moving is None or warped is None:
        return None
    identity = AffineTransform(np.eye(4))
    means = {
        name: fmean(metrics.dice(fixed, warp_image(moving, map_, fixed.frame, interpolation="nearest")).values())
        for name, map_ in (("before_mean", identity), ("aligned_mean", base))
    }
    after = metrics.dice(fixed, warped)
    return {**means, "after_mean": fmean(after.values()), "per_label": {str(k): v for k, v in after.items()}}


def _hd95(run: Run, warped: Volume | None) -> dict[str, Any] | None:
    if run.fixed.labels is None or warped is None:
        return None
    values = metrics.hd95_mm(run.fixed.labels, warped)
    return {
        "after_mean": fmean(values.values()) if values else None,
        "per_label": {str(k): v for k, v in values.items()},
    }


def _landmarks(run: Run, transform: Transform) -> dict[str, Any] | None:
    if run.fixed.points is None or run.moving.points is None:
        return None
    before = (run.fixed.points.double() - run.moving.points.double()).norm(dim=1)
    after = metrics.target_registration_error_mm(run.fixed.points, run.moving.points, transform)
    return {"before_mean": float(before.mean()), "after_mean": float(after.mean()), "per_point": after.tolist()}


def _spikes(prediction: Prediction | None) -> dict[str, Any] | None:
    if prediction is None or not prediction.layers:
        return None
    layers = prediction.layers
    updates = sum(layer.neuron_updates for layer in layers)
    neurons = [layer for layer in layers if layer.neurons]
    receiving = [layer for layer in layers if layer.analog_macs == 0]
    timesteps = neurons[0].neuron_updates // neurons[0].neurons
    return {
        "timesteps": prediction.timesteps,
        "passes": timesteps // prediction.timesteps,
        "mean_rate": sum(layer.count for layer in layers) / updates,
        "mac_weighted_rate": sum(layer.synaptic_ops for layer in receiving)
        / (sum(layer.dense_macs for layer in receiving) * prediction.timesteps),
        "layers": [asdict(layer) for layer in layers],
    }


def _versions() -> dict[str, str]:
    import SimpleITK as sitk

    return {
        "spikereg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "simpleitk": sitk.Version.VersionString(),
        "numpy": np.__version__,
    }


def _peak_memory_mb() -> float | None:
    """Highest resident memory of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
