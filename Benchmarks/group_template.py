"""The template of all development brains by `spikereg group`, and pairs registered through it.

    python Benchmarks/group_template.py [--pairs 24] [--out Benchmarks/results/group_template.json]

The command is run as a process of its own, on one thread. Then, for ordered pairs of subjects of which each is equally
often fixed and moving, the labels of the moving one are carried onto the fixed one twice: through the template (fixed
-> template -> moving, both transforms as the command wrote them) and by a registration of the pair with the same
preset. Both are scored alike, see `evaluation.scored`; seconds are CPU seconds. What is finished is kept in the cache
folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import SimpleITK as sitk
from evaluation import (
    ROOT,
    add_arguments,
    balanced_pairs,
    digest,
    library_stamp,
    one_thread,
    scored,
    side,
    subject_image,
    subjects,
    write_json,
)

from SpikeRegLib.pipeline import register
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.space.transforms import compose, read_transform


def built(preset: str, iterations: int, cache: Path) -> Path:
    """The folder of the group, built where it is not there."""
    names = subjects()
    files = [subject_image(name) for name in names]
    folder = cache / f"group-{digest(preset, iterations, library_stamp(network=True), names)}"
    if not (folder / "group.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        listed = cache / "group.csv"
        lines = [f"{name},{file}\n" for name, file in zip(names, files, strict=True)]
        listed.write_text("id,image\n" + "".join(lines))
        command = [sys.executable, "-m", "SpikeRegLib", "group", "--images", str(listed), "--out", str(folder)]
        command += ["--preset", preset, "--iterations", str(iterations), "--threads", "1", "--progress", "none"]
        subprocess.run(command, check=True, cwd=ROOT)
    return folder


def sharpness(path: Path) -> float:
    """Mean length of the gradient, a voxel, where the image is not empty; images of mean 1."""
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float64)
    inside = values > 0.02 * values.max()
    length = np.sqrt(sum(slope**2 for slope in np.gradient(values / values[inside].mean())))
    return float(length[inside].mean())


def direct(pair: tuple[str, str], preset: str, cache: Path) -> dict[str, float]:
    """The figures of a pair registered by itself."""
    path = cache / "direct" / f"{pair[0]}_{pair[1]}-{digest(preset, library_stamp(network=True))}.json"
    if not path.is_file():
        begin = time.process_time()
        found = register(subject_image(pair[0]), subject_image(pair[1]), preset=preset, threads=1, device="cpu")
        seconds = time.process_time() - begin
        write_json(path, {**scored(found.displacement, pair), "cpu_s": seconds})
    row: dict[str, float] = json.loads(path.read_text())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "group_template.json")
    parser.set_defaults(preset="brain")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=3)
    options = parser.parse_args()
    one_thread()
    load_preset(options.preset)
    folder = built(options.preset, options.iterations, options.cache)
    group = json.loads((folder / "group.json").read_text())
    # Against that of the subjects' own images.
    sharp = sharpness(folder / "template.nii.gz") / fmean(sharpness(subject_image(name)) for name in subjects())
    rows: list[dict[str, Any]] = []
    for pair in balanced_pairs(subjects(), [], options.pairs, 0):
        ways = folder / "subjects"
        whole = compose(
            read_transform(ways / pair[0] / "to_template.h5"), read_transform(ways / pair[1] / "to_subject.h5")
        )
        through = scored(whole.displacement_on(side(pair[0]).image.frame), pair)
        row = {"pair": list(pair), "through": through, "direct": direct(pair, options.preset, options.cache)}
        print(pair, *(f"{name} {row[name]['dice']:.4f}" for name in ("through", "direct")), flush=True)
        rows.append(row)
        write_json(options.out, _summary(group, sharp, rows))


def _summary(group: dict[str, Any], sharp: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    differences = [row["through"]["dice"] - row["direct"]["dice"] for row in rows]
    return {
        "preset": group["preset"],
        "iterations": group["iterations"],
        "subjects": len(group["subjects"]),
        "group_cpu_s": group["cpu_s"]["with_earlier_runs"],
        "peak_memory_mb": group["peak_memory_mb"],
        "bias_mm": group["bias_mm"],
        "rounds": [{name: value for name, value in one.items() if name != "cpu_s"} for one in group["rounds"]],
        "sharpness": sharp,
        "pairs": len(rows),
        "dice_through": fmean(row["through"]["dice"] for row in rows),
        "dice_direct": fmean(row["direct"]["dice"] for row in rows),
        "dice_difference": fmean(differences),
        "dice_difference_se": float(np.std(differences, ddof=1) / len(rows) ** 0.5) if len(rows) > 1 else None,
        "folding_percent": max(row["through"]["true_folding_percent"] for row in rows),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
