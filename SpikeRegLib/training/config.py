"""A training recipe, read from TOML or YAML or given as a table: network, lengths, rates, weights, synthetic pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.presets.preset import read_toml, read_yaml, settings_from_table
from SpikeRegLib.text.ranges import check_numbers
from SpikeRegLib.training.appearance import SyntheticOptions
from SpikeRegLib.training.field_objective import FieldWeights
from SpikeRegLib.training.loop import LoopOptions

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a training gives.

    Attributes:
        network: name of the network spec.
        coarse: model file, or name of a shipped model, of the coarse pass: the network is then trained on 1 mm crops
            of what that pass leaves over. Empty: whole heads at 2 mm, before any pass.
        initial: model file, or name of a shipped model, whose dense weights the teacher starts from; layers of another
            shape start anew. Empty: new weights.
        seed: of the pairs and of the choice of steps that train the second pass.
        weights_seed: of the initial weights.
        timesteps: T of the converted network.
        percentile: of the positive activations, for the thresholds.
        calibration_pairs: training pairs from which thresholds are estimated.
        then: name of the recipe, or file beside this one, whose fine-tuning goes on with the result. Empty: none.
        teacher_goes_on: whether `train all`, come to this recipe by `then`, first trains the teacher of the one before
            further; what is fine-tuned from here on stays near that.
        teacher, finetune: the two loops.
        synthetic: how pairs are drawn.
        field: sizes of a neural deformation field; `network` is then its encoder.
        field_weights: what it is trained for, teacher and fine-tuning alike; the loops' own weights are not used.
    """

    network: str = "velocity-2mm"
    coarse: str = ""
    initial: str = ""
    seed: int = 1
    weights_seed: int = 0
    timesteps: int = 4
    percentile: float = 99.9
    calibration_pairs: int = 24
    then: str = ""
    teacher_goes_on: bool = False
    teacher: LoopOptions = dataclasses.field(default_factory=LoopOptions)
    finetune: LoopOptions = dataclasses.field(default_factory=LoopOptions)
    synthetic: SyntheticOptions = dataclasses.field(default_factory=SyntheticOptions)
    field: FieldSizes = dataclasses.field(default_factory=FieldSizes)
    field_weights: FieldWeights = dataclasses.field(default_factory=FieldWeights)

    def __post_init__(self) -> None:
        check_numbers(self)


def load_config(source: str | Path | Mapping[str, Any] | TrainingConfig) -> TrainingConfig:
    """Read a recipe. Fields that are left out have their default; unknown ones are refused.

    Args:
        source: a TOML or YAML file, the name of a shipped recipe ("brain-t1"), the fields as a dictionary, or a recipe,
            which is given back.

    Raises:
        InputError: the file or one of its fields is wrong; the message names both.
    """
    if isinstance(source, TrainingConfig):
        return source
    if isinstance(source, Mapping):
        return settings_from_table(TrainingConfig, dict(source), source="config")
    path = file = Path(source)
    if file.suffix in (".yaml", ".yml"):
        return settings_from_table(TrainingConfig, read_yaml(file), source=file)
    if file.suffix != ".toml":
        file = RECIPES / f"{path}.toml"
        if not file.is_file():
            known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
            raise InputError(f"recipe {str(path)!r}: unknown; choose one of {known}, or give a .toml or .yaml file")
    return settings_from_table(TrainingConfig, read_toml(file), source=file)
