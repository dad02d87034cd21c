"""The network that names structures: Dice against manual labels, whole heads, other contrasts, spikes and energy.

    python Benchmarks/structures.py [--model NAME] [--views N] [--out Benchmarks/results/structures.json]

Stripped T1-weighted brains of the 13 development subjects: every brain is read on one thread, looked at from as many
sides as in a registration, and compared with manual labels on the network's grid of 2 mm; the Dice of one look stands
beside it. CSF outside the brain's chambers (24) has no like in those labels and is
left out. Then one whole head (Colin) against where its stripped version is not empty, and the T2-weighted and FLAIR
images of one subject (kirby) against what the network says of the T1-weighted one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from evaluation import DATA, grouped_labels, subject_image, subjects

from SpikeRegLib.anatomy.reading import VIEWS, Reader, StructureMaps
from SpikeRegLib.anatomy.structures import CLASS_OF, CSF
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.models import find, load_model
from SpikeRegLib.space.transforms import AffineTransform, warp_image

HEAD = "colin27_t1_2mm.nii.gz", "colin27_t1brain_2mm.nii.gz"
T1, *OTHERS = (f"kirby113_v2_{kind}brain_2mm.nii.gz" for kind in ("t1", "t2", "flair"))


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    return 2 * float((first & second).sum()) / max(1.0, float(first.sum() + second.sum()))


def on_grid(labels: Volume, maps: StructureMaps) -> torch.Tensor:
    return warp_image(labels, AffineTransform.identity(), maps.frame, interpolation="nearest").data


def overlaps(found: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Dice of every structure that a person drew."""
    return {
        str(label): overlap(found == place, labels == label)
        for label, place in CLASS_OF.items()
        if label != CSF and bool((labels == label).any())
    }


def row_of(reader: Reader, subject: str, views: int) -> dict[str, Any]:
    image = read_image(subject_image(subject))
    begin = time.process_time()
    reading = reader.begin(image)
    first = reading.look(1)
    one_look_s = time.process_time() - begin
    maps = reading.look(views)
    seconds = time.process_time() - begin
    labels = on_grid(grouped_labels(subject), maps)
    dice, one_look = overlaps(maps.classes, labels), overlaps(first.classes, labels)
    facts: dict[str, Any] = {"subject": subject, "mean": fmean(dice.values()), "worst": min(dice.values())}
    facts |= {"one_look": fmean(one_look.values()), "one_look_cpu_s": one_look_s}
    facts |= {"brain": overlap(maps.classes > 0, labels > 0), "cpu_s": seconds}
    if maps.layers and maps.energy is not None:
        energy = maps.energy.as_result()
        facts["rate"] = sum(layer.count for layer in maps.layers) / sum(layer.neuron_updates for layer in maps.layers)
        facts |= {name: energy[name] for name in ("snn_mj", "ann_mj", "synaptic_ops", "reduction_vs_twin")}
    print(facts, flush=True)
    return facts | {"dice": dice}


def agreement(reader: Reader, name: str, other: str, views: int) -> float:
    """Mean Dice over the structures of two images of one subject on one grid."""
    first, second = (reader.begin(read_image(DATA / "small" / file)).look(views) for file in (name, other))
    seen = on_grid(Volume(second.classes.to(torch.int16), second.frame), first)
    return fmean(overlap(first.classes == place, seen == place) for place in CLASS_OF.values())


def beyond(reader: Reader, views: int) -> dict[str, float]:
    """Whole heads and other contrasts."""
    whole, stripped = (read_image(DATA / "small" / name) for name in HEAD)
    maps = reader.begin(whole).look(views)
    brain = on_grid(Volume((stripped.data > 0).to(torch.int16), stripped.frame), maps) > 0
    return {"whole head, brain": overlap(maps.classes > 0, brain)} | {
        f"{name.split('_')[2].removesuffix('brain')} with t1": agreement(reader, T1, name, views) for name in OTHERS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="structures", help="name or file")
    parser.add_argument("--views", type=int, default=len(VIEWS), help="looks at each image")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reader = Reader(load_model(find(options.model, "spikereg")))
    if not subjects():
        raise SystemExit("no brains found; set SPIKEREG_DATA (see CONTRIBUTING.md)")
    rows = [row_of(reader, subject, options.views) for subject in subjects()]
    others = beyond(reader, options.views)
    dice, one, brain = (fmean(row[name] for row in rows) for name in ("mean", "one_look", "brain"))
    print(f"mean of {len(rows)}: Dice {dice:.4f}, of one look {one:.4f}, brain {brain:.4f}; {others}")
    if options.out:
        result = {"model": Path(options.model).stem, "views": options.views, "rows": rows, "beyond": others}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
