"""Labels carried from one subject to another through a third one, whom both were registered to in T1 or in T2.

    python Benchmarks/multicontrast_subjects.py [--subjects N] [--rows "T2 brain-multicontrast" ...]

No two subjects with labels were imaged in different contrasts here. One subject without labels was, in one session:
T1-weighted brains of others are registered to his T1 or to his T2 image, and the overlap of labels after going to him
and on to another one tells how good these registrations are, those to T1 being the measure of what is possible.
Everything as a user runs it, the affine alignment included; one thread. Rows that are not named stay as they were.
Data: $SPIKEREG_DATA (see CONTRIBUTING.md), Kirby 113 and the development brains.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from statistics import fmean

import evaluation as data

from SpikeRegLib import register
from SpikeRegLib.space.transforms import CompositeTransform

BETWEEN = {name: data.DATA / "small" / f"kirby113_v2_{name.lower()}brain.nii.gz" for name in ("T1", "T2")}
# Contrast of the subject between, and preset.
ROWS = ("T1 brain-t1", "T1 any-anatomy", "T1 brain-multicontrast", "T2 brain-multicontrast", "T2 any-anatomy")
ROWS += ("T1 brain", "T2 brain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="'CONTRAST PRESET'")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "multicontrast_subjects.json")
    options = parser.parse_args()
    data.one_thread()
    names = data.subjects()[: options.subjects]
    stored = json.loads(options.out.read_text()) if options.out.exists() else {"subjects": []}
    kept = stored["rows"] if stored["subjects"] == names else []
    rows = {f"{row['contrast']} {row['preset']}": row for row in kept}
    for row in options.rows:
        contrast, preset = row.split()
        found = {
            name: register(BETWEEN[contrast], data.subject_image(name), preset=preset, threads=1, device="cpu")
            for name in names
        }
        dice = {}
        for fixed, moving in itertools.permutations(names, 2):
            there_and_on = CompositeTransform([found[fixed].inverse, found[moving].transform])
            labels = [data.grouped_labels(name) for name in (fixed, moving)]
            dice[f"{fixed}_{moving}"] = data.overlap(there_and_on.displacement_on(labels[0].frame), *labels)
        results = [registration.result for registration in found.values()]
        rows[row] = {
            "machine": data.machine(),
            "contrast": contrast,
            "preset": preset,
            "dice": fmean(dice.values()),
            "folding_percent": fmean(result["deformation"]["folding_percent"] for result in results),
            "cpu_s": fmean(sum(v for k, v in result["cpu_s"].items() if k != "process") for result in results),
            "dice_per_pair": dice,
        }
        print(row, f"Dice {rows[row]['dice']:.4f}, {rows[row]['cpu_s']:.1f} CPU s", flush=True)
    in_order = sorted(rows, key=lambda row: (*ROWS, row).index(row))
    data.write_json(options.out, {"subjects": names, "rows": [rows[row] for row in in_order]})


if __name__ == "__main__":
    main()
