"""register(): check, read, run the plan, finish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from SpikeRegLib import models
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.given import Source
from SpikeRegLib.options.options import OPTIONS, Options, with_options
from SpikeRegLib.pipeline.anatomy import check_uses, uses_of
from SpikeRegLib.pipeline.assemble import peak_memory_mb
from SpikeRegLib.pipeline.field import field_settings
from SpikeRegLib.pipeline.linear import check_linear_options, is_linear, linear_settings
from SpikeRegLib.pipeline.plan import PLANS, Plan
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.pipeline.stage import Work
from SpikeRegLib.presets.preset import FIELD_METHODS, Preset, load_preset, preset_for
from SpikeRegLib.progress import Clock, Listener, silent
from SpikeRegLib.system.devices import choose_device, leaving_state, seed_cpu, set_threads

# Options that concern the network that finds a deformation.
_OF_NETWORK = ("model", "timesteps", "tile")


@with_options
@leaving_state
def register(
    fixed: Source, moving: Source, *, listener: Listener = silent, memory: Memory | None = None, **options: Any
) -> Registration:
    """Find the map from points of `fixed` to points of `moving` and resample `moving` with it.

    Args:
        fixed, moving: volumes or files; any spacing, orientation and size from 16 voxels per axis.
        {options}
        listener: hears the progress; raises Cancelled to stop the run.
        memory: what an earlier run read and found; used where nothing it depends on has changed, then kept up to date.

    Threads and random state of torch and SimpleITK are afterwards what they were.

    Raises:
        InputError: something given cannot be used.
        Cancelled: the listener asked to stop.
    """
    values = choices(Options.of(**options))
    memory = memory or Memory()
    asked_device, device = values["device"], choose_device(values["device"])
    if values["network_file"] is None:
        device = "cpu"  # where all but the networks that register is computed
    values |= {"fixed": fixed, "moving": moving, "device": device}
    values["threads"] = set_threads(values["threads"])
    seed_cpu(values["seed"])
    clock = Clock(listener)
    registration: Registration = run_plan(PLANS[values["method"]], values, clock, memory)["registration"]
    if asked_device not in ("auto", device):
        warning = f"--device {asked_device}: no registration network runs here, and all else is computed on the CPU"
        registration.result["warnings"].append(warning)
    registration.result |= {"reused": list(memory.reused), **clock.times(), "peak_memory_mb": peak_memory_mb()}
    return registration


def choices(options: Options) -> dict[str, Any]:
    """What the stages read: options, the fields of the preset, the files of networks, and what a field is to do.

    Everything that a result depends on besides the images is in here or in the files that it names.

    Raises:
        InputError: options that do not go with the method, or with each other.
    """
    of_network = {name: options[name] for name in _OF_NETWORK}
    preset = load_preset(options["preset"] or preset_for(options["method"], **of_network))
    check_linear_options(options)
    linear = is_linear(options["transform_type"])
    method: str = "optimize" if linear else options["method"] or preset.method
    field = field_settings(
        method, preset, iterations=options["field_iterations"], seconds=options["field_seconds"],
        decoder=options["field_decoder"],
    )  # fmt: skip
    network, fine = _network_files(preset, method, options["model"])
    if field is not None and network is None and not field.iterations:
        raise InputError("--field-iterations: without a model there is only the optimisation; give 1 or more")
    if field is not None and options["tile"] is not None:
        raise InputError("--tile: the encoder of a neural field reads the whole image; leave it out")
    for name in _OF_NETWORK:
        if network is None and options[name] is not None:
            where, other = f"preset {preset.name}", "--preset brain-t1"
            if linear:
                where, other = f"--transform-type {options['transform_type']}", "deformable"
            elif options["method"] is not None:
                where, other = f"method {method}", "another method"
            raise InputError(f"--{name}: no registration network runs with {where}; leave it out, or choose {other}")
    values = {name: options[name] for name in OPTIONS}
    values |= linear_settings(options["transform_type"])
    values |= {f"preset.{name}": value for name, value in vars(preset).items()}
    uses = uses_of(options["structures"], preset.name, bool(preset.structures))
    check_uses(options)
    structures = models.find(preset.structures, "spikereg") if uses else None
    return values | {
        "method": method, "field": field, "network_file": network, "fine_network_file": fine,
        "structures_for": uses, "structures_file": structures,
    }  # fmt: skip


def _network_files(preset: Preset, method: str, model: str | Path | None) -> tuple[Path | None, Path | None]:
    """The weights of a run, and those of its fine pass."""
    if method == "optimize":
        return None, None
    both_unets = bool(preset.model) and not {method, preset.method} & set(FIELD_METHODS)
    own = preset.model if method == preset.method or both_unets else load_preset(preset_for(method)).model
    name = model or own
    if not name:
        return None, None
    fine = preset.fine_model if model is None and method not in FIELD_METHODS else ""
    return models.find(name, method), models.find(fine, method) if fine else None


def run_plan(plan: Plan, values: Mapping[str, Any], clock: Clock, memory: Memory) -> dict[str, Any]:
    """Run the stages of a plan one after another; those of which nothing has changed are taken from memory.

    Args:
        plan: the stages in their order.
        values: what they read, by name.
        clock: of the steps.
        memory: of an earlier run; brought up to date.

    Returns:
        Every stage's value by its name.
    """
    kept = {stage.name for stage in plan if stage.kept}
    memory.begin(kept)
    found: dict[str, Any] = {}
    for step, stages in groupby(plan, key=lambda stage: stage.step):
        clock.begin(step)
        for stage in stages:
            work = Work(found, clock.listener, stage.name, stage.follows)
            settings = stage.choose(values, work)
            if not stage.kept:
                found[stage.name] = stage.make(work, settings)
                continue
            work = replace(work, follows=tuple(name for name in stage.follows if name in kept))
            found[stage.name] = memory.recall(
                stage.name, partial(stage.make, work, settings), key=settings, after=work.follows, side=stage.side
            )
        clock.end(step)
    return found
