"""Registrations of images that are known in part: a lesion, a cut field of view, electrodes.

    python Benchmarks/partly_known.py [--only lesion slab electrodes] [--out Benchmarks/results/partly_known.json]

lesion: 30 mm of a development brain replaced by dark tissue, as it is, left out, and outside of a given mask; against
the run of the healthy brain. Volume of the region relative to that run, mean difference within 10 mm of it.
slab: a part of a head onto the whole head it was cut from, either one fixed; nothing should move. Mean and 99th
percentile of what does inside the part, and the most elsewhere.
electrodes: 60 balls, 1,000 against 255, on the scalp of one of two heads; how far the deep brain moves from where the
run without them puts it. One thread, the presets' own settings. The file is written after every run. Data:
$SPIKEREG_DATA (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from SpikeRegLib.images.frames import Frame  # noqa: E402
from SpikeRegLib.images.volumes import Volume, foreground_mask, read_image  # noqa: E402
from SpikeRegLib.pipeline import register  # noqa: E402
from SpikeRegLib.pipeline.registration import Registration  # noqa: E402
from SpikeRegLib.space.transforms import Transform, warp_image  # noqa: E402

DATA = Path(os.environ.get("SPIKEREG_DATA", ROOT.parent / "shared" / "data"))
HEADS = {"head 1.6 mm": "small/T1_head_1p6mm.nii.gz", "template": "heads/spm152.nii.gz"}
LESIONS = (("1000", "1110", (32.0, 10.0, 20.0)), ("1119", "1001", (-30.0, 15.0, 15.0)))
CUTS = ("sagittal", "above", "below", "front")
RADIUS_MM = 15.0


def places(frame: Frame, index: torch.Tensor) -> torch.Tensor:
    """[N, 3] LPS mm of array indices [N, 3] (k, j, i)."""
    matrix = torch.from_numpy(frame.matrix)
    return index.flip(1).double() @ matrix[:3, :3].t() + matrix[:3, 3]


def run(fixed: Volume, moving: Volume, preset: str, **options: Volume) -> tuple[Registration, float]:
    begin = time.process_time()
    found = register(fixed, moving, preset=preset, threads=1, device="cpu", **options)  # type: ignore[arg-type]
    return found, time.process_time() - begin


def row(name: str, found: Registration, seconds: float, **figures: float) -> dict:
    facts = {"case": name, **figures, "verdict": found.result["verdict"]["level"], "cpu_s": seconds}
    print({key: round(value, 3) if isinstance(value, float) else value for key, value in facts.items()}, flush=True)
    return facts


def lesions(presets: tuple[str, ...] = ("brain-t1", "any-anatomy")) -> Iterator[dict]:
    for first, second, offset in LESIONS:
        fixed, moving = (read_image(DATA / f"dev/oasis_{name}_t1brain.nii.gz") for name in (first, second))
        brain = foreground_mask(moving)
        points = places(moving.frame, brain.nonzero())
        centre = (points.amin(0) + points.amax(0)) / 2 + torch.tensor(offset)
        inside = torch.zeros_like(brain)
        inside[brain] = (points - centre).norm(dim=1) < RADIUS_MM
        tissue = float(moving.data[brain].quantile(0.9))
        noise = tissue * (0.3 + 0.05 * torch.randn(brain.shape, generator=torch.Generator().manual_seed(0)))
        ill = replace(moving, data=torch.where(inside, noise, moving.data))
        where = Volume(inside.float(), moving.frame)
        sampled = places(fixed.frame, foreground_mask(fixed).nonzero()[::3])
        ways: dict[str, dict[str, Volume]] = {
            "as it is": {},
            "left out": {"moving_leave_out": Volume(inside.to(torch.int16), moving.frame)},
            "outside the mask": {"moving_mask": Volume((brain & ~inside).to(torch.int16), moving.frame)},
        }
        for preset in presets:
            healthy, _ = run(fixed, moving, preset)
            right = healthy.transform.map_points(sampled)
            near = ((right - centre).norm(dim=1) - RADIUS_MM - 5).abs() < 5
            whole = float(warp_image(where, healthy.transform, fixed.frame).data.sum())
            for way, options in ways.items():
                found, seconds = run(fixed, ill, preset, **options)
                wrong = (found.transform.map_points(sampled) - right).norm(dim=1)
                yield row(
                    f"lesion, {first} {second}, {preset}, {way}", found, seconds,
                    volume=float(warp_image(where, found.transform, fixed.frame).data.sum()) / whole,
                    within_10_mm=float(wrong[near].mean()),
                )  # fmt: skip


def part(volume: Volume, head: torch.Tensor, cut: str) -> Volume:
    """A sagittal slab of 62 mm, or what a quarter of the head less leaves."""
    axis = {"sagittal": 0, "front": 1}.get(cut, 2)  # of LPS; the images' axes are nearly the patient's
    there = head.movedim(2 - axis, 0).flatten(1).any(1).nonzero()[:, 0]
    low, high, length = int(there[0]), int(there[-1]) + 1, volume.data.shape[2 - axis]
    if cut == "sagittal":
        half = round(31 / volume.frame.spacing[axis])
        begin, end = (low + high) // 2 - half, (low + high) // 2 + half
    else:
        upper = (cut == "above") == (volume.frame.matrix[axis, axis] > 0)
        quarter = (high - low) // 4
        begin, end = (0, high - quarter) if upper else (low + quarter, length)
    corner = np.array([0.0, 0.0, 0.0, 1.0])
    corner[axis] = begin
    x, y, z = (float(v) for v in (volume.frame.matrix @ corner)[:3])
    data = volume.data.narrow(2 - axis, begin, end - begin).contiguous()
    depth, height, width = data.shape
    return replace(volume, data=data, frame=replace(volume.frame, shape=(depth, height, width), origin=(x, y, z)))


def slabs(preset: str = "any-anatomy") -> Iterator[dict]:
    for cut in CUTS:
        for name, path in HEADS.items():
            whole = read_image(DATA / path)
            head = foreground_mask(whole)
            points = places(whole.frame, head.nonzero()[::7])
            seen = part(whole, head, cut)
            inverse = torch.from_numpy(seen.frame.inverse_matrix)
            index = points @ inverse[:3, :3].t() + inverse[:3, 3]
            inside = ((index >= 0) & (index <= torch.tensor(seen.frame.size).double() - 1)).all(1)
            for role, pair in (("moving", (whole, seen)), ("fixed", (seen, whole))):
                found, seconds = run(*pair, preset)
                moved = (found.transform.map_points(points) - points).norm(dim=1)
                yield row(
                    f"slab, {name}, {cut}, {role}", found, seconds, mean_mm=float(moved[inside].mean()),
                    p99_mm=float(moved[inside].quantile(0.99)), elsewhere_max_mm=float(moved[~inside].max()),
                )  # fmt: skip


def with_electrodes(volume: Volume, head: torch.Tensor, radius_mm: float, count: int = 60) -> Volume:
    """Balls on the scalp, spread evenly over the upper half."""
    points = places(volume.frame, head.nonzero())
    top = float(points[:, 2].max())
    centre = (points.amin(0) + points.amax(0)) / 2
    centre[2] = top - 90
    height = 0.1 + 0.9 * (torch.arange(count).double() + 0.5) / count
    turn = np.pi * (1 + 5**0.5) * torch.arange(count).double()
    ring = (1 - height**2).sqrt()
    data, bright = volume.data.clone(), float(volume.data.max()) * 1000 / 255
    towards = points - centre
    index = head.nonzero()
    for direction in torch.stack((ring * turn.cos(), ring * turn.sin(), height), 1):
        along = towards @ direction
        beside = (towards - along[:, None] * direction).norm(dim=1)
        outermost = points[torch.where(beside < 3, along, torch.tensor(-1e9, dtype=torch.float64)).argmax()]
        there = index[(points - outermost).norm(dim=1) < radius_mm]
        data[there[:, 0], there[:, 1], there[:, 2]] = bright
    return replace(volume, data=data)


def deep_difference(first: Transform, second: Transform, fixed: Volume) -> torch.Tensor:
    """[N] mm between two maps within 45 mm of a point 80 mm below the vertex."""
    points = places(fixed.frame, foreground_mask(fixed).nonzero()[::7])
    middle = (points.amin(0) + points.amax(0)) / 2
    middle[2] = points[:, 2].max() - 80
    deep = points[(points - middle).norm(dim=1) < 45]
    return (first.map_points(deep) - second.map_points(deep)).norm(dim=1)


def electrodes(preset: str = "any-anatomy") -> Iterator[dict]:
    head, template = (read_image(DATA / path) for path in HEADS.values())
    inside = foreground_mask(head)
    plain, _ = run(template, head, preset)
    for radius in (3.0, 5.0, 6.0):
        bright = with_electrodes(head, inside, radius)
        found, seconds = run(template, bright, preset)
        apart = deep_difference(plain.transform, found.transform, template)
        share = 100 * float((bright.data != head.data).sum()) / float(inside.sum())
        yield row(
            f"electrodes of {radius:g} mm radius", found, seconds, head_percent=share, mean_mm=float(apart.mean()),
            max_mm=float(apart.max()),
        )  # fmt: skip


EXPERIMENTS = {"lesion": lesions, "slab": slabs, "electrodes": electrodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kept = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name in options.only:
        kept[name] = []
        for facts in EXPERIMENTS[name]():
            kept[name].append(facts)
            if options.out:
                options.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
