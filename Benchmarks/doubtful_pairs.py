"""What the verdict says of pairs that cannot be registered, of sparse ones with a known motion, and of real brains.

    python Benchmarks/doubtful_pairs.py [--only TEXT ...] [--code CHECKOUT --column NAME]

Noise and blobs share nothing; halves of a head lie on a template, the whole head's registration being the truth inside
the half; vessel trees of the lungs have landmarks at their forks. Every row is the whole of `register` on one thread;
noise and blobs, which no iteration can mend, take the quickest preset for brains.
Results are kept by column, so that the same pairs can be run with another checkout of the library and shown side by
side. Needs SPIKEREG_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SPIKEREG_DATA", ROOT.parent / "shared" / "data"))
SMALL, HEADS, DEV = DATA / "small", DATA / "heads", DATA / "dev"
TEMPLATE, HEAD_TEMPLATE = SMALL / "icbm152_2009a_t1brain_2mm.nii.gz", HEADS / "spm152.nii.gz"
BRAINS = ("kirby113_v2_t1brain_2mm", "colin27_t1brain_2mm")
WHOLE_HEADS = ("T1_head_1p6mm", "colin27_t1_2mm")
SPARSE = 5


@dataclass(frozen=True)
class Case:
    """One pair: how it is made, with which preset, and what a right verdict is."""

    name: str
    kind: str
    preset: str
    make: Callable[[], tuple[Any, Any]]
    right: tuple[str, ...]
    points: Callable[[], tuple[Any, Any]] | None = None
    whole: Path | None = None


def cases() -> Iterator[Case]:
    from dev_pairs import listed_pairs
    from doubtful_inputs import blobs, lung_vessels, noise

    from SpikeRegLib.images.volumes import read_image

    for preset in ("fast-preview", "any-anatomy"):
        for sigma in (0.0, 2.0):
            yield Case(
                f"noise, smoothed by {sigma:g}", "noise on a brain", preset,
                lambda s=sigma: (TEMPLATE, noise(1, sigma=s)), ("poor",),
            )  # fmt: skip
        for width in (5.0, 9.0, 18.0):
            yield Case(
                f"blobs of {width:g} mm", "blobs on blobs", preset,
                lambda w=width: (blobs(1, width_mm=w), blobs(2, width_mm=w)), ("poor",),
            )  # fmt: skip
    for name in WHOLE_HEADS:
        for lower in (True, False):
            path = SMALL / f"{name}.nii.gz"
            yield Case(
                f"{'lower' if lower else 'upper'} half of {name}", "half a head", "brain-t1",
                lambda p=path, low=lower: (HEAD_TEMPLATE, half(read_image(p), lower=low)), ("poor", "check"),
                whole=path,
            )  # fmt: skip
    for seed in range(SPARSE):
        yield Case(
            f"lung vessels {seed}", "lung vessels", "any-anatomy",
            lambda s=seed: (lung_vessels(s).fixed, lung_vessels(s).moving), ("check", "poor"),
            points=lambda s=seed: (lung_vessels(s).fixed_points, lung_vessels(s).moving_points),
        )  # fmt: skip
    for name in BRAINS:
        yield Case(
            f"{name} on a template", "brains", "brain-t1", lambda n=name: (TEMPLATE, SMALL / f"{n}.nii.gz"), ("good",)
        )
    for fixed, moving in listed_pairs():
        files = tuple(DEV / f"oasis_{subject}_t1brain.nii.gz" for subject in (fixed, moving))
        yield Case(f"{fixed} and {moving}", "brains", "brain-t1", lambda f=files: f, ("good",))


def half(volume: Any, *, lower: bool) -> Any:
    """The lower or upper half of a volume along the array's first axis, which is up-down in these files."""
    middle = volume.data.shape[0] // 2
    start, stop = (0, middle) if lower else (middle, volume.data.shape[0])
    x, y, z, _ = volume.frame.matrix @ (0.0, 0.0, float(start), 1.0)
    data = volume.data[start:stop].contiguous()
    shape = (data.shape[0], data.shape[1], data.shape[2])
    return replace(volume, data=data, frame=replace(volume.frame, shape=shape, origin=(float(x), float(y), float(z))))


def measure(case: Case) -> dict[str, Any]:
    """Verdict, similarity, error in mm where the truth is known, and CPU seconds."""
    from SpikeRegLib import register

    fixed, moving = case.make()
    settings: dict[str, Any] = {"preset": case.preset, "device": "cpu", "threads": 1}
    done = register(fixed, moving, **settings)
    result = done.result
    row = {
        "kind": case.kind,
        "preset": case.preset,
        "verdict": result["verdict"],
        "expected": list(case.right),
        "right": result["verdict"]["level"] in case.right,
        "similarity": result["similarity"],
        "sdlogj": result["deformation"]["sdlogj"],
        "cpu_s": sum(seconds for stage, seconds in result["cpu_s"].items() if stage != "process"),
        "error_mm": None,
        "error_before_mm": None,
    }
    if case.points is not None:
        first, second = case.points()
        row["error_before_mm"] = float((first - second).norm(dim=1).mean())
        row["error_mm"] = float((done.transform.map_points(first) - second).norm(dim=1).mean())
    if case.whole is not None:
        row["error_mm"] = _error_of_half(done, register(fixed, case.whole, **settings), moving)
    return row


def _error_of_half(done: Any, truth: Any, moving: Any) -> float:
    """Mean distance from the whole head's registration, over fixed voxels of the head that it puts into the half."""
    import torch

    from SpikeRegLib.images.volumes import foreground_mask

    index = torch.nonzero(foreground_mask(done.fixed))[::97].double().flip(1)
    matrix = torch.from_numpy(done.fixed.frame.matrix)
    points = index @ matrix[:3, :3].t() + matrix[:3, 3]
    reached = truth.transform.map_points(points)
    to_index = torch.from_numpy(moving.frame.inverse_matrix)
    where = reached @ to_index[:3, :3].t() + to_index[:3, 3]
    inside = ((where >= 0) & (where <= torch.tensor(moving.frame.size) - 1)).all(1)
    return float((done.transform.map_points(points) - reached)[inside].norm(dim=1).mean())


def table(columns: dict[str, dict[str, Any]]) -> str:
    """Markdown: one line a pair, verdict and error in every column."""
    names = list(columns)
    lines = ["| pair | " + " | ".join(f"{name}: verdict | error, mm" for name in names) + " |"]
    lines.append("|---|" + "---|---|" * len(names))
    for pair in dict.fromkeys(pair for rows in columns.values() for pair in rows):
        cells = []
        for name in names:
            row = columns[name].get(pair)
            error = None if row is None else row["error_mm"]
            cells += [row["verdict"]["level"] if row else "-", "-" if error is None else f"{error:.1f}"]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="pairs whose name or preset holds one of these")
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout whose library is run")
    parser.add_argument("--column", default="now", help="name of the results")
    parser.add_argument("--out", type=Path, default=ROOT / "Benchmarks" / "results" / "doubtful_pairs.json")
    options = parser.parse_args()
    sys.path.insert(0, str(options.code.resolve()))
    import torch

    torch.set_num_threads(1)
    columns: dict[str, dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for case in cases():
        name = f"{case.name} ({case.preset})"
        if any(text in name for text in options.only):
            columns.setdefault(options.column, {})[name] = row = measure(case)
            print(f"{name}: {row['verdict']['level']}, {row['error_mm']} mm", flush=True)
            options.out.write_text(json.dumps(columns, indent=1) + "\n")
    print(table(columns))


if __name__ == "__main__":
    main()
