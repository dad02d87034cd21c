"""What a damaged moving image costs: `register` on the development pairs, against the untouched run of the same pair.

    python Benchmarks/robustness.py [--model FILE] [--preset P] [--corruptions ...] [--explain]

Forty runs: eight pairs with five of the six corruptions each, in turn. Every run is the whole of `register`, alignment
included, one thread. Scores are Dice over the 33 label groups of the
untouched labels; where a cut or a lesion hides anatomy, the fixed voxels that the untouched run maps there are left out
of both scores (`dice_everywhere` keeps them). `--explain` adds, for every run that lost more than 0.02, what it gives
with the untouched run's alignment, the same without refinement, and without the network. Runs are kept in `--cache` by
weights, preset and code.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import evaluation as data
import numpy as np
import torch
from corruptions import CORRUPTIONS, Damaged

from SpikeRegLib import models, register
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.presets.preset import PRESET_FOLDER, load_preset
from SpikeRegLib.quality import metrics
from SpikeRegLib.space.transforms import AffineTransform, CompositeTransform, DisplacementTransform, warp_image

LARGE_DROP = 0.02


def dice_outside(total: torch.Tensor, fixed: Volume, moving: Volume, hidden: torch.Tensor | None) -> float:
    """Mean Dice over the labels both maps have, without the fixed voxels in `hidden`.

    Args:
        total: [3, D, H, W] mm on the fixed grid.
        fixed, moving: label maps.
        hidden: [D, H, W] bool on the fixed grid.
    """
    if hidden is None:
        return data.overlap(total, fixed, moving)
    warped = warp_image(moving, DisplacementTransform(total, fixed.frame), fixed.frame, interpolation="nearest")
    shown = [replace(volume, data=volume.data * ~hidden) for volume in (fixed, warped)]
    present = set(torch.unique(moving.data).tolist())
    return float(np.mean([value for label, value in metrics.dice(*shown).items() if label in present]))


def alignment_of(registration: Registration) -> AffineTransform:
    """The affine end of a registration's transform."""
    transform = registration.transform
    last = transform.transforms[-1] if isinstance(transform, CompositeTransform) else transform
    assert isinstance(last, AffineTransform)
    return last


def untouched(pair: data.PairNames, key: str, options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The map and the alignment of the pair as it is."""
    path = options.cache / f"untouched-{key}" / f"{pair[0]}_{pair[1]}.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        done = register(*(data.subject_image(name) for name in pair), **settings)
        torch.save({"total": done.displacement, "affine": alignment_of(done).matrix.tolist()}, path)
    return torch.load(path, weights_only=True)


def same_place(affine: AffineTransform, before: Frame, after: Frame) -> AffineTransform:
    """`affine` (fixed -> moving) for a moving image whose header moved from `before` to `after`."""
    return AffineTransform(after.matrix @ before.inverse_matrix @ affine.matrix)


def run(
    pair: data.PairNames, name: str, number: int, clean: dict[str, Any], settings: dict[str, Any], *, explain: bool
) -> dict[str, Any]:
    """One corruption of one pair."""
    image = data.side(pair[1]).image
    damaged = CORRUPTIONS[name](image, torch.Generator().manual_seed(number))
    fixed, labels = (data.grouped_labels(subject) for subject in pair)
    hidden = None
    if damaged.lost is not None:
        lost = Volume(damaged.lost.to(torch.uint8), labels.frame)
        there = DisplacementTransform(clean["total"], fixed.frame)
        hidden = warp_image(lost, there, fixed.frame, interpolation="nearest").data > 0
    moved = replace(labels, frame=damaged.frame)
    done = register(data.subject_image(pair[0]), damaged.image, **settings)
    found, base = alignment_of(done), AffineTransform(np.array(clean["affine"]))
    reference = dice_outside(clean["total"], fixed, labels, hidden)
    dice = dice_outside(done.displacement, fixed, moved, hidden)
    row = {
        "pair": "_".join(pair),
        "corruption": name,
        "dice": dice,
        "dice_untouched": reference,
        "drop": reference - dice,
        "dice_everywhere": data.overlap(done.displacement, fixed, moved),
        "affine_dice": dice_outside(found.displacement_on(fixed.frame), fixed, moved, hidden),
        "affine_dice_untouched": dice_outside(base.displacement_on(fixed.frame), fixed, labels, hidden),
        "folding_percent": done.result["deformation"]["folding_percent"],
        "verdict": done.result["verdict"]["level"],
        "warnings": done.result["warnings"],
        "cpu_s": sum(seconds for stage, seconds in done.result["cpu_s"].items() if stage != "process"),
    }
    if explain and row["drop"] > LARGE_DROP:
        row |= explanation(pair, damaged, fixed, moved, hidden, same_place(base, labels.frame, damaged.frame), settings)
    return row


def explanation(
    pair: data.PairNames, damaged: Damaged, fixed: Volume, moved: Volume, hidden: torch.Tensor | None,
    base: AffineTransform, settings: dict[str, Any],
) -> dict[str, float]:  # fmt: skip
    """Dice with the untouched run's alignment; the same without refinement; and without the network."""
    dice = {}
    variants: dict[str, dict[str, Any]] = {
        "dice_with_untouched_affine": settings,
        "network_dice_with_untouched_affine": {**settings, "refine_iterations": 0},
        "optimize_dice_with_untouched_affine": {"threads": 1, "device": "cpu", "method": "optimize"},
    }
    for name, chosen in variants.items():
        done = register(data.subject_image(pair[0]), damaged.image, initial_transform=base, **chosen)
        dice[name] = dice_outside(done.displacement, fixed, moved, hidden)
    return dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "robustness.json")
    parser.add_argument("--corruptions", nargs="+", default=list(CORRUPTIONS), choices=CORRUPTIONS)
    parser.add_argument("--explain", action="store_true", help="find out where large drops come from")
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look; needs --out")
    options = parser.parse_args()
    data.one_thread()
    began = time.process_time()
    preset = load_preset(options.preset)
    file = Path(options.preset) if options.preset.endswith(".toml") else PRESET_FOLDER / f"{options.preset}.toml"
    model = models.find(options.model or preset.model, preset.method)
    key = data.digest(file, model, data.library_stamp(network=True))
    settings: dict[str, Any] = {"preset": options.preset, "threads": 1, "device": "cpu"}
    settings |= {"model": options.model} if options.model else {}
    script = data.digest(Path(__file__).with_name("corruptions.py"))
    rows = []
    for number, pair in enumerate(data.dev_pairs()[: options.pairs]):
        for name in options.corruptions:
            if name == list(CORRUPTIONS)[number % len(CORRUPTIONS)]:
                continue  # one left out by turns: forty runs
            label = f"{pair[0]}_{pair[1]}_{name.replace(' ', '_')}"
            path = options.cache / "rows" / f"robustness-{key}-{script}" / f"{label}.json"
            if not path.exists():
                clean = untouched(pair, key, options, settings)
                data.write_json(path, run(pair, name, number, clean, settings, explain=options.explain))
            row = json.loads(path.read_text())
            rows.append(row)
            print(f"{row['pair']} {name:20} drop {row['drop']:+.4f} affine {row['affine_dice']:.3f}", flush=True)
    for name in options.corruptions:
        drops = [row["drop"] for row in rows if row["corruption"] == name] or [0.0]
        print(f"{name:20} mean {fmean(drops):+.4f} worst {max(drops):+.4f}")
    data.write_json(options.out, {"key": key, "rows": rows})
    print(f"{options.out}: {time.process_time() - began:.0f} CPU s")


if __name__ == "__main__":
    main()
