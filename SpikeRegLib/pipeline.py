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
from SpikeRegLib.guidance import RefinementOptions, read_region
from SpikeRegLib.images import Volume
from SpikeRegLib.initial import align_pair
from SpikeRegLib.inputs import Side, Source, check_pair, load_side, on_working_frame, working_frame
from SpikeRegLib.losses import lncc
from SpikeRegLib.predict import Prediction, predict
from SpikeRegLib.progress import Listener, Progress, part_of_stage, silent
from SpikeRegLib.refine import refine
from SpikeRegLib.refinement.contrast import Comparison, compare_by
from SpikeRegLib.refinement.diffeomorphic import as_itk_sees
from SpikeRegLib.refinement.grids import Grid, resample
from SpikeRegLib.registration import Registration
from SpikeRegLib.spiking.unet import RegistrationUNet
from SpikeRegLib.transforms import AffineTransform, DisplacementTransform, Transform, read_transform, warp_image

JUDGED_VOXELS = 2.0
# Scaled intensity below which a voxel of an image without a mask does not count.
BACKGROUND = 0.02
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
    model_path = None if method == "optimize" else models.find(model or settings.model or "brain-t1", method)
    network = None if model_path is None else models.load_for(model_path, method, timesteps)
    fine_path, fine = None, None
    if network is not None and settings.fine_model and model is None:
        fine_path = models.find(settings.fine_model, method)
        fine = models.load_for(fine_path, method, timesteps)
    base_given = None if initial_transform is None else _as_transform(initial_transform)
    chosen, count = choose_device(device), set_threads(threads)
    torch.manual_seed(seed)

    began = time.perf_counter(), time.process_time()
    listener(Progress("prepare", 0.0))
    sides = []
    for role, source, mask, labels, points in (
        ("fixed image", fixed, fixed_mask, fixed_labels, fixed_points),
        ("moving image", moving, moving_mask, moving_labels, moving_points),
    ):
        sides.append(
            load_side(source, mask=mask, labels=labels, points=points, allow_nonfinite=allow_nonfinite, role=role)
        )
        listener(Progress("prepare", len(sides) / 2, f"read the {role}"))
    if region is not None:
        options = replace(options, region=read_region(region, sides[0].image))
    run = Run(sides[0], sides[1], settings, chosen, count, seed, listener, options)
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
        base = _align(run, base_given, align, skip_affine)
        working = _working(run, base)
        # Judged where the eye judges: on voxels of 2 mm at brain scale.
        judged = working.coarser(JUDGED_VOXELS * working.frame.spacing[0])
        if not bool(judged.mask.any()):
            raise InputError(
                f"{run.fixed.image.name or 'fixed image'}: its mask is too small to register by; "
                "give one that covers the anatomy"
            )
        itk_jacobian = itk_reading(run.fixed.image.frame, base)
    with run.stage("predict"):
        prediction, after = None, None
        deformation = Deformation(torch.zeros(3, *judged.frame.shape), judged.grid)
        if network is not None:
            seen = working.coarser(network.spec.input_spacing_mm)
            prediction = predict(
                network, seen.fixed, seen.moving, seen.frame, mask=seen.mask,
                passes=max(1, settings.passes), device=chosen, spike_maps=spike_maps,
                listener=listener if fine is None else part_of_stage(listener, 0.0, 0.5),
            )  # fmt: skip
            deformation = Deformation(prediction.displacement, seen.grid)
            if fine is not None:
                pair = working.coarser(fine.spec.input_spacing_mm)
                prediction, deformation, after = _fine_pass(
                    run, fine, pair, judged, prediction, deformation, spike_maps
                )
            run.warnings += prediction.warnings
    with run.stage("refine"):
        after = deformation.similarity(judged) if after is None else after
        refined = _refine(run, working, base, deformation, itk_jacobian)
        listener(Progress("refine", 1.0, "measuring the similarity"))
        if refined is not None:
            start, after = after, refined.similarity(judged)
            if after < start:
                run.warnings.append("refinement did not improve the similarity; its start was kept")
                after = start
            else:
                deformation = refined
        similarity = {
            "lncc_before": _similarity_by_header(run, judged),
            "lncc_aligned": judged.similarity(),
            "lncc_after": after,
        }
        if similarity["lncc_after"] < similarity["lncc_aligned"]:
            run.warnings.append("the deformation made the similarity worse than the alignment alone; check the result")
    result_of_model: dict[str, Any] = {"name": None, "sha256": None}
    if model_path is not None:
        result_of_model = {"name": model_path.stem, "sha256": models.sha256(model_path)}
    if fine_path is not None:
        result_of_model["fine"] = {"name": fine_path.stem, "sha256": models.sha256(fine_path)}
    return finish.finish(
        run, base, DisplacementTransform(deformation.field, working.frame_of(deformation.grid)),
        itk_jacobian=itk_jacobian, method=method, model=result_of_model,
        prediction=prediction, iterations=deformation.iterations,
        similarity={"measure": working.comparison.measure, **similarity},
    )  # fmt: skip


def _as_transform(given: Transform | str | os.PathLike[str]) -> Transform:
    return given if isinstance(given, Transform) else read_transform(given)


def _align(run: Run, given: Transform | None, go_on: bool, skip: bool) -> Transform:
    """The map fixed -> moving before deformation; `go_on` aligns from a given one."""
    if given is not None and not go_on:
        return given
    if skip:
        return AffineTransform(np.eye(4))
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
    run.warnings += alignment.warnings
    return transform


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


def _refine(
    run: Run, working: Working, base: Transform, start: Deformation, itk_jacobian: torch.Tensor | None
) -> Deformation | None:
    """The refined deformation; None where preset and options leave refinement out."""
    schedule = run.preset.schedule(
        run.options.iterations, spacing_mm=working.frame.spacing[0], regularisation=run.options.regularisation
    )
    if schedule is None:
        return None
    smoothed = gaussian(start.field, run.preset.refine.start_sigma_mm / start.grid.spacing_mm)
    refinement = refine(
        working.comparison.of_fixed(working.fixed), working.comparison.of_moving(working.moving),
        spacing_mm=working.frame.spacing[0], initial=smoothed,
        initial_grid=start.grid, mask=working.mask.float(), schedule=schedule,
        itk_jacobian=itk_jacobian, listener=run.listener,
    )  # fmt: skip
    return Deformation(refinement.field, refinement.grid, refinement.iterations)


def _similarity_by_header(run: Run, working: Working) -> float:
    """Similarity of the pair as it came, aligned by its headers alone."""
    moving = on_working_frame(run.moving, working.frame, None)
    return working.similarity(moving=moving)
