"""What each use of the structures gives: overlap, roughness and cost of `register` with some of them switched off.

    python Benchmarks/anatomy_uses.py [--pairs 8] [--variants all ...] [--out Benchmarks/results/anatomy_uses.json]

Variants: every use; none; each use alone; every use with the coarse levels optimised one way; and every use with the
maps of the dense network that the spiking one began as. The pairs are the first of the 40 of development subjects
(`cohort.py`), one thread, one process; a map is scored with the 33 label groups as the independent scorer does it. Rows
that are there already are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import evaluation as data
import torch
from evaluation import PairNames

from SpikeRegLib import models
from SpikeRegLib.pipeline import register
from SpikeRegLib.presets.preset import load_preset, write_preset

VARIANTS = {
    "all": {},
    "none": {"structures": "none"},
    "start": {"structures": "start"},
    "refinement": {"structures": "refinement"},
    "start, refinement": {"structures": "start,refinement"},
    "all, one way": {},
    "all, dense maps": {},
}


def dense_preset(preset: str, folder: Path) -> Path:
    """The preset with the dense network, in a file that carries the layout of the spiking one."""
    chosen = load_preset(preset)
    spiking, dense = (models.find(name, "spikereg") for name in (chosen.structures, f"{chosen.structures}-teacher"))
    facts = {**models.read_header(dense).facts, "layout": models.read_header(spiking).facts["layout"]}
    models.save_model(models.load_model(dense), folder / "dense.safetensors", facts)
    path = folder / "brain-dense.toml"
    write_preset(replace(chosen, structures=str(folder / "dense.safetensors")), path)
    return path


def one_way_preset(preset: str, folder: Path) -> Path:
    """The preset with every level optimised fixed -> moving alone."""
    chosen, path = load_preset(preset), folder / "brain-one-way.toml"
    write_preset(replace(chosen, refine=replace(chosen.refine, both_ways=0)), path)
    return path


# How a variant's preset is made of the given one, where it is another.
PRESETS = {"all, one way": one_way_preset, "all, dense maps": dense_preset}


def row_of(pair: PairNames, preset: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    fixed, moving = (data.subject_image(name) for name in pair)
    found = register(fixed, moving, preset=preset, threads=1, **options)
    anatomy = found.result["anatomy"] or {}
    return {
        "pair": list(pair),
        **data.scored(found.displacement, pair),
        "cpu_s": sum(found.result["cpu_s"][step] for step in ("prepare", "align", "predict", "refine", "finish")),
        "stages_cpu_s": found.result["cpu_s"],
        "agreement": anatomy.get("agreement"),
        "verdict": found.result["verdict"]["level"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="brain")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="V")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "anatomy_uses.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = models.sha256(models.find(load_preset(options.preset).structures, "spikereg"))
    kept = json.loads(options.out.read_text()) if options.out.is_file() else {}
    variants = kept.get("variants", {}) if kept.get("network") == network else {}
    pairs = data.cohort_pairs()[: options.pairs]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.variants:
            make = PRESETS.get(name)
            preset = options.preset if make is None else make(options.preset, Path(folder))
            rows = variants.setdefault(name, [])
            for pair in pairs:
                if not any(row["pair"] == list(pair) for row in rows):
                    rows.append(row_of(pair, preset, VARIANTS[name]))
                    result = {"preset": options.preset, "network": network, "variants": variants}
                    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            here = [row for row in rows if tuple(row["pair"]) in pairs]
            means = {figure: fmean(row[figure] for row in here) for figure in ("dice", "sdlogj", "cpu_s")}
            folds, worst = max(row["folding_percent"] for row in here), min(row["dice"] for row in here)
            print(name, {key: round(value, 4) for key, value in means.items()}, f"worst {worst:.4f} folds {folds:.4f}")


if __name__ == "__main__":
    main()
