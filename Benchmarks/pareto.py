"""Accuracy against energy: the dense teacher converted at many T and percentiles, and the released spiking network.

    python Benchmarks/pareto.py [--model FILE --teacher FILE] [--preset P] [--recipe R] [--pairs N]

One pass of the network, no refinement, the development pairs. Thresholds come from synthetic training pairs alone
(`--calibration-pairs` of the recipe's stream that no training step reaches). Nothing is fine-tuned but the released
network. The energy is the analytical proxy. Calibration pairs, histograms and every point are kept in `--cache`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import evaluation as data
import torch
from cohort import activity, network_map

from SpikeRegLib import models
from SpikeRegLib.configuration import load_preset
from SpikeRegLib.precision import Precision
from SpikeRegLib.spiking.conversion import calibrate, convert
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet
from SpikeRegLib.training.anatomy import load_anatomies
from SpikeRegLib.training.config import load_config
from SpikeRegLib.training.recipe import CALIBRATION_START, find_label_maps
from SpikeRegLib.training.synthetic import PairGenerator

TIMESTEPS = (1, 2, 4, 6, 8)
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)
RELEASED_TIMESTEPS = (1, 2, 4, 8)


def calibration_images(recipe: str, count: int, cache: Path) -> Iterator[torch.Tensor]:
    """[1, 2, D, H, W] synthetic training pairs, drawn once."""
    stamp = data.code_stamp(("training/synthetic", "training/anatomy"))
    folder = cache / f"calibration-{stamp}-{recipe.replace('/', '_')}"
    wanted = [folder / f"{number}.pt" for number in range(count)]
    if not all(path.exists() for path in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        config = load_config(recipe)
        anatomies = load_anatomies(find_label_maps(data.DATA / "train"))
        generator = PairGenerator(anatomies, options=config.synthetic, seed=config.seed)
        for number, path in enumerate(wanted):
            pair = generator.pair(CALIBRATION_START + number)
            torch.save(torch.cat((pair.fixed, pair.moving), 1), path)
    for path in wanted:
        yield torch.load(path, weights_only=True)


def thresholds_of(
    teacher: AnalogUNet, file: Path, recipe: str, count: int, cache: Path
) -> dict[float, dict[str, torch.Tensor]]:
    """Per percentile, layer and channel."""
    path = cache / f"thresholds-{data.digest(file, recipe, count, PERCENTILES)}.pt"
    if not path.exists():
        with Precision.best("cpu").autocast():
            found = calibrate(teacher, calibration_images(recipe, count, cache), PERCENTILES)
        torch.save(found, path)
    return torch.load(path, weights_only=True)


def point(network: RegistrationUNet, key: str, pairs: list[data.Pair], cache: Path, working_mm: float) -> dict:
    """Figures of one network over the pairs; those of a pair are made once."""
    rows = []
    for pair in pairs:
        path = cache / "rows" / f"pareto-{key}" / f"{pair[0]}_{pair[1]}.json"
        if not path.exists():
            prediction, total, seconds = network_map(pair, cache, network=network, passes=1, working_mm=working_mm)
            row: dict[str, Any] = {
                "pair": "_".join(pair),
                "dice": data.overlap(total, *(data.grouped_labels(name) for name in pair)),
                "predict_cpu_s": seconds,
                **activity(prediction.layers, prediction.timesteps),
                "snn_mj": prediction.energy.snn_mj,
                "ann_mj": prediction.energy.ann_mj,
            }
            data.write_json(path, row)
        rows.append(json.loads(path.read_text()))
    columns = ("dice", "mean_rate", "mac_weighted_rate", "snn_mj", "ann_mj")
    means = {name: fmean(row[name] for row in rows) for name in columns if rows[0].get(name) is not None}
    return {**means, "dice_per_pair": [row["dice"] for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "pareto.json")
    parser.add_argument("--recipe", default="brain-t1", help="training recipe whose pairs calibrate")
    parser.add_argument("--calibration-pairs", type=int, default=8)
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look; needs --out")
    options = parser.parse_args()
    data.one_thread()
    began = time.process_time()
    preset, cache, code = load_preset(options.preset), options.cache, data.library_stamp(network=True)
    working_mm, pairs = preset.working_spacing_mm, data.dev_pairs()[: options.pairs]
    model = models.find(options.model or preset.model, "spikereg")
    teacher_file = models.find(options.teacher or preset.model, "ann")
    teacher = models.load_for(teacher_file, "ann", None)
    assert isinstance(teacher, AnalogUNet)

    def figures(network: RegistrationUNet, file: Path, what: str, *key: Any) -> dict:
        found = point(network.eval(), data.digest(file, what, *key, working_mm, code), pairs, cache, working_mm)
        energy = found.get("snn_mj", found["ann_mj"])
        print(f"{file.stem} {what}: Dice {found['dice']:.4f}, {energy:.3f} mJ", flush=True)
        return found

    results: dict[str, Any] = {"pairs": ["_".join(pair) for pair in pairs], "passes": 1}
    results["calibration_pairs"] = options.calibration_pairs
    results["released_timesteps"] = models.load_for(model, "spikereg", None).spec.timesteps
    results["teacher"] = figures(teacher, teacher_file, "dense")
    results["released"] = [
        {"timesteps": steps, **figures(models.load_for(model, "spikereg", steps), model, f"T = {steps}")}
        for steps in RELEASED_TIMESTEPS
    ]
    thresholds = thresholds_of(teacher, teacher_file, options.recipe, options.calibration_pairs, cache)
    results["converted"] = []
    for percentile in PERCENTILES:
        for steps in TIMESTEPS:
            network = convert(teacher, thresholds[percentile], timesteps=steps)
            found = figures(network, teacher_file, f"percentile {percentile:g}, T = {steps}", options.calibration_pairs)
            results["converted"].append({"percentile": percentile, "timesteps": steps, **found})
    data.write_json(options.out, results)
    print(f"{options.out}: {time.process_time() - began:.0f} CPU s")


if __name__ == "__main__":
    main()
