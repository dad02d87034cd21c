"""register(): prepare, align, predict, refine, finish."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from SpikeRegLib import models
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import background_value
from SpikeRegLib.networks.passes import check_tile
from SpikeRegLib.outputs.registration import Registration
from SpikeRegLib.pipeline import assemble as finish
from SpikeRegLib.pipeline.align import align_sides, make_pair
from SpikeRegLib.pipeline.field import (
    PredictedField,
    field_facts,
    field_settings,
    fit_field,
    inside_region,
    predict_field,
)
from SpikeRegLib.pipeline.inputs import Side, Source, check_pair, with_points
from SpikeRegLib.pipeline.predict import predict_pair
from SpikeRegLib.pipeline.prepare import as_transform, recall_field_model, recall_network, recall_side
from SpikeRegLib.pipeline.recall import Memory, file_key
from SpikeRegLib.pipeline.refine import (
    landmarks_key,
    pull_landmarks,
    refine_pair,
    refinement_key,
    region_of,
    unused_options,
)
from SpikeRegLib.pipeline.run import Run
from SpikeRegLib.presets.preset import FIELD_METHODS, METHODS, Preset, load_preset, preset_for
from SpikeRegLib.progress import Listener, Progress, silent, tell_reading
from SpikeRegLib.refinement.guidance import RefinementOptions, read_region
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform
from SpikeRegLib.system.devices import choose_device, leaving_state, seed_cpu, set_threads
from SpikeRegLib.text.ranges import check_option


@leaving_state
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
    fixed_leave_out: Source | None = None,
    moving_leave_out: Source | None = None,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_points: torch.Tensor | str | os.PathLike[str] | None = None,
    moving_points: torch.Tensor | str | os.PathLike[str] | None = None,
    landmark_weight: float = 0.0,
    region: Source | None = None,
    regularisation: float = 1.0,
    refine_iterations: int | None = None,
    field_iterations: int | None = None,
    field_seconds: float | None = None,
    field_decoder: bool = False,
    timesteps: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    tile: int | None = None,
    spike_maps: bool = False,
    allow_nonfinite: bool = False,
    allow_few_values: bool = False,
    background: float | None = None,
    listener: Listener = silent,
    memory: Memory | None = None,
) -> Registration:
    """Find the map from points of `fixed` to points of `moving` and resample `moving` with it.

    Args:
        fixed, moving: volumes or files; any spacing, orientation and size from 16 voxels per axis.
        method: "spikereg" (spiking network), "ann" (its dense twin), "optimize" (no network), "nephi" (neural
            deformation field) or "spiking-nephi" (the same with a spiking encoder); default the preset's.
        preset: name or TOML file; if not given, "brain-t1", or what suits the method.
        model: weights by name or file; the preset's if not given.
        initial_transform: fixed -> moving, used instead of the alignment.
        align: go on from the initial transform with the alignment, instead of taking it as it is.
        skip_affine: the images are aligned already.
        fixed_mask, moving_mask: label maps; where > 0 counts, in every stage.
        fixed_leave_out, moving_leave_out: label maps; where > 0 (a lesion, say) counts in no stage, and the deformation
            goes on smoothly from around it.
        fixed_labels, moving_labels: segmentations, for the overlap figures and warped with the result.
        fixed_points, moving_points: landmarks, LPS mm, for the error figures, and to pull if `landmark_weight` says so.
        landmark_weight: what 1 mm of mean landmark error counts in units of similarity; the refinement then pulls the
            image of every fixed point towards its moving point. 0 only measures.
        region: mask on the grid of `fixed`; refinement changes the deformation only where it is > 0.
        regularisation: factor on the smoothing lengths of the preset's refinement, 0.25 (looser) to 4 (stiffer).
        refine_iterations: per level of the preset's refinement; 0 leaves it out.
        field_iterations: of the optimisation of a neural field's codes, per stage; 0 leaves it out.
        field_seconds: the most it may take; 0 for no limit.
        field_decoder: optimise the decoders' weights, too.
        timesteps: another T for the spiking network.
        device: "auto", "cpu", "cuda" or "mps", for the network.
        threads: of the CPU; all if not given. Afterwards torch and SimpleITK have as many as before.
        seed: of every random choice.
        tile: run the networks on overlapping tiles of so many of their voxels along each axis; whole if not given.
        spike_maps: keep a spike-rate volume of every layer.
        allow_nonfinite: take NaN and infinite voxels as background.
        allow_few_values: take files of few grey values with sharp edges for images, instead of for label maps.
        background: of the warped image where the moving one does not reach; see `images.background_value` if not given.
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
    for option, value in (
        ("timesteps", timesteps),
        ("threads", threads),
        ("refine_iterations", refine_iterations),
        ("field_iterations", field_iterations),
        ("field_seconds", field_seconds),
        ("seed", seed),
        ("tile", tile),
        ("background", background),
    ):
        check_option(option, value)
    options = RefinementOptions(landmark_weight, regularisation, refine_iterations)
    options.check(points_given=fixed_points is not None and moving_points is not None)
    field = field_settings(method, settings, iterations=field_iterations, seconds=field_seconds, decoder=field_decoder)
    if align and (initial_transform is None or skip_affine):
        raise InputError("--align: goes on from a given transform; add --initial-transform, without --skip-affine")
    memory = memory or Memory()
    memory.begin()
    of_field = method in FIELD_METHODS
    model_name = "" if method == "optimize" else model or _model_name(settings, method)
    model_path = models.find(model_name, method) if model_name else None
    fine_path = None
    if model_path is not None and settings.fine_model and model is None and not of_field:
        fine_path = models.find(settings.fine_model, method)
    network = None if of_field else recall_network(memory, "network", model_path, method, timesteps)
    field_model = recall_field_model(memory, model_path, method, timesteps) if of_field else None
    if field is not None and field_model is None and not field.iterations:
        raise InputError("--field-iterations: without a model there is only the optimisation; give 1 or more")
    if field is not None and tile is not None:
        raise InputError("--tile: the encoder of a neural field reads the whole image; leave it out")
    fine = recall_network(memory, "fine network", fine_path, method, timesteps)
    check_tile(tile, *(part.network for part in (network, fine) if part is not None))
    base_given = memory.recall(
        "initial transform", lambda: as_transform(initial_transform, listener), key=file_key(initial_transform)
    )
    chosen, count = choose_device(device), set_threads(threads)
    seed_cpu(seed)

    began = time.perf_counter(), time.process_time()
    listener(Progress("prepare", 0.0))
    sides: list[Side] = []
    for name, source, mask, leave_out, labels, points in (
        ("fixed", fixed, fixed_mask, fixed_leave_out, fixed_labels, fixed_points),
        ("moving", moving, moving_mask, moving_leave_out, moving_labels, moving_points),
    ):
        side = recall_side(
            memory, name, source, mask, leave_out, labels, allow_nonfinite=allow_nonfinite,
            allow_few_values=allow_few_values, threads=count, listener=listener,
        )  # fmt: skip
        tell_reading(listener, points, fraction=len(sides) / 2)
        sides.append(with_points(side, points, role=f"{name} image"))
        listener(Progress("prepare", len(sides) / 2, f"read the {name} image"))
    if region is not None:
        tell_reading(listener, region, fraction=1.0)
        options = replace(options, region=read_region(region, sides[0].image))
    outside = background_value(sides[1].image) if background is None else background
    run = Run(sides[0], sides[1], settings, chosen, count, seed, listener, options, memory, field, outside)
    check_pair(run.fixed, run.moving)
    for side in sides:
        run.warnings += [*side.image.warnings, *(side.labels.warnings if side.labels else ())]
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
            lambda: align_sides(run, base_given, align, skip_affine),
            key=(align, skip_affine, seed),
            after=("fixed mask", "moving mask", "initial transform"),
        )
        run.warnings += alignment.warnings
        pair = memory.recall(
            "working pair",
            lambda: make_pair(run, alignment.transform),
            key=(settings.working_spacing_mm, settings.working_voxels, settings.similarity),
            after=("alignment",),
        )
    with run.stage("predict"):
        predicted = memory.recall(
            "prediction",
            lambda: (
                predict_field(run, pair, field_model, spike_maps)
                if of_field
                else predict_pair(run, pair, network, fine, spike_maps, tile)
            ),
            key=(settings.passes, chosen, spike_maps, tile, field and field.grid_mm),
            after=("network", "fine network", "working pair"),
        )
        run.warnings += predicted.warnings
    with run.stage("refine"):
        area = memory.recall("region", lambda: region_of(run, pair), key=file_key(region), after=("working pair",))
        fitted = memory.recall(
            "field",
            lambda: (
                fit_field(run, pair, predicted, field_model, alignment.transform)
                if isinstance(predicted, PredictedField)
                else None
            ),
            key=field and (field, seed, settings.regularisation * regularisation),
            after=("prediction",),
        )
        refined = memory.recall(
            "refinement",
            lambda: refine_pair(
                run, pair, predicted if fitted is None else inside_region(predicted, fitted, area, pair), area
            ),
            key=refinement_key(run, pair),
            after=("prediction", "region", "field"),
        )
        pulled = memory.recall(
            "landmarks",
            lambda: pull_landmarks(run, pair, alignment.transform, refined, area),
            key=landmarks_key(run),
            after=("refinement", "region"),
        )
        refined = pulled or refined
        whole = fitted is not None and refined.deformation.field is fitted.deformation.field
        if fitted is not None:
            run.warnings += fitted.warnings
        run.warnings += [*refined.warnings, *unused_options(run, pair)]
    loaded = network or field_model
    facts: dict[str, Any] = {"name": None, "sha256": None} if loaded is None else dict(loaded.facts)
    if fine is not None:
        facts["fine"] = fine.facts
    if fitted is not None and not whole:
        run.warnings.append("codes.safetensors is left out: refinement after the field changed the deformation")
    elif fitted is not None and not isinstance(alignment.transform, AffineTransform):
        whole = False
        run.warnings.append("codes.safetensors is left out: the initial transform bends, and codes cannot hold that")
    registration = finish.finish(
        run, alignment.transform,
        DisplacementTransform(refined.deformation.field, pair.working.frame_of(refined.deformation.grid)),
        itk_jacobian=pair.itk_jacobian, method=method, model=facts, prediction=predicted.prediction,
        iterations=refined.deformation.iterations,
        similarity={
            "measure": pair.working.comparison.measure, **refined.similarity, "above_chance": pair.above_chance,
        },
    )  # fmt: skip
    if fitted is not None:
        facts_of_field = field_facts(fitted, whole=whole)
        registration.result["field"] = facts_of_field
        if registration.result["energy"] is not None:  # beside the encoder's figures, which the reductions are made of
            registration.result["energy"]["decoder_macs"] = facts_of_field["decoder_macs"]
        registration.coded = fitted.coded if whole else None
    return registration


def _model_name(settings: Preset, method: str) -> str | Path:
    """The preset's model, or the one that suits the method where the preset is one of another method."""
    both_unets = bool(settings.model) and not {method, settings.method} & set(FIELD_METHODS)
    if method == settings.method or both_unets:
        return settings.model
    return load_preset(preset_for(method)).model
