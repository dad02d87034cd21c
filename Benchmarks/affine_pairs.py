"""Rigid and affine alignment of the development pairs: Dice by the independent scorer and CPU seconds.

    python Benchmarks/affine_pairs.py [--threads N]

Needs the evaluation data: SPIKEREG_DATA, by default ../shared/data beside the repository, with ../score next to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dev_pairs import listed_pairs

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SPIKEREG_DATA", ROOT.parent / "shared" / "data"))


def score(fixed: str, moving: str, transform: Path) -> float:
    """Mean Dice over the label groups."""
    dev = DATA / "dev"
    command = [sys.executable, DATA.parent / "score" / "score.py", "--transform", transform]
    command += ["--fixed-seg", dev / f"oasis_{fixed}_seg.nii.gz", "--moving-seg", dev / f"oasis_{moving}_seg.nii.gz"]
    command += ["--groups", dev / "label_groups.json"]
    answer = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    return float(json.loads(answer)["dice_mean"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.path.insert(0, str(ROOT))
    import torch

    from SpikeRegLib.affine import align
    from SpikeRegLib.images.volumes import read_image
    from SpikeRegLib.space.transforms import write_transform

    torch.set_num_threads(threads)
    rows: list[tuple[float, ...]] = []
    print(f"{'pair':<12}{'Dice rigid':>12}{'Dice affine':>13}{'CPU s rigid':>13}{'CPU s affine':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for fixed, moving in listed_pairs():
            images = [read_image(DATA / "dev" / f"oasis_{name}_t1brain.nii.gz") for name in (fixed, moving)]
            row: dict[str, tuple[float, float]] = {}
            for model in ("rigid", "affine"):
                begin = time.process_time()
                alignment = align(*images, model=model)
                seconds = time.process_time() - begin
                path = Path(folder) / f"{fixed}_{moving}_{model}.tfm"
                write_transform(alignment.transform, path)
                row[model] = (score(fixed, moving, path), seconds)
                for warning in alignment.warnings:
                    print(f"{fixed}_{moving} {model}: {warning}")
            rows.append((row["rigid"][0], row["affine"][0], row["rigid"][1], row["affine"][1]))
            print_row(f"{fixed}_{moving}", rows[-1])
    print_row("mean", tuple(sum(column) / len(rows) for column in zip(*rows, strict=True)))


def print_row(name: str, values: tuple[float, ...]) -> None:
    rigid, affine, rigid_seconds, affine_seconds = values
    print(f"{name:<12}{rigid:>12.4f}{affine:>13.4f}{rigid_seconds:>13.2f}{affine_seconds:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
