"""What each part of the training of a spiking network gives: the same few pairs, one part left out at a time.

    python Benchmarks/finetune_ablation.py [--recipe R] [--steps N] [--variants ...]

The network of the coarse pass alone, on the development pairs, and the dense one trained in the same way. Every
variant has the recipe's T, learning rate and synthetic pairs, and `--steps` of them, far fewer than the shipped weights
had: what the rows say is their order, not how good the network gets. Training runs are kept in `--cache` and go on
where they were interrupted.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import evaluation as data
import torch
from cohort import load_networks
from pareto import point, thresholds_of

from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.spiking.conversion import convert
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet
from SpikeRegLib.training.config import TrainingConfig, load_config
from SpikeRegLib.training.loop import LoopOptions, train
from SpikeRegLib.training.recipe import find_label_maps, pair_generator
from SpikeRegLib.training.subjects import load_subjects

Start = Callable[[AnalogUNet, dict[str, torch.Tensor], TrainingConfig], RegistrationUNet]


def converted(teacher: AnalogUNet, thresholds: dict[str, torch.Tensor], config: TrainingConfig) -> SpikingUNet:
    return convert(teacher, thresholds, timesteps=config.timesteps)


def displacing(teacher: AnalogUNet, thresholds: dict[str, torch.Tensor], config: TrainingConfig) -> SpikingUNet:
    """The head's output is the displacement itself instead of a velocity that is integrated."""
    network = converted(teacher, thresholds, config)
    network.spec = replace(network.spec, output="displacement")
    return network


def dense(teacher: AnalogUNet, thresholds: dict[str, torch.Tensor], config: TrainingConfig) -> AnalogUNet:
    """The teacher, not converted."""
    return copy.deepcopy(teacher)


def uncalibrated(teacher: AnalogUNet, thresholds: dict[str, torch.Tensor], config: TrainingConfig) -> SpikingUNet:
    """The teacher's weights, every threshold one."""
    ones = {name: torch.ones_like(value) for name, value in thresholds.items()}
    return convert(teacher, ones, timesteps=config.timesteps)


def scratch(teacher: AnalogUNet, thresholds: dict[str, torch.Tensor], config: TrainingConfig) -> SpikingUNet:
    """New weights, every threshold one, and a head that begins with almost no deformation, as a teacher's does."""
    torch.manual_seed(config.weights_seed)
    network = SpikingUNet(teacher.spec.with_timesteps(config.timesteps))
    with torch.no_grad():
        network.weights["head"].normal_(std=1e-3)
    return network


@dataclass(frozen=True)
class Variant:
    """One row: where training starts, and what is changed of the loop's options and of its weights."""

    start: Start = converted
    options: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    trained: bool = True

    def apply(self, options: LoopOptions, steps: int) -> LoopOptions:
        options = replace(options, steps=steps, checkpoint_every=50, **self.options)
        return replace(options, weights=replace(options.weights, **self.weights))


VARIANTS = {
    "converted, not fine-tuned": Variant(trained=False),
    "all parts": Variant(),
    "new weights instead of the teacher's": Variant(start=scratch),
    "thresholds of one instead of calibrated ones": Variant(start=uncalibrated),
    "fixed thresholds": Variant(options={"threshold_learning_rate": 0.0}),
    "no price on operations": Variant(weights={"operations": 0.0}),
    "no distance to the teacher": Variant(weights={"teacher": 0.0}),
    "no labels": Variant(weights={"dice": 0.0, "echo_dice": 0.0}),
    "no echoes": Variant(options={"echoes": 0}),
    "displacement instead of a velocity": Variant(start=displacing, weights={"teacher": 0.0}),
    "dense, not trained further": Variant(start=dense, trained=False),
    "dense, trained in the same way": Variant(
        start=dense, options={"freeze_normalisation_from": 0.0}, weights={"operations": 0.0}
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "finetune_ablation.json")
    parser.add_argument("--recipe", default="brain-t1-labels", help="whose options the variants change")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--variants", nargs="+", help="only these; the others keep their rows")
    options = parser.parse_args()
    data.one_thread()
    preset, cache, config = load_preset(options.preset), options.cache, load_config(options.recipe)
    files, networks = load_networks(preset, "ann", options.teacher)
    teacher = networks[0]
    assert isinstance(teacher, AnalogUNet)
    thresholds = thresholds_of(teacher, files[0], options.recipe, config.calibration_pairs, cache)[config.percentile]
    pairs = pair_generator(load_subjects(find_label_maps(data.DATA / "train")), config, "cpu")
    stored = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    rows, code = {row["variant"]: row for row in stored}, data.library_stamp(network=True)
    for name in options.variants or VARIANTS:
        variant = VARIANTS[name]
        network = variant.start(teacher, thresholds, config)
        loop = variant.apply(config.finetune, options.steps)
        key = data.digest(name, files[0], asdict(replace(config, finetune=loop)))
        if variant.trained:
            near = teacher if loop.weights.teacher > 0 else None
            folder = cache / "ablation" / key
            train(network, pairs.pair, folder, options=loop, seed=config.seed, resume=True, teacher=near)
        if isinstance(network, SpikingUNet):
            network.mode = "closed_form"
        found = point(
            [network.eval()], data.digest(key, code), data.dev_pairs(), cache, preset.working_spacing_mm, passes=1
        )
        rows[name] = {"variant": name, "pairs_seen": options.steps if variant.trained else 0, **found}
        print(f"{name}: Dice {found['dice']:.4f}, {found.get('snn_mj', found['ann_mj']):.3f} mJ", flush=True)
        kept = [rows[known] for known in VARIANTS if known in rows]
        data.write_json(options.out, {"recipe": options.recipe, "steps": options.steps, "rows": kept})


if __name__ == "__main__":
    main()
