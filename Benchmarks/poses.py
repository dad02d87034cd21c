"""Heads in any pose: how far off the start between their structures is, and what finding them costs.

    python Benchmarks/poses.py [--poses 100] [--out Benchmarks/results/poses.json]

Every pose is one image (stripped brains of 13 development subjects, two whole heads in every sixth pose) turned by any
rotation, moved by up to 80 mm along every axis and, in two of three poses, cut by the field of view so that up to a
quarter of the head is lost; its header says nothing of this. The affine map between the structures found in the image
as it is and as it is posed is compared with the true one over all voxels of the brain: mean distance in mm. CPU seconds
are those of finding the posed head.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from evaluation import DATA, RESULTS, one_thread, subject_image, subjects

from SpikeRegLib.anatomy.layout import fit_affine
from SpikeRegLib.anatomy.model import StructureModel, load_structure_model
from SpikeRegLib.anatomy.pose import FoundHead, find_head
from SpikeRegLib.images.boxes import bounding_box
from SpikeRegLib.images.frames import world_aligned
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.space.transforms import AffineTransform, warp_image

WHOLE = "colin27_t1_2mm.nii.gz", "T1_head_1p6mm.nii.gz"
MOVED_MM, MOST_CUT, SPACING_MM = 80.0, 0.25, 1.6
NEAR_MM = 5.0


def rotation(random: np.random.Generator) -> np.ndarray:
    """[3, 3] uniformly distributed, from a normal quaternion."""
    w, x, y, z = random.normal(size=4)
    return np.reshape(sitk.VersorTransform((x, y, z, w)).GetMatrix(), (3, 3))


def posed(image: Volume, random: np.random.Generator, *, cut: bool) -> tuple[Volume, np.ndarray, float]:
    """The image in another pose, the map [4, 4] from where a point was to where it is, and the share that is lost."""
    middle = image.frame.to_mm((np.array(image.frame.size) - 1) / 2)
    there = np.eye(4)
    there[:3, :3] = rotation(random)
    there[:3, 3] = middle + random.uniform(-MOVED_MM, MOVED_MM, 3) - there[:3, :3] @ middle
    corners = image.frame.corners() @ there[:3, :3].T + there[:3, 3]
    frame = world_aligned(corners.min(0), corners.max(0), SPACING_MM)
    moved = warp_image(image, AffineTransform(np.linalg.inv(there)), frame)
    seen = moved.data > 0.05 * float(torch.quantile(moved.data.flatten()[::7], 0.995))
    box = bounding_box(seen)
    assert box is not None
    low, high = (list(side) for side in box)
    if cut:
        axis, lost = int(random.integers(3)), float(random.uniform(0, MOST_CUT))
        along = seen.sum([other for other in range(3) if other != axis]).double().cumsum(0) / seen.sum()
        if random.random() < 0.5:
            low[axis] = int((along < lost).sum())
        else:
            high[axis] = int((along <= 1 - lost).sum())
    k, j, i = low
    shape = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
    part = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    left = Volume(moved.data[part].contiguous(), frame.part((i, j, k), (shape[0], shape[1], shape[2])))
    return left, there, 1 - float(seen[part].sum()) / float(seen.sum())


def row_of(tool: StructureModel, name: str, image: Volume, usual: FoundHead, number: int) -> dict[str, Any]:
    moved, there, lost = posed(image, np.random.default_rng(number), cut=number // 6 % 3 > 0)
    begin = time.process_time()
    found = find_head(tool.network, tool.layout, moved)
    seconds = time.process_time() - begin
    fit = fit_affine(usual.places, found.places) if found.check.head else None
    off = None
    if fit is not None:
        index = usual.brain.inside.nonzero()[::50].flip(1).double().numpy()
        points = np.c_[usual.brain.frame.to_mm(index), np.ones(len(index))]
        off = float(np.linalg.norm((points @ (fit.matrix - there).T)[:, :3], axis=1).mean())
    row = {"image": name, "lost": lost, "off_mm": off, "readings": found.readings, "cpu_s": seconds}
    print(
        number, {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}, flush=True
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS / "poses.json")
    options = parser.parse_args()
    one_thread()
    tool = load_structure_model()
    files = [DATA / "small" / name for name in WHOLE] + [subject_image(name) for name in subjects()]
    rows, usual = [], {}
    for number in range(options.poses):
        # Neither kind always cut, nor always whole.
        whole = files[: len(WHOLE)] if number % 6 == 0 else files[len(WHOLE) :]
        file = whole[number // 2 % len(whole)]
        image = replace(read_image(file), name=file.name)
        if file not in usual:
            usual[file] = find_head(tool.network, tool.layout, image)
        rows.append(row_of(tool, file.name, image, usual[file], number))
        write(options.out, tool, rows)
    print({key: value for key, value in json.loads(options.out.read_text()).items() if key != "rows"})


def write(path: Path, tool: StructureModel, rows: list[dict[str, Any]]) -> None:
    found = [row["off_mm"] for row in rows if row["off_mm"] is not None]
    result = {
        "network": tool.sha256,
        "poses": len(rows),
        "within_5_mm": sum(off <= NEAR_MM for off in found),
        "not_found": len(rows) - len(found),
        "mean_off_mm": fmean(found) if found else None,
        "most_off_mm": max(found, default=None),
        "mean_cpu_s": fmean(row["cpu_s"] for row in rows),
        "most_cpu_s": max(row["cpu_s"] for row in rows),
        "rows": rows,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
