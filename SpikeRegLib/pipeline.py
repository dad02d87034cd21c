"""register(): prepare, align, predict, refine, finish."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from SpikeRegLib import finish, models
from SpikeRegLib.cascade import predict_fine
from SpikeRegLib.configuration import METHODS, Preset, load_preset, preset_for
from SpikeRegLib.devices import choose_device, set_threads
from SpikeRegLib.errors import InputError
from SpikeRegLib.fields import warp
from SpikeRegLib.filters import gaussian
from SpikeRegLib.frames import Frame
from SpikeRegLib.guidance import RefinementOptions, landmarks_on, lengths_scale, read_region, region_on
from SpikeRegLib.images import Volume
from SpikeRegLib.initial import align_pair
from SpikeRegLib.inputs import (
    Side,
    Source,
    bare_side,
    check_pair,
    load_image,
    load_labels,
    on_working_frame,
    with_points,
    working_frame,
)
from SpikeRegLib.losses import lncc
from SpikeRegLib.predict import Prediction, predict
from SpikeRegLib.progress import Listener, Progress, part_of_stage, silent
from SpikeRegLib.refine import refine
from SpikeRegLib.refinement.contrast import Comparison, compare_by
from SpikeRegLib.refinement.diffeomorphic import as_itk_sees
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.refinement.landmarks import Landmarks
from SpikeRegLib.refinement.region import Region
from SpikeRegLib.refinement.schedule import RefinementSchedule
from SpikeRegLib.registration import Registration
from SpikeRegLib.spiking.unet import RegistrationUNet
from SpikeRegLib.transforms import AffineTransform, DisplacementTransform, Transform, read_transform, warp_image
from SpikeRegLib.warm import Memory, file_key

JUDGED_VOXELS = 2.0
# Scaled intensity below which a voxel of an image without a mask does not count.
BACKGROUND = 0.02
# Similarity that landmarks may cost before a warning says so; smaller losses are the ordinary price of a constraint.
NOTABLE_LOSS = 0.01
# ITK's reading of the undeformed Jacobian below which keeping it positive would forbid ordinary deformations.
LEAST_ITK_JACOBIAN = 0.25


@dataclass
class Run:
    """What the stages hand on: inputs, settings, and the figures gathered on the way."""

    fixed: Side
    moving: Side
    preset: Preset
    device: str
    threads: int
    seed: int
    listener: Listener
    options: RefinementOptions = field(default_factory=RefinementOptions)
    memory: Memory = field(default_factory=Memory)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report the start and the end of a stage and keep its wall and CPU seconds."""
        self.listener(Progress(name, 0.0))
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - wall
        self.cpu_seconds[name] = time.process_time() - cpu
        self.listener(Progress(name, 1.0))


@dataclass(frozen=True)
class Working:
    """The pair on a world-aligned isotropic grid, moving aligned; images in [0, 1], mask bool, all [D, H, W].

    `comparison` says what of the two images is compared.
    """

    frame: Frame
    fixed: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor
    comparison: Comparison

    @property
    def grid(self) -> Grid:
        return Grid(self.frame.shape, self.frame.spacing[0])

    def frame_of(self, grid: Grid) -> Frame:
        """Where a grid that starts at the first voxel of this one lies in the patient."""
        return replace(self.frame, shape=grid.shape, spacing=(grid.spacing_mm,) * 3)

    def coarser(self, spacing_mm: float) -> Working:
        """The same pair at a larger voxel size, smoothed as far as the larger voxels need."""
        if spacing_mm <= self.frame.spacing[0]:
            return self
        grid = self.grid.coarser(spacing_mm)
        fixed, moving, mask = (
            resample(image, self.grid, grid, sigma_mm=0.35 * spacing_mm)
            for image in (self.fixed, self.moving, self.mask.float())
        )
        return Working(self.frame_of(grid), fixed, moving, mask > 0.5, self.comparison)

    def similarity(self, displacement: torch.Tensor | None = None, *, moving: torch.Tensor | None = None) -> float:
        """Mean local correlation inside the mask, of what is compared.

        Args:
            displacement: [3, D, H, W] mm on this grid, for the moving image.
            moving: [D, H, W] another moving image on this grid.
        """
        fixed = self.comparison.of_fixed(self.fixed)
        seen = self.comparison.of_moving(self.moving if moving is None else moving)
        if displacement is not None:
            seen = warp(seen[None], displacement[None] / self.frame.spacing[0])[0]
        return fmean(float(lncc(f, m, mask=self.mask)) for f, m in zip(fixed, seen, strict=True))


@dataclass(frozen=True)
class Deformation:
    """A displacement field [3, D, H, W] in mm on a grid that starts at the first voxel of the working frame."""

    field: torch.Tensor
    grid: Grid
    iterations: tuple[int, ...] = ()

    def similarity(self, pair: Working) -> float:
        """Of the pair, with the moving image seen through this deformation."""
        return pair.similarity(resample(self.field, self.grid, pair.grid))


def register(
    fixed: Source,
    moving: Source,
    *,
    method: str | None = None,
    preset: str | Path | None = None,
    model: str | Path | None = None,
    initial_transform: Transform | str | os.PathLike[str] | None = None,
    align: bool = False,
    skip_affine: bool = False,
    fixed_mask: Source | None = None,
    moving_mask: Source | None = None,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_points: torch.Tensor | str | os.PathLike[str] | None = None,
    moving_points: torch.Tensor | str | os.PathLike[str] | None = None,
    landmark_weight: float = 0.0,
    region: Source | None = None,
    regularisation: float = 1.0,
    refine_iterations: int | None = None,
    timesteps: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    spike_maps: bool = False,
    allow_nonfinite: bool = False,
    listener: Listener = silent,
    memory: Memory | None = None,
) -> Registration:
    """Find the map from points of `fixed` to points of `moving` and resample `moving` with it.

    Args:
        fixed, moving: volumes or files; any spacing, orientation and size from 16 voxels per axis.
        method: "spikereg" (spiking network), "ann" (its dense twin) or "optimize" (no network); default the preset's.
        preset: name or TOML file; "brain-t1" if not given, "any-anatomy" where the method is "optimize".
        model: weights by name or file; the preset's if not given.
        initial_transform: fixed -> moving, used instead of the alignment.
        align: go on from the initial transform with the alignment, instead of taking it as it is.
        skip_affine: the images are aligned already.
        fixed_mask, moving_mask: label maps; where > 0 counts.
        fixed_labels, moving_labels: segmentations, for the overlap figures and warped with the result.
        fixed_points, moving_points: landmarks, LPS mm, for the error figures, and to pull if `landmark_weight` says so.
        landmark_weight: what 1 mm of mean landmark error counts in units of similarity; the refinement then pulls the
            image of every fixed point towards its moving point. 0 only measures.
        region: mask on the grid of `fixed`; refinement changes the deformation only where it is > 0.
        regularisation: factor on the smoothing lengths of the preset's refinement, 0.25 (looser) to 4 (stiffer).
        refine_iterations: per level of the preset's refinement; 0 leaves it out.
        timesteps: another T for the spiking network.
        device: "auto", "cpu", "cuda" or "mps", for the network.
        threads: of the CPU; all if not given.
        seed: of every random choice.
        spike_maps: keep a spike-rate volume of every layer.
        allow_nonfinite: take NaN and infinite voxels as background.
        listener: hears the progress; raises Cancelled to stop the run.
        memory: what an earlier run read and found; used where nothing it depends on has changed, then kept up to date.

    Raises:
        InputError: something given cannot be used.
        Cancelled: the listener asked to stop.
    """
    settings = load_preset(preset or preset_for(method))
    method = method or settings.method
    if method not in METHODS:
        raise InputError(f"--method {method}: unknown; choose one of {', '.join(METHODS)}")
    for option, value, low in (
        ("timesteps", timesteps, 1),
        ("threads", threads, 1),
        ("refine-iterations", refine_iterations, 0),
        ("seed", seed, 0),
    ):
        if value is not None and value < low:
            raise InputError(f"--{option}: must be at least {low}, got {value}")
    options = RefinementOptions(landmark_weight, regularisation, refine_iterations)
    options.check(points_given=fixed_points is not None and moving_points is not None)
    if align and (initial_transform is None or skip_affine):
        raise InputError("--align: goes on from a given transform; add --initial-transform, without --skip-affine")
    memory = memory or Memory()
    memory.begin()
    model_path = None if method == "optimize" else models.find(model or settings.model or "brain-t1", method)
    fine_path = None
    if model_path is not None and settings.fine_model and model is None:
        fine_path = models.find(settings.fine_model, method)
    network = _recall_network(memory, "network", model_path, method, timesteps)
    fine = _recall_network(memory, "fine network", fine_path, method, timesteps)
    base_given = memory.recall(
        "initial transform", lambda: _as_transform(initial_transform), key=file_key(initial_transform)
    )
    chosen, count = choose_device(device), set_threads(threads)
    torch.manual_seed(seed)

    began = time.perf_counter(), time.process_time()
    listener(Progress("prepare", 0.0))
    sides = []
    for name, source, mask, labels, points in (
        ("fixed", fixed, fixed_mask, fixed_labels, fixed_points),
        ("moving", moving, moving_mask, moving_labels, moving_points),
    ):
        side = _recall_side(memory, name, source, mask, labels, allow_nonfinite=allow_nonfinite, threads=count)
        sides.append(with_points(side, points, role=f"{name} image"))
        listener(Progress("prepare", len(sides) / 2, f"read the {name} image"))
    if region is not None:
        options = replace(options, region=read_region(region, sides[0].image))
    run = Run(sides[0], sides[1], settings, chosen, count, seed, listener, options, memory)
    check_pair(run.fixed, run.moving)
    for side in sides:
        if side.image.nonfinite:
            run.warnings.append(
                f"{side.image.name or 'image'}: {side.image.nonfinite} NaN or infinite voxels were taken as background"
            )
    run.seconds["prepare"], run.cpu_seconds["prepare"] = (
        time.perf_counter() - began[0],
        time.process_time() - began[1],
    )
    with run.stage("align"):
        alignment = memory.recall(
            "alignment",
            lambda: _align(run, base_given, align, skip_affine),
            key=(align, skip_affine, seed),
            after=("fixed mask", "moving mask", "initial transform"),
        )
        run.warnings += alignment.warnings
        pair = memory.recall(
            "working pair",
            lambda: _pair(run, alignment.transform),
            key=(settings.working_spacing_mm, settings.working_voxels, settings.similarity),
            after=("alignment",),
        )
    with run.stage("predict"):
        predicted = memory.recall(
            "prediction",
            lambda: _predict(run, pair, network, fine, spike_maps),
            key=(settings.passes, chosen, spike_maps),
            after=("network", "fine network", "working pair"),
        )
        run.warnings += predicted.warnings
    with run.stage("refine"):
        area = memory.recall("region", lambda: _region(run, pair), key=file_key(region), after=("working pair",))
        refined = memory.recall(
            "refinement",
            lambda: _refine(run, pair, predicted, area),
            key=_refinement_key(run, pair),
            after=("prediction", "region"),
        )
        pulled = memory.recall(
            "landmarks",
            lambda: _pull(run, pair, alignment.transform, refined, area),
            key=_landmarks_key(run),
            after=("refinement",),
        )
        refined = pulled or refined
        run.warnings += refined.warnings
    facts: dict[str, Any] = {"name": None, "sha256": None} if network is None else dict(network.facts)
    if fine is not None:
        facts["fine"] = fine.facts
    return finish.finish(
        run, alignment.transform,
        DisplacementTransform(refined.deformation.field, pair.working.frame_of(refined.deformation.grid)),
        itk_jacobian=pair.itk_jacobian, method=method, model=facts, prediction=predicted.prediction,
        iterations=refined.deformation.iterations,
        similarity={"measure": pair.working.comparison.measure, **refined.similarity},
    )  # fmt: skip


def _as_transform(given: Transform | str | os.PathLike[str] | None) -> Transform | None:
    return given if given is None or isinstance(given, Transform) else read_transform(given)


@dataclass(frozen=True)
class _Network:
    """A network, and the name and digest of its file."""

    network: RegistrationUNet
    facts: dict[str, Any]


def _recall_network(
    memory: Memory, part: str, path: Path | None, method: str, timesteps: int | None
) -> _Network | None:
    def load() -> _Network | None:
        if path is None:
            return None
        facts = {"name": path.stem, "sha256": models.sha256(path)}
        return _Network(models.load_for(path, method, timesteps), facts)

    return memory.recall(part, load, key=(file_key(path), method, timesteps))


def _recall_side(
    memory: Memory, name: str, source: Source, mask: Source | None, labels: Source | None, *, allow_nonfinite: bool,
    threads: int,
) -> Side:  # fmt: skip
    """One side without its points. Everything that is computed depends on the mask, so the threads are its key."""
    image_part, role = f"{name} image", f"{name} image"
    image = memory.recall(
        image_part,
        lambda: load_image(source, allow_nonfinite=allow_nonfinite, role=role),
        key=(file_key(source), allow_nonfinite),
    )
    side = memory.recall(
        f"{name} mask", lambda: bare_side(image, mask, role=role), key=(file_key(mask), threads), after=(image_part,)
    )
    segmentation = memory.recall(
        f"{name} segmentation", lambda: load_labels(labels, image), key=file_key(labels), after=(image_part,)
    )
    return replace(side, labels=segmentation)


@dataclass(frozen=True)
class _Aligned:
    """The map fixed -> moving before deformation."""

    transform: Transform
    warnings: tuple[str, ...] = ()


def _align(run: Run, given: Transform | None, go_on: bool, skip: bool) -> _Aligned:
    """Of a pair that is not aligned yet, or goes on from a given map."""
    if given is not None and not go_on:
        return _Aligned(given)
    if skip:
        return _Aligned(AffineTransform(np.eye(4)))
    masks = [
        Volume(side.mask.to(torch.int16), side.image.frame, side.image.name) if side.mask_given else None
        for side in (run.fixed, run.moving)
    ]
    transform, alignment = align_pair(
        run.fixed.image,
        run.moving.image,
        given=given,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        seed=run.seed,
        listener=run.listener,
    )
    return _Aligned(transform, tuple(alignment.warnings))


@dataclass(frozen=True)
class _Pair:
    """The pair to be deformed.

    Attributes:
        working: on the working frame.
        judged: where the eye judges: on voxels of 2 mm at brain scale.
        itk_jacobian: see `itk_reading`.
    """

    working: Working
    judged: Working
    itk_jacobian: torch.Tensor | None


def _pair(run: Run, base: Transform) -> _Pair:
    working = _working(run, base)
    judged = working.coarser(JUDGED_VOXELS * working.frame.spacing[0])
    if not bool(judged.mask.any()):
        raise InputError(
            f"{run.fixed.image.name or 'fixed image'}: its mask is too small to register by; "
            "give one that covers the anatomy"
        )
    return _Pair(working, judged, itk_reading(run.fixed.image.frame, base))


def _working(run: Run, base: Transform) -> Working:
    frame = working_frame(run.fixed, run.preset.working_spacing_mm, run.preset.working_voxels)
    run.listener(Progress("align", 1.0, "resampling the pair"))
    fixed = on_working_frame(run.fixed, frame, None)
    run.listener(Progress("align", 1.0, "resampling the pair"))
    moving = on_working_frame(run.moving, frame, base)
    run.listener(Progress("align", 1.0, "resampling the pair"))
    if run.fixed.mask_given:
        covered = Volume(run.fixed.mask.float(), run.fixed.image.frame)
        mask = warp_image(covered, AffineTransform(np.eye(4)), frame).data > 0.5
    else:
        mask = fixed > BACKGROUND
    if not bool((moving > 0).any()):
        raise InputError(
            f"{run.moving.image.name or 'moving image'}: does not overlap the fixed image after alignment; "
            "check the initial transform or leave out --skip-affine"
        )
    return Working(frame, fixed, moving, mask, compare_by(run.preset.similarity, fixed, moving, mask))


@dataclass(frozen=True)
class _Predicted:
    """What the networks found, None without one; the deformation, and the similarity it reaches."""

    prediction: Prediction | None
    deformation: Deformation
    similarity: float

    @property
    def warnings(self) -> list[str]:
        return [] if self.prediction is None else self.prediction.warnings


def _predict(run: Run, pair: _Pair, network: _Network | None, fine: _Network | None, spike_maps: bool) -> _Predicted:
    judged = pair.judged
    if network is None:
        deformation = Deformation(torch.zeros(3, *judged.frame.shape), judged.grid)
        return _Predicted(None, deformation, deformation.similarity(judged))
    seen = pair.working.coarser(network.network.spec.input_spacing_mm)
    prediction = predict(
        network.network, seen.fixed, seen.moving, seen.frame, mask=seen.mask,
        passes=max(1, run.preset.passes), device=run.device, spike_maps=spike_maps,
        listener=run.listener if fine is None else part_of_stage(run.listener, 0.0, 0.5),
    )  # fmt: skip
    deformation = Deformation(prediction.displacement, seen.grid)
    if fine is None:
        return _Predicted(prediction, deformation, deformation.similarity(judged))
    finer = pair.working.coarser(fine.network.spec.input_spacing_mm)
    return _Predicted(*_fine_pass(run, fine.network, finer, judged, prediction, deformation, spike_maps))


def _fine_pass(
    run: Run, network: RegistrationUNet, pair: Working, judged: Working, coarse: Prediction, start: Deformation,
    spike_maps: bool,
) -> tuple[Prediction, Deformation, float]:  # fmt: skip
    """The second network's pass, kept if it improves the similarity, and what that is; its cost counts either way."""
    prediction, grid = predict_fine(
        network, pair.fixed, pair.moving, pair.frame, coarse=coarse, coarse_grid=start.grid,
        device=run.device, spike_maps=spike_maps, listener=part_of_stage(run.listener, 0.5, 1.0),
    )  # fmt: skip
    found = Deformation(prediction.displacement, grid)
    before, after = start.similarity(judged), found.similarity(judged)
    if after > before:
        return prediction, found, after
    warning = "the fine pass did not improve the similarity; its prediction was dropped"
    kept = replace(prediction, displacement=coarse.displacement, warnings=[*prediction.warnings, warning])
    return kept, start, before


def itk_reading(fixed: Frame, base: Transform) -> torch.Tensor | None:
    """What ITK's Jacobian filter makes of an axis-flipped or oblique fixed grid, so that it reports no folds either.

    None where that reading says nothing: it calls the alignment alone a fold, or nearly one (a grid turned by 60
    degrees, and the moving head by as much).
    """
    if not isinstance(base, AffineTransform):
        return None
    direction, affine = np.reshape(fixed.direction, (3, 3)), base.matrix[:3, :3]
    reading = as_itk_sees(direction, affine)
    undeformed = float(np.linalg.det(reading.numpy()))
    sound = abs(undeformed) > LEAST_ITK_JACOBIAN and undeformed * np.linalg.det(affine) * np.linalg.det(direction) > 0
    return reading if sound else None


@dataclass(frozen=True)
class _Refined:
    """The deformation to be finished, and the similarities on the way to it."""

    deformation: Deformation
    similarity: dict[str, float]
    warnings: tuple[str, ...]


def _region(run: Run, pair: _Pair) -> Region | None:
    """Where the deformation may change; None for everywhere."""
    region, scale = run.options.region, lengths_scale(run.preset, pair.working.frame)
    return None if region is None else region_on(pair.working.frame, region, scale=scale)


def _refinement_key(run: Run, pair: _Pair) -> Any:
    """What a refinement depends on besides the prediction and the region."""
    return _schedule(run, pair.working), run.preset.refine.start_sigma_mm, run.options.regularisation


def _landmarks_key(run: Run) -> Any:
    """What the pull of landmarks depends on besides the refinement; nothing where they are only measured."""
    if not run.options.landmark_weight:
        return None
    points = [side.points.tolist() for side in (run.fixed, run.moving) if side.points is not None]
    return run.options.landmark_weight, points


def _refine(run: Run, pair: _Pair, predicted: _Predicted, region: Region | None) -> _Refined:
    """The deformation refined by the images alone, unless preset or options leave that out."""
    judged, deformation, after, warnings = pair.judged, predicted.deformation, predicted.similarity, []
    schedule = _schedule(run, pair.working)
    if schedule is not None:
        field = gaussian(deformation.field, run.preset.refine.start_sigma_mm / deformation.grid.spacing_mm)
        if region is not None:
            weight = region.weight_on(deformation.grid)
            field = deformation.field + weight * (field - deformation.field)
        refined = _optimised(run, pair, Deformation(field, deformation.grid), schedule, region=region)
        if region is not None and not bool(region.weight_on(refined.grid).any()):
            warnings.append(
                f"the region is too thin to refine in; make it {region.thinnest_mm(refined.grid):.0f} mm across"
            )
        reached = refined.similarity(judged)
        if reached < after:
            warnings.append("refinement did not improve the similarity; its start was kept")
        else:
            deformation, after = refined, reached
    elif run.options.guided and not run.options.landmark_weight:
        warnings.append(f"preset {run.preset.name}: without refinement, region and regularisation change nothing")
    run.listener(Progress("refine", 1.0, "measuring the similarity"))
    similarity = {
        "lncc_before": _similarity_by_header(run, judged),
        "lncc_aligned": judged.similarity(),
        "lncc_after": after,
    }
    if similarity["lncc_after"] < similarity["lncc_aligned"]:
        warnings.append("the deformation made the similarity worse than the alignment alone; check the result")
    return _Refined(deformation, similarity, tuple(warnings))


def _pull(run: Run, pair: _Pair, base: Transform, refined: _Refined, region: Region | None) -> _Refined | None:
    """The deformation with landmarks brought together; None where they are only measured."""
    points = run.fixed.points, run.moving.points
    if not run.options.landmark_weight or points[0] is None or points[1] is None:
        return None
    frame, start = pair.working.frame, refined.deformation
    reach = lengths_scale(run.preset, frame) * run.preset.regularisation * run.options.regularisation
    landmarks, found = landmarks_on(
        frame, points[0], points[1], base, weight=run.options.landmark_weight, region=region, reach=reach
    )
    warnings = [*refined.warnings, *found]
    if landmarks is None:
        return replace(refined, warnings=tuple(warnings))
    schedule = _schedule(run, pair.working) or RefinementSchedule((), window=run.preset.refine.window)
    pulled = _optimised(run, pair, start, schedule, region=region, landmarks=landmarks)
    run.listener(Progress("refine", 1.0, "measuring the similarity"))
    before, after = refined.similarity["lncc_after"], pulled.similarity(pair.judged)
    gain = landmarks.penalty(start.field, start.grid) - landmarks.penalty(pulled.field, pulled.grid)
    if gain <= before - after:
        warnings.append(
            "the landmarks were not worth what they cost in similarity and did not pull; raise their weight"
        )
        return replace(refined, warnings=tuple(warnings))
    if after < before - NOTABLE_LOSS:
        warnings.append(f"the landmarks lowered the similarity of the images from {before:.3f} to {after:.3f}")
    similarity = {**refined.similarity, "lncc_after": after, "lncc_without_landmarks": before}
    return _Refined(replace(pulled, iterations=start.iterations or pulled.iterations), similarity, tuple(warnings))


def _schedule(run: Run, working: Working) -> RefinementSchedule | None:
    return run.preset.schedule(
        run.options.iterations, spacing_mm=working.frame.spacing[0], regularisation=run.options.regularisation
    )


def _optimised(
    run: Run, pair: _Pair, start: Deformation, schedule: RefinementSchedule, *, region: Region | None = None,
    landmarks: Landmarks | None = None,
) -> Deformation:  # fmt: skip
    """`start` after an instance optimisation."""
    working = pair.working
    refinement = refine(
        working.comparison.of_fixed(working.fixed), working.comparison.of_moving(working.moving),
        spacing_mm=working.frame.spacing[0], initial=start.field,
        initial_grid=start.grid, mask=working.mask.float(), schedule=schedule,
        itk_jacobian=pair.itk_jacobian, landmarks=landmarks, region=region, listener=run.listener,
    )  # fmt: skip
    return Deformation(refinement.field, refinement.grid, refinement.iterations)


def _similarity_by_header(run: Run, working: Working) -> float:
    """Similarity of the pair as it came, aligned by its headers alone."""
    moving = on_working_frame(run.moving, working.frame, None)
    return working.similarity(moving=moving)
