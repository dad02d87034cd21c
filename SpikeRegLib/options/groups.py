"""The options of a registration in groups. To add one, write it here; in Slicer's panel it needs a field of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from SpikeRegLib.options.option import file, number, switch, word
from SpikeRegLib.presets.preset import METHODS
from SpikeRegLib.text.ranges import ITERATIONS, REGULARISATION, SECONDS, SEED, TIMESTEPS, WEIGHT

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import torch

    from SpikeRegLib.images.volumes import Volume
    from SpikeRegLib.space.transforms import Transform

    Source = Volume | str | os.PathLike[str]
    Points = torch.Tensor | str | os.PathLike[str]

TRANSFORM_TYPES = ("deformable", "affine", "rigid")
"""What a registration may do to the moving image, from most to least."""

_MASK = "region that counts, in every stage: where > 0, on the grid of the {} image"
_LEFT_OUT = (
    "region that does not count (a lesion): the deformation goes on smoothly from around it; where > 0, on the grid of "
    "the {} image"
)
_LABELS = "label map, for Dice, and warped with the result; on the grid of the {} image"
_POINTS = "landmarks (LPS mm in Python), for the registration error: .mrk.json, .fcsv or .csv"


@dataclass(frozen=True)
class Method:
    """What finds the deformation"""

    method: str | None = word(
        None,
        "spikereg (spiking network), ann (its dense twin), optimize (no network), nephi (neural deformation field) or "
        "spiking-nephi (with a spiking encoder); the preset's if not given",
        choices=METHODS,
    )
    transform_type: str = word(
        "deformable",
        "deformable, affine (rotation, shift, scales and shears alone) or rigid (rotation and shift alone)",
        choices=TRANSFORM_TYPES,
    )
    preset: str | Path | None = word(
        None,
        "name or .toml file (default: brain; with a method, model, timesteps or tile what suits that)",
        metavar="P",
    )
    model: str | Path | None = word(
        None,
        "weights of the registration network, by name or .safetensors file (default: the preset's)",
        metavar="FILE",
    )


@dataclass(frozen=True)
class Start:
    """Where it begins"""

    initial_transform: Transform | str | os.PathLike[str] | None = file(
        "fixed to moving (ITK .h5, .tfm, .mat), instead of the alignment", metavar="FILE"
    )
    align: bool = switch("go on from the initial transform with the alignment")
    skip_affine: bool = switch("the images are aligned already")


@dataclass(frozen=True)
class Masks:
    """What counts"""

    fixed_mask: Source | None = file(_MASK.format("fixed"))
    moving_mask: Source | None = file(_MASK.format("moving"))
    fixed_leave_out: Source | None = file(_LEFT_OUT.format("fixed"))
    moving_leave_out: Source | None = file(_LEFT_OUT.format("moving"))


@dataclass(frozen=True)
class Anatomy:
    """What structures found in the images are used for"""

    structures: str | None = word(
        None,
        "all, none, or some of start (instead of a search), mask (the brain of a whole head), refinement (beside the "
        "images) and verdict, with commas (default: all that the preset finds)",
        metavar="USES",
    )


@dataclass(frozen=True)
class Segmentations:
    """Structures known in both"""

    fixed_labels: Source | None = file(_LABELS.format("fixed"), command_name="--fixed-seg")
    moving_labels: Source | None = file(_LABELS.format("moving"), command_name="--moving-seg")


@dataclass(frozen=True)
class Landmarks:
    """Points known in both"""

    fixed_points: Points | None = file(_POINTS)
    moving_points: Points | None = file(_POINTS + "; in the order of the fixed ones")
    landmark_weight: float = number(
        0.0, WEIGHT, "pull landmarks together: 1 mm of mean error counts as much as W of similarity; 0 only measures",
        metavar="W",
    )  # fmt: skip


@dataclass(frozen=True)
class Refinement:
    """How it is refined on this pair"""

    region: Source | None = file("mask on the grid of the fixed image: refine only where it is > 0")
    regularisation: float = number(
        1.0, REGULARISATION, "factor on the smoothing lengths of refinement: above 1 stiffer, below 1 looser",
        metavar="R",
    )  # fmt: skip
    refine_iterations: int | None = number(
        None, ITERATIONS, "per level, instead of the preset's; 0 leaves refinement out"
    )


@dataclass(frozen=True)
class Field:
    """Of a neural field"""

    field_iterations: int | None = number(
        None, ITERATIONS, "of the optimisation of its codes, per stage; 0 takes the encoder's field as it is"
    )
    field_seconds: float | None = number(
        None, SECONDS, "the most that optimisation may take; 0 for no limit", unit="s", metavar="S"
    )
    field_decoder: bool = switch("optimise the field's decoders, too")


@dataclass(frozen=True)
class Network:
    """Of the registration network"""

    timesteps: int | None = number(
        None, TIMESTEPS, "of the spiking registration network, instead of its own", metavar="T"
    )
    tile: int | None = number(
        None, (1, 4096),
        "run the registration network on overlapping tiles of N of its voxels along each axis: less memory, more time",
        unit="voxels",
    )  # fmt: skip
    spike_maps: bool = switch(
        "keep the spike rate of every layer as a volume; without a registration network those of the structures network"
    )


@dataclass(frozen=True)
class Reading:
    """How images are read and resampled"""

    allow_nonfinite: bool = switch("take NaN and Inf in the images as background")
    allow_few_values: bool = switch("the images may be of few grey values with sharp edges: no label map")
    background: float | None = number(
        None, (-1e9, 1e9),
        "of the warped image beyond the edges of the image resampled (default: that image's own, from its corners)",
        metavar="VALUE",
    )  # fmt: skip


@dataclass(frozen=True)
class Judging:
    """What the verdict goes by"""

    verdict_bounds: str | Path | None = file(
        ".toml file with bounds of the verdict instead of its own (see quality/verdict.toml)", metavar="FILE"
    )


@dataclass(frozen=True)
class Execution:
    """Where and how it is computed"""

    device: str = word(
        "auto",
        "processor of the registration network; all else is computed on the CPU",
        choices=("auto", "cpu", "cuda", "mps"),
    )
    threads: int | None = number(None, (1, 1024), "CPU threads (default: all cores)")
    seed: int = number(0, SEED, "of every random choice")
