"""The recipe of the network that names structures: from label maps and new weights to the spiking network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from SpikeRegLib.presets.preset import read_toml, settings_from_table
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.structures.images import HeadOptions

RECIPE = Path(__file__).parent / "structures.toml"


@dataclass(frozen=True)
class StructureTraining:
    """Everything that decides what a training gives.

    Attributes:
        network: name of the network spec.
        seed: of the images and of the places of a patch that are looked at.
        weights_seed: of new weights.
        initial: dense model to begin with, file or name; empty for new weights. Its running statistics count at once.
        spiking: train for the spike counts of the network that is exported (`counting`); begins from `initial`.
        percentile: of positive activations, where the thresholds of a spiking network begin.
        calibration_images: that the percentile is taken over.
        steps: of one image each.
        turning_rate: of the orthogonal updates of convolution weights.
        learning_rate: of Adam, for the first convolution, the head and what is no convolution.
        warmup: steps in which both rates rise from zero.
        constant: fraction of the run after which both fall to zero.
        renormalised_after: steps in which normalisation turns from the batch's statistics to the running ones.
        frozen_from: fraction of the run after which the running statistics stay as they are.
        places: of the eight voxels of a patch, how many a step looks at.
        average: what the averaged weights keep in a step; they are the ones that are exported.
        checkpoint_every, log_every: in steps.
        heads: how images are drawn.
    """

    network: str = "structures-2mm"
    seed: int = 1
    weights_seed: int = 0
    initial: str = ""
    spiking: bool = False
    percentile: float = 99.9
    calibration_images: int = 16
    steps: int = 20_000
    turning_rate: float = 0.02
    learning_rate: float = 1e-3
    warmup: int = 100
    constant: float = 0.7
    renormalised_after: int = 1000
    frozen_from: float = 0.9
    places: int = 2
    average: float = 0.998
    checkpoint_every: int = 200
    log_every: int = 50
    heads: HeadOptions = dataclasses.field(default_factory=HeadOptions)

    def __post_init__(self) -> None:
        check_numbers(self)

    def rate(self, step: int) -> float:
        """The factor on both rates in a step: up, level, down to zero."""
        fall = (self.steps - step) / max(1.0, (1 - self.constant) * self.steps)
        return min(1.0, (step + 1) / self.warmup, max(0.0, fall))


def load_recipe(path: str | Path | None = None) -> StructureTraining:
    """Read a recipe from TOML; the shipped one if no file is given.

    Raises:
        InputError: the file or one of its fields is wrong; the message names both.
    """
    file = RECIPE if path is None else Path(path)
    return settings_from_table(StructureTraining, read_toml(file), source=file)
