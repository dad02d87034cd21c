"""The network that names structures against manual labels: Dice of 32 structures and of the brain on dev subjects.

    python Benchmarks/structures.py [--model FILE] [--out Benchmarks/results/structures.json]

Every brain is read once, on one thread; the labels are compared on the network's grid of 2 mm. CSF outside the brain's
chambers (24) has no like in the manual labels and is left out. The 13 subjects are development subjects.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean

import torch
from evaluation import ROOT, grouped_labels, subject_image, subjects

from SpikeRegLib.anatomy.reading import read_structures
from SpikeRegLib.anatomy.structures import CLASS_OF, CSF
from SpikeRegLib.images.volumes import read_image
from SpikeRegLib.models import load_model
from SpikeRegLib.space.transforms import AffineTransform, warp_image
from SpikeRegLib.spiking.unet import AnalogUNet


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    return 2 * float((first & second).sum()) / max(1.0, float(first.sum() + second.sum()))


def row_of(network: AnalogUNet, subject: str) -> dict:
    image = read_image(subject_image(subject))
    begin = time.process_time()
    maps = read_structures(network, image)
    seconds = time.process_time() - begin
    labels = warp_image(grouped_labels(subject), AffineTransform.identity(), maps.frame, interpolation="nearest").data
    found, dice = maps.classes, {}
    for label, place in CLASS_OF.items():
        if label != CSF and bool((labels == label).any()):
            dice[str(label)] = overlap(found == place, labels == label)
    facts = {"subject": subject, "mean": fmean(dice.values()), "worst": min(dice.values())}
    facts |= {"brain": overlap(found > 0, labels > 0), "cpu_s": seconds, "dice": dice}
    print({key: value for key, value in facts.items() if key != "dice"}, flush=True)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "SpikeRegLib/weights/structures-teacher.safetensors")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_model(options.model, kind="analog")
    if not subjects():
        raise SystemExit("no brains found; set SPIKEREG_DATA (see CONTRIBUTING.md)")
    rows = [row_of(network, subject) for subject in subjects()]
    dice, brain = (fmean(row[name] for row in rows) for name in ("mean", "brain"))
    print(f"mean of {len(rows)}: Dice {dice:.4f}, brain {brain:.4f}")
    if options.out:
        options.out.write_text(json.dumps({"model": options.model.stem, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
