"""The range of every number that a person or a file can give, and the checks: a value outside it is named.

Wider than anything of use, and narrow enough that no number takes the memory or the hours that a slip would ask for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

Range = tuple[float, float]

# What torch and SimpleITK both take, also after a recipe has made other seeds of it.
SEED: Range = (0, 2**31 - 1)
SHARE: Range = (0, 1)
WEIGHT: Range = (0, 1e6)
TIMESTEPS: Range = (1, 1024)
ITERATIONS: Range = (0, 10_000)
SECONDS: Range = (0.0, 86_400.0)
SPACING_MM: Range = (0.1, 32)
SIGMA_MM: Range = (0, 100)
# Of a level of refinement, whose lengths may follow the size of the image: of a mouse, of a whole body.
LEVEL_MM: Range = (1e-3, 1e3)
LEVEL_SIGMA_MM: Range = (0, 1e4)
WINDOW: Range = (3, 31)
CHANNELS: Range = (1, 4096)
TRAINING_STEPS: Range = (1, 10**7)
# Factors on the smoothing lengths of refinement: below, fields crumble; above, they hardly bend.
REGULARISATION: Range = (0.25, 4.0)
# Coordinates of points in mm; no scanner reaches farther from its centre.
COORDINATE_MM: Range = (-1e5, 1e5)
PERCENTILE: Range = (1e-3, 100)

# Fields of the settings that are read from presets, recipes, model files and code files.
FIELDS: dict[str, dict[str, Range]] = {
    "Preset": {
        "working_spacing_mm": SPACING_MM,
        "working_voxels": (0, 10**9),
        "passes": (0, 16),
        "regularisation": REGULARISATION,
        "across_contrasts": REGULARISATION,
    },
    "RefinementSettings": {"window": WINDOW, "momentum": (0, 0.99), "start_sigma_mm": SIGMA_MM, "both_ways": (0, 100)},
    "Level": {
        "spacing_mm": LEVEL_MM,
        "field_mm": LEVEL_MM,
        "iterations": ITERATIONS,
        "velocity_sigma_mm": LEVEL_SIGMA_MM,
        "field_sigma_mm": LEVEL_SIGMA_MM,
        "step": (0.01, 1),
        "maps": WEIGHT,
    },
    "FieldSettings": {
        "stages_mm": (1, 256),
        "iterations": ITERATIONS,
        "seconds": SECONDS,
        "grid_mm": (0.5, 32),
    },
    "FieldSizes": {
        "global_size": CHANNELS,
        "local_size": CHANNELS,
        "code_spacing_mm": (0.1, 256),
        "frequencies": CHANNELS,
        "frequency_scale": (1e-6, 1e3),
        "extent_mm": (1e-3, 1e6),
        "width": CHANNELS,
        "hidden_layers": (1, 64),
        "first_omega": (1e-3, 1e3),
        "hidden_omega": (1e-3, 1e3),
        "decoder_seed": SEED,
    },
    "Layer": {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "kernel": (1, 15),
        "stride": (1, 16),
        "upsample": (1, 16),
    },
    "NetworkSpec": {
        "input_spacing_mm": SPACING_MM,
        "timesteps": TIMESTEPS,
        "leak": (1e-6, 1),
        "image_channels": (1, 2),
    },
    "NeuronDynamics": {
        "timesteps": TIMESTEPS,
        "leak": (1e-6, 1),
        # Far beyond anything that still fires, near enough for exact sums.
        "reset_potential": (-1024, 1),
        "initial_potential": (-1024, 1),
        "refractory": (0, 1024),
    },
    "TrainingConfig": {
        "seed": SEED,
        "weights_seed": SEED,
        "timesteps": TIMESTEPS,
        "percentile": PERCENTILE,
        "calibration_pairs": (1, 10_000),
    },
    "LoopOptions": {
        "steps": TRAINING_STEPS,
        "learning_rate": (0, 10),
        "warmup": (0, TRAINING_STEPS[1]),
        "second_pass": SHARE,
        "second_pass_from": SHARE,
        "freeze_normalisation_from": (0, 10),
        "threshold_learning_rate": (0, 1000),
        "decoder_learning_rate": (0, 1000),
        "echoes": (0, 64),
        "timesteps": (0, TIMESTEPS[1]),
        "checkpoint_every": TRAINING_STEPS,
        "log_every": TRAINING_STEPS,
    },
    "ObjectiveWeights": {
        "window": WINDOW,
        "smoothness": WEIGHT,
        "dice": WEIGHT,
        "operations": WEIGHT,
        "operations_target": SHARE,
        "head_share": SHARE,
        "teacher": WEIGHT,
        "echo_dice": WEIGHT,
    },
    "FieldWeights": {
        "cubes": (1, 1024),
        "cube": (3, 64),
        "window": WINDOW,
        "dice": WEIGHT,
        "consistency": WEIGHT,
        "consistency_points": (1, 10**6),
        "smoothness": WEIGHT,
        "code": WEIGHT,
        "operations": WEIGHT,
        "operations_target": SHARE,
    },
    "SyntheticOptions": {
        "random_contrast": SHARE,
        "same_head": SHARE,
        "rotation_degrees": (0, 180),
        "scale": SHARE,
        "shear": SHARE,
        "translation_mm": SIGMA_MM,
        "elastic_mm": SIGMA_MM,
        "ventricle_mm": SIGMA_MM,
        "bias": (0, 10),
        "texture": (0, 10),
        "noise": (0, 10),
        "thick_slices": SHARE,
        "other_contrasts": SHARE,
        "cross_contrast": SHARE,
        "lesions": SHARE,
        "stripping_errors": SHARE,
        "atrophy_mm": SIGMA_MM,
        "cut": SHARE,
        "orientation_degrees": (0, 180),
    },
    "StructureTraining": {
        "seed": SEED,
        "weights_seed": SEED,
        "percentile": (1, 100),
        "calibration_images": (1, 100_000),
        "steps": TRAINING_STEPS,
        "turning_rate": (0, 10),
        "learning_rate": (0, 10),
        "warmup": TRAINING_STEPS,
        "constant": SHARE,
        "renormalised_after": TRAINING_STEPS,
        "frozen_from": SHARE,
        "places": (1, 8),
        "average": (0, 0.99999),
        "checkpoint_every": TRAINING_STEPS,
        "log_every": TRAINING_STEPS,
    },
    "HeadOptions": {
        "shape": (16, 512),
        "t1": SHARE,
        "weighted": SHARE,
        "rotation_degrees": (0, 180),
        "most_degrees": (0, 180),
        "scale": (0, 0.5),
        "shear": SHARE,
        "shift_mm": SIGMA_MM,
        "elastic_mm": SIGMA_MM,
        "ventricle_mm": SIGMA_MM,
        "stripped": SHARE,
        "cut": SHARE,
        "lesions": SHARE,
        "thick_slices": SHARE,
        "bias": (0, 10),
        "noise": (0, 10),
    },
}

# Sizes that are products of others: of the grid on which everything after alignment happens, of the layers and of the
# weights of a network, of the weights of a neural field's decoders, and of the codes of one of its stages.
GRID_VOXELS: Range = (1, 2**29)
LAYERS: Range = (1, 1000)
NETWORK_WEIGHTS: Range = (1, 10**8)
DECODER_WEIGHTS: Range = (1, 10**7)
CODES: Range = (1, 2**30)
# Of a code file: axes of its grids in voxels, their voxel size, the width of the margin; entries of its matrices.
AXIS: Range = (1, 2**15)
CODED_SPACING_MM: Range = (1e-3, 256)
TAPER_MM: Range = (0, 1e3)
MATRIX: Range = (-1e5, 1e5)
# Of any tensor in a file.
TENSOR: Range = (-1e9, 1e9)
LABEL: Range = (-(2**31), 2**31 - 1)


def whole(limits: Range) -> bool:
    """Whether a range is one of whole numbers: both of its limits are."""
    return all(isinstance(limit, int) for limit in limits)


def within(field: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high], and NaN.

    Raises:
        ValueError: names the field, the range and the value.
    """
    if not low <= value <= high:
        text = str(value)
        shown = text if len(text) <= 24 else f"{text[:20]}..."
        raise ValueError(f"{field}: must be between {_number(low)} and {_number(high)}, got {shown}")


def within_all(field: str, values: Iterable[Any], limits: Range, *, whole_numbers: bool = False) -> None:
    """Refuse anything but numbers inside the limits.

    Args:
        field: for the message.
        values: what should be numbers.
        limits: lowest and highest.
        whole_numbers: refuse fractions.

    Raises:
        ValueError: names the field.
    """
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral if whole_numbers else Real):
            raise ValueError(f"{field}: must be a {'whole ' if whole_numbers else ''}number, got {value!r:.40}")
        within(field, value, *limits)  # type: ignore[arg-type]


def check_numbers(settings: Any, *, where: str = "") -> None:
    """Refuse a dataclass of `FIELDS` with a number out of range; strings and Booleans are not looked at.

    Args:
        settings: the dataclass.
        where: begins the message.

    Raises:
        ValueError: names the field, the range and the value.
    """
    fields = {field.name: str(field.type) for field in dataclasses.fields(settings)}
    for name, limits in FIELDS[type(settings).__name__].items():
        value = getattr(settings, name)
        values = list(value) if "tuple" in fields[name] else [value]
        if "tuple[str" in fields[name]:  # pairs of a name and a number
            values = [pair[-1] for pair in values]
        within_all(f"{where}{name}", values, limits, whole_numbers="float" not in fields[name])


def one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices.

    Raises:
        ValueError: names the field, the choices and the word.
    """
    if value not in choices:
        raise ValueError(f"{field}: must be one of {', '.join(choices)}; got {value!r}")


def _number(limit: float) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
