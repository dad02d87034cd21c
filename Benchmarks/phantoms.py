"""The errors of `spikereg phantom` on the bundled heads.

python Benchmarks/phantoms.py [--out Benchmarks/results/phantoms.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from SpikeRegLib.commands.demo import SAMPLE
from SpikeRegLib.commissioning import KINDS
from SpikeRegLib.commissioning.campaign import commission


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).resolve().parent / "results"
    parser.add_argument("--out", type=Path, default=results / "phantoms.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    heads = {"head-1": SAMPLE / "fixed.nii.gz", "head-2": SAMPLE / "moving.nii.gz"}
    with tempfile.TemporaryDirectory() as folder:
        found = commission(heads, KINDS, Path(folder), threads=1)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
