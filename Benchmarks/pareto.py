"""Accuracy against energy: the dense teacher converted at many T and percentiles, and the released spiking networks.

    python Benchmarks/pareto.py [--model FILE --teacher FILE] [--preset P] [--recipes R ...] [--pairs N]

All passes of the preset's networks, no refinement, the development pairs; T and percentile are those of every network.
Thresholds come from synthetic training pairs alone (`--calibration-pairs` of each recipe's stream, which no training
step reaches). Nothing is fine-tuned but the released networks. The energy is the analytical proxy. Calibration pairs,
thresholds and every point are kept in `--cache`.
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
from cohort import activity, load_networks, network_map

from SpikeRegLib import models
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.spiking.conversion import calibrate, convert
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet
from SpikeRegLib.training.config import load_config
from SpikeRegLib.training.recipe import CALIBRATION_START, find_label_maps, pair_generator, training_spec
from SpikeRegLib.training.subjects import load_subjects

TIMESTEPS = (1, 2, 4, 6, 8)
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)
RELEASED_TIMESTEPS = (1, 2, 4, 8)


def calibration_images(recipe: str, count: int, cache: Path) -> Iterator[torch.Tensor]:
    """[1, 2, D, H, W] synthetic training pairs, drawn once."""
    stamp = data.code_stamp(("training/synthetic", "training/appearance", "training/crops", "training/anatomy"))
    folder = cache / f"calibration-{stamp}-{recipe.replace('/', '_')}"
    wanted = [folder / f"{number}.pt" for number in range(count)]
    if not all(path.exists() for path in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        generator = pair_generator(load_subjects(find_label_maps(data.DATA / "train")), load_config(recipe), "cpu")
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
        shipped, teacher.spec = teacher.spec, training_spec(teacher.spec, load_config(recipe))
        with Precision.best("cpu").autocast():
            found = calibrate(teacher, calibration_images(recipe, count, cache), PERCENTILES)
        teacher.spec = shipped
        torch.save(found, path)
    return torch.load(path, weights_only=True)


def point(
    networks: list[RegistrationUNet], key: str, pairs: list[data.PairNames], cache: Path, working_mm: float, passes: int
) -> dict:
    """Figures of networks over the pairs; those of a pair are made once."""
    rows = []
    for pair in pairs:
        path = cache / "rows" / f"pareto-{key}" / f"{pair[0]}_{pair[1]}.json"
        if not path.exists():
            found = network_map(pair, cache, networks=networks, passes=passes, working_mm=working_mm)
            row: dict[str, Any] = {
                "pair": "_".join(pair),
                "dice": data.overlap(found.total, *(data.grouped_labels(name) for name in pair)),
                "predict_cpu_s": found.cpu_s,
                "mended_percent": found.mended_percent,
                **activity(found.prediction.layers),
                "snn_mj": found.prediction.energy.snn_mj,
                "ann_mj": found.prediction.energy.ann_mj,
            }
            data.write_json(path, row)
        rows.append(json.loads(path.read_text()))
    columns = ("dice", "mended_percent", "mean_rate", "mac_weighted_rate", "snn_mj", "ann_mj")
    means = {name: fmean(row[name] for row in rows) for name in columns if rows[0].get(name) is not None}
    return {**means, "dice_per_pair": [row["dice"] for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "pareto.json")
    parser.add_argument("--sparse-preset", default="brain-t1-sparse")
    parser.add_argument("--recipes", nargs="+", help="training recipes whose pairs calibrate; default: models' names")
    parser.add_argument("--calibration-pairs", type=int, default=8)
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look; needs --out")
    options = parser.parse_args()
    data.one_thread()
    began = time.process_time()
    preset, cache, code = load_preset(options.preset), options.cache, data.library_stamp(network=True)
    working_mm, pairs = preset.working_spacing_mm, data.dev_pairs()[: options.pairs]
    files, released = load_networks(preset, "spikereg", options.model)
    teacher_files, teachers = load_networks(preset, "ann", options.teacher)
    recipes = options.recipes or [file.stem for file in files]
    passes = max(1, preset.passes)

    def figures(networks: list[RegistrationUNet], which: list[Path], what: str, *key: Any) -> dict:
        name = data.digest(*which, what, *key, working_mm, passes, code)
        found = point([network.eval() for network in networks], name, pairs, cache, working_mm, passes)
        energy = found.get("snn_mj", found["ann_mj"])
        print(f"{which[0].stem} {what}: Dice {found['dice']:.4f}, {energy:.3f} mJ", flush=True)
        return found

    results: dict[str, Any] = {"pairs": ["_".join(pair) for pair in pairs]}
    results["calibration_pairs"] = options.calibration_pairs
    results["released_timesteps"] = released[0].spec.timesteps
    results["teacher"] = figures(teachers, teacher_files, "dense")
    results["released"] = []
    for steps in RELEASED_TIMESTEPS:
        networks = [models.load_for(file, "spikereg", steps) for file in files]
        results["released"].append({"timesteps": steps, **figures(networks, files, f"T = {steps}")})
    sparse_files, sparse = load_networks(load_preset(options.sparse_preset), "spikereg", None)
    results["sparse"] = {"timesteps": sparse[0].spec.timesteps, **figures(sparse, sparse_files, "as released")}
    thresholds = []
    for teacher, file, recipe in zip(teachers, teacher_files, recipes, strict=True):
        assert isinstance(teacher, AnalogUNet)
        thresholds.append((teacher, thresholds_of(teacher, file, recipe, options.calibration_pairs, cache)))
    results["converted"] = []
    for percentile in PERCENTILES:
        for steps in TIMESTEPS:
            networks = [convert(teacher, found[percentile], timesteps=steps) for teacher, found in thresholds]
            what = f"percentile {percentile:g}, T = {steps}"
            row = figures(networks, teacher_files, what, options.calibration_pairs)
            results["converted"].append({"percentile": percentile, "timesteps": steps, **row})
    data.write_json(options.out, results)
    print(f"{options.out}: {time.process_time() - began:.0f} CPU s")


if __name__ == "__main__":
    main()
