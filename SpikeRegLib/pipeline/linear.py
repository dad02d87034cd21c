"""Registrations that deform nothing: what contradicts them, and whether a given transform is of their kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from SpikeRegLib.errors import InputError
from SpikeRegLib.options.groups import TRANSFORM_TYPES
from SpikeRegLib.options.options import Options
from SpikeRegLib.space.transforms import AffineTransform, Transform

_RIGID_TOLERANCE = 1e-3  # of the singular values from 1: what files in single precision lose


def is_linear(transform_type: str) -> bool:
    """Whether nothing but an alignment is looked for."""
    return transform_type != "deformable"


def check_linear_options(options: Options) -> None:
    """Refuse what only a deformation can do, where none is asked for.

    Raises:
        InputError: names the option and what to leave out, or a type that is none.
    """
    kind: str = options["transform_type"]
    if kind not in TRANSFORM_TYPES:
        raise InputError(f"--transform-type {kind}: unknown; choose one of {', '.join(TRANSFORM_TYPES)}")
    if not is_linear(kind):
        return
    named = (options["structures"] or "").split(",")
    contradictions: tuple[tuple[str, bool], ...] = (
        (f"--method {options['method']}", options["method"] not in (None, "optimize")),
        (f"--refine-iterations {options['refine_iterations']}", bool(options["refine_iterations"])),
        (f"--landmark-weight {options['landmark_weight']:g}", bool(options["landmark_weight"])),
        ("--region", options["region"] is not None),
        ("--structures refinement", "refinement" in named),
    )
    for name, is_given in contradictions:
        if is_given:
            raise InputError(f"{name}: is of a deformation; leave it out, or --transform-type {kind}")
    if kind == "rigid" and "start" in named:
        raise InputError("--structures start: finds an affine map; leave it out, or give --transform-type affine")
    if options["skip_affine"] or (options["initial_transform"] is not None and not options["align"]):
        given = "--skip-affine" if options["skip_affine"] else "--initial-transform without --align"
        raise InputError(f"--transform-type {kind}: {given} leaves nothing to find; leave one of them out")


def check_linear(given: Transform, transform_type: str) -> None:
    """Refuse an initial transform from which no registration of this type can go on.

    Raises:
        InputError: it bends, or is not rigid where the result is to be.
    """
    if not is_linear(transform_type):
        return
    if not isinstance(given, AffineTransform):
        raise InputError(f"--transform-type {transform_type}: the initial transform bends; give a linear one")
    scales = np.linalg.svd(given.matrix[:3, :3], compute_uv=False)
    if transform_type == "rigid" and np.abs(scales - 1).max() > _RIGID_TOLERANCE:
        raise InputError("--transform-type rigid: the initial transform scales or shears; give a rigid one, or affine")


def linear_settings(transform_type: str) -> dict[str, Any]:
    """The values of options that make a plan without deformation of one with it."""
    return {"refine_iterations": 0} if is_linear(transform_type) else {}
