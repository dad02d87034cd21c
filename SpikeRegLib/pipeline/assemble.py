"""The last stage: from a displacement on the working frame to transforms, images and every figure of the result."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from SpikeRegLib import __version__
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.passes import Prediction
from SpikeRegLib.outputs.registration import SCHEMA, Registration
from SpikeRegLib.progress import Progress
from SpikeRegLib.quality import metrics
from SpikeRegLib.quality.verdict import judge
from SpikeRegLib.refinement.guidance import unmet
from SpikeRegLib.similarity.pair import settled
from SpikeRegLib.space.fine_inversion import fine_inverse
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, compose, warp_image

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.run import Run

# Resampled between two reports, so that a run can be stopped at once.
VOXELS_PER_REPORT = 2_000_000
# Voxels at which forward and inverse are compared: the mean is then right to about one percent.
CONSISTENCY_SAMPLES = 20_000


@dataclass(frozen=True)
class Mapping:
    """The whole map from fixed to moving points, and what it does to the moving image.

    Attributes:
        transform, inverse: fixed -> moving points and back.
        displacement: [3, D, H, W] mm, of `transform` on the grid of fixed.
        warped: the moving image through it.
        jacobian: [D, H, W], its determinant.
        summary: see `metrics.deformation_summary`; with the inverse consistency.
    """

    transform: Transform
    inverse: Transform
    displacement: torch.Tensor
    warped: Volume
    jacobian: torch.Tensor
    summary: dict[str, float]


@dataclass(frozen=True)
class Overlap:
    """The moving segmentation on the grid of fixed, and how it lies on the fixed one where there is one."""

    warped: Volume
    dice: dict[str, Any] | None
    hd95_mm: dict[str, Any] | None


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

    with run.stage("finish"):
        mapping = run.memory.recall(
            "mapping",
            lambda: _mapping(run, base, deformation, itk_jacobian),
            key=run.background,
            after=("refinement", "landmarks"),
        )
        fixed, moving, transform = run.fixed, run.moving, mapping.transform
        overlap = run.memory.recall(
            "overlap",
            lambda: _overlap(run, base, mapping.displacement),
            after=("mapping", "fixed segmentation", "moving segmentation"),
        )
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
            "background": run.background,
            "similarity": similarity,
            "refinement": {"iterations": list(iterations), **run.options.as_result()},
            "deformation": dict(mapping.summary),
            "dice": None if overlap is None else overlap.dice,
            "hd95_mm": None if overlap is None else overlap.hd95_mm,
            "tre_mm": _landmarks(run, base, transform),
            "spikes": _spikes(prediction),
            "energy": None if prediction is None or not prediction.layers else prediction.energy.as_result(),
        }
        if run.options.landmark_weight and result["tre_mm"] is not None:
            run.warnings += unmet(result["tre_mm"]["per_point"])
        result["verdict"] = judge(result, anatomy=run.preset.anatomy)
        result["warnings"] = run.warnings
        result["reused"] = list(run.memory.reused)
    result["timing_s"] = {**run.seconds, "total": sum(run.seconds.values())}
    result["cpu_s"] = {**run.cpu_seconds, "process": time.process_time()}
    result["peak_memory_mb"] = _peak_memory_mb()
    return Registration(
        fixed=fixed.image,
        moving=moving.image,
        warped=mapping.warped,
        transform=transform,
        inverse=mapping.inverse,
        displacement=mapping.displacement,
        jacobian=Volume(mapping.jacobian, fixed.image.frame, "jacobian"),
        warped_labels=None if overlap is None else overlap.warped,
        fixed_labels=fixed.labels,
        spike_maps={} if prediction is None else prediction.maps,
        result=result,
    )


def _report(run: Run, fraction: float, message: str) -> None:
    run.listener(Progress("finish", fraction, message))


def _mapping(
    run: Run, base: Transform, deformation: DisplacementTransform, itk_jacobian: torch.Tensor | None
) -> Mapping:
    """See `finish`."""
    deformation = settled(deformation, itk_jacobian)
    _report(run, 0.1, "inverting")
    transform = compose(deformation, base)
    inverse = compose(base.inverse(), fine_inverse(deformation, tick=lambda: _report(run, 0.3, "inverting")))
    frame = run.fixed.image.frame
    total = torch.empty(3, *frame.shape)
    for start, stop, slab in _slabs(frame):
        _report(run, 0.4 + 0.1 * start / frame.shape[0], "sampling the deformation")
        total[:, start:stop] = transform.displacement_on(slab)
    warped = _warped(run, run.moving.image, total, "resampling", 0.5)
    _report(run, 0.7, "measuring the deformation")
    jacobian = metrics.jacobian_determinant(total, frame)
    _report(run, 0.75, "measuring the deformation")
    summary = metrics.deformation_summary(total, frame, run.fixed.mask, jacobian=jacobian)
    summary["inverse_consistency_mm"] = metrics.inverse_consistency_mm(
        transform, inverse, frame, run.fixed.mask, samples=CONSISTENCY_SAMPLES
    )
    return Mapping(transform, inverse, total, warped, jacobian, summary)


def _overlap(run: Run, base: Transform, displacement: torch.Tensor) -> Overlap | None:
    """None without a moving segmentation."""
    labels = run.moving.labels
    if labels is None:
        return None
    warped = _warped(run, labels, displacement, "resampling the segmentation", 0.8)
    _report(run, 0.9, "measuring the overlap")
    dice = _dice(run, base, warped)
    _report(run, 0.95, "measuring the overlap")
    return Overlap(warped, dice, _hd95(run, warped))


def _warped(run: Run, volume: Volume, displacement: torch.Tensor, message: str, begin: float) -> Volume:
    """An image or segmentation on the grid of fixed, through the displacement [3, D, H, W] mm on it.

    Args:
        run: the grid of fixed, and who is told.
        volume: on the grid of moving.
        displacement: fixed -> moving.
        message, begin: for the reports; `begin` is the share of the stage that is done before, the next tenth is this.
    """
    frame, labels = run.fixed.image.frame, not volume.data.is_floating_point()
    interpolation, outside = ("nearest", 0.0) if labels else ("linear", run.background)
    values = torch.empty(frame.shape, dtype=volume.data.dtype)
    for start, stop, slab in _slabs(frame):
        _report(run, begin + 0.1 * start / len(values), message)
        sampled = DisplacementTransform(displacement[:, start:stop], slab)
        values[start:stop] = warp_image(volume, sampled, slab, interpolation=interpolation, outside=outside).data
    return replace(volume, data=values, frame=frame)


def _slabs(frame: Frame) -> Iterator[tuple[int, int, Frame]]:
    """Ranges of slices and the grid of each, small enough to be resampled between two reports."""
    depth, height, width = frame.shape
    step = max(1, VOXELS_PER_REPORT // (height * width))
    for start in range(0, depth, step):
        stop = min(depth, start + step)
        x, y, z = (float(v) for v in (frame.matrix @ np.array([0, 0, start, 1]))[:3])
        yield start, stop, replace(frame, shape=(stop - start, height, width), origin=(x, y, z))


def _dice(run: Run, base: Transform, warped: Volume) -> dict[str, Any] | None:
    fixed, moving = run.fixed.labels, run.moving.labels
    if fixed is None or moving is None:
        return None
    before, aligned = (
        metrics.dice(fixed, warp_image(moving, map_, fixed.frame, interpolation="nearest"))
        for map_ in (AffineTransform(np.eye(4)), base)
    )
    values = {"before": before, "aligned": aligned, "after": metrics.dice(fixed, warped)}
    means = {f"{when}_mean": fmean(dice.values()) for when, dice in values.items()}
    labels = {when: {str(label): value for label, value in dice.items()} for when, dice in values.items()}
    return {
        **means,
        "per_label": labels["after"],
        "per_label_before": labels["before"],
        "per_label_aligned": labels["aligned"],
    }


def _hd95(run: Run, warped: Volume) -> dict[str, Any] | None:
    if run.fixed.labels is None:
        return None
    values = metrics.hd95_mm(run.fixed.labels, warped)
    return {
        "after_mean": fmean(values.values()) if values else None,
        "per_label": {str(k): v for k, v in values.items()},
    }


def _landmarks(run: Run, base: Transform, transform: Transform) -> dict[str, Any] | None:
    if run.fixed.points is None or run.moving.points is None:
        return None
    before = (run.fixed.points.double() - run.moving.points.double()).norm(dim=1)
    aligned, after = (
        metrics.target_registration_error_mm(run.fixed.points, run.moving.points, map_) for map_ in (base, transform)
    )
    return {
        "before_mean": float(before.mean()),
        "aligned_mean": float(aligned.mean()),
        "after_mean": float(after.mean()),
        "per_point": after.tolist(),
        "per_point_before": before.tolist(),
        "per_point_aligned": aligned.tolist(),
    }


def _spikes(prediction: Prediction | None) -> dict[str, Any] | None:
    if prediction is None or not prediction.layers:
        return None
    layers = prediction.layers
    updates = sum(layer.neuron_updates for layer in layers)
    receiving = [layer for layer in layers if layer.analog_macs == 0]
    return {
        "timesteps": prediction.timesteps,
        "passes": prediction.passes_run,
        "passes_kept": prediction.passes,
        "views": prediction.views,
        "mean_rate": sum(layer.count for layer in layers) / updates,
        "mac_weighted_rate": sum(layer.synaptic_ops for layer in receiving)
        / sum(layer.dense_macs * layer.timesteps for layer in receiving),
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
