"""The league table: our presets and what installs from PyPI on a CPU, on the same pairs from the same affine maps.

    python Benchmarks/league.py [--pairs 6] [--methods ...] [--again METHOD ...]

One thread, every method in a process of its own (`league_run.py`, which has the settings), scored alike: Dice and HD95
of the 33 label groups, SDlogJ in the brain, folds as the independent scorer reads them, CPU seconds, peak memory of the
process. The pairs are the first of the 40 of development subjects (`cohort.py`). Rows that are there already are kept,
as long as they are from this machine; a method that is not installed, or fails, is said and left out.

    pip install picsl_greedy antspyx itk-elastix && pip install --no-deps convexAdam fireants
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import evaluation as data
import SimpleITK as sitk
import torch
from evaluation import PairNames
from league_run import METHODS

from SpikeRegLib.quality import metrics
from SpikeRegLib.space.transforms import DisplacementTransform, read_transform, warp_image, write_transform

_RUN = Path(__file__).with_name("league_run.py")


def row_of(method: str, pair: PairNames, cache: Path) -> dict[str, Any]:
    """One method on one pair.

    Raises:
        RuntimeError: it is not installed, or failed; says how.
    """
    fixed, moving = (data.subject_image(name) for name in pair)
    with tempfile.TemporaryDirectory() as folder:
        affine, field = Path(folder) / "affine.tfm", Path(folder) / "field.nii.gz"
        write_transform(data.affine_of(pair, cache)[0], affine)
        words = [sys.executable, str(_RUN), method, str(fixed), str(moving), str(affine), str(field)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode or not field.exists():
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
        spent = json.loads(Path(f"{field}.json").read_text())
        total = read_transform(field).displacement_on(data.grouped_labels(pair[0]).frame)
    return {"pair": list(pair), **data.scored(total, pair), "hd95_mm": distance(total, pair), **spent}


def distance(total: torch.Tensor, pair: PairNames) -> float:
    """Mean over the groups that both have of the 95 % surface distance, mm."""
    fixed, moving = (data.grouped_labels(name) for name in pair)
    warped = warp_image(moving, DisplacementTransform(total, fixed.frame), fixed.frame, interpolation="nearest")
    return fmean(metrics.hd95_mm(fixed, warped).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="M")
    parser.add_argument("--again", nargs="+", default=[], choices=list(METHODS), metavar="M")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "spikereg-benchmarks")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "league.json")
    options = parser.parse_args()
    data.one_thread()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    kept = json.loads(options.out.read_text()) if options.out.is_file() else {}
    methods: dict[str, list[dict[str, Any]]] = kept.get("methods", {}) if kept.get("machine") == data.machine() else {}
    for name in options.again:
        methods.pop(name, None)
    pairs = data.cohort_pairs()[: options.pairs]
    for pair in pairs:
        for name in options.methods:
            if any(row["pair"] == list(pair) for row in methods.get(name, [])):
                continue
            try:
                row = row_of(name, pair, options.cache)
            except RuntimeError as error:
                print(f"{name}: {error}", flush=True)
                continue
            methods.setdefault(name, []).append(row)
            data.write_json(options.out, {"machine": data.machine(), "methods": methods})
            shown = {
                figure: round(row[figure], 3) for figure in ("dice", "hd95_mm", "sdlogj", "folding_percent", "cpu_s")
            }
            print(name, *pair, shown, flush=True)


if __name__ == "__main__":
    main()
