"""What the verdict says of 200 results that are known to be right or wrong.

    python Benchmarks/wrong_pairs.py [--kinds right local ...] [--out Benchmarks/results/wrong_pairs.json]

Pairs of development brains, preset `brain`, one thread:

- `right`: 40 pairs, registered.
- `local`: a registered pair, one place of which was then pushed by 8 to 20 mm over 12 to 20 mm.
- `half aligned`: the alignment is off by 12 to 30 mm or by 15 to 35 degrees, and not refined.
- `half aligned, refined`: the same, and the deformation is looked for from there.
- `mirrored`: the alignment takes left to right, or front to back, and is not refined.
- `mirrored, refined`: the same, refined.
- `other organ`: a brain on vessels of the lungs, blobs, noise or a micro-CT of an iguana, or the other way round.

A local push is made in the refinement, from which all that follows is run as ever; wrong alignments are given as an
initial transform. Each row keeps the figures that the verdict goes by. Rows that are there are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluation as data
import numpy as np
import torch
from doubtful_inputs import blobs, lung_vessels, noise

from SpikeRegLib import register
from SpikeRegLib.images.volumes import Volume, foreground_mask, read_image
from SpikeRegLib.options.options import Options
from SpikeRegLib.pipeline.engine import choices, run_plan
from SpikeRegLib.pipeline.plan import PLANS, Plan
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.progress import Clock, silent
from SpikeRegLib.similarity.pair import Deformation, Pair
from SpikeRegLib.space.transforms import AffineTransform, compose

COUNTS = {
    "right": 40, "local": 50, "half aligned": 30, "half aligned, refined": 20, "mirrored": 25,
    "mirrored, refined": 15, "other organ": 20,
}  # fmt: skip
KEPT = ("similarity", "deformation", "predicted_error", "anatomy", "dice", "tre_mm", "refinement", "verdict")
HOW = {"preset": "brain", "threads": 1, "device": "cpu"}


def registered(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A pair, right; and with one or two places made wrong afterwards."""
    fixed, moving = (read_image(data.subject_image(name)) for name in data.cohort_pairs()[number])
    memory, random = Memory(), np.random.default_rng(number)
    values = choices(Options.of(preset="brain", threads=1)) | {"fixed": fixed, "moving": moving, "device": "cpu"}
    plan = PLANS[values["method"]]
    found = run_plan(plan, values, Clock(silent), memory)
    yield "right", found["registration"].result
    for _ in range(2 if number < COUNTS["local"] - COUNTS["right"] else 1):
        pushed = replace(
            found["refinement"],
            deformation=push(found["refinement"].deformation, found["working pair"].judged, random),
        )
        yield (
            "local",
            run_plan(instead(plan, "refinement", pushed), values, Clock(silent), memory)["registration"].result,
        )


def instead(plan: Plan, name: str, value: Any) -> Plan:
    """The plan with one stage that gives this value."""
    return tuple(
        replace(stage, make=lambda work, settings: value, reads=(), settings=lambda chosen, work: id(value))
        if stage.name == name else stage
        for stage in plan
    )  # fmt: skip


def push(found: Deformation, pair: Pair, random: np.random.Generator) -> Deformation:
    """Pushed by 8 to 20 mm at a place of the anatomy."""
    inside = torch.nonzero(pair.mask)
    centre = inside[int(random.integers(len(inside)))] * pair.grid.spacing_mm
    axes = torch.meshgrid(
        *(torch.arange(n) * found.grid.spacing_mm - c for n, c in zip(found.grid.shape, centre, strict=True)),
        indexing="ij",
    )
    shape = torch.exp(-sum(axis.square() for axis in axes) / (2 * random.uniform(12, 20) ** 2))
    way = random.normal(size=3)
    way *= random.uniform(8, 20) / np.linalg.norm(way)
    return replace(found, field=found.field + torch.tensor(way, dtype=torch.float32).view(3, 1, 1, 1) * shape)


def given(kind: str, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A pair whose alignment is wrong."""
    pairs = data.cohort_pairs()
    fixed, moving = (read_image(data.subject_image(name)) for name in pairs[(number * 7 + 3) % len(pairs)])
    random = np.random.default_rng(1000 + number)
    wrong = mirror(number) if kind.startswith("mirrored") else offset(random)
    memory = Memory()
    base = register(fixed, moving, refine_iterations=0, memory=memory, **HOW).transform
    centre = centre_of(fixed)
    around = AffineTransform(shift(centre) @ wrong @ shift(-centre))
    refinement = {} if kind.endswith("refined") else {"refine_iterations": 0}
    yield (
        kind,
        register(fixed, moving, initial_transform=compose(base, around), memory=memory, **HOW, **refinement).result,
    )


def centre_of(image: Volume) -> np.ndarray:
    """[3] LPS mm."""
    middle: np.ndarray = image.frame.to_mm(np.argwhere(foreground_mask(image).numpy()).mean(0)[::-1])
    return middle


def shift(by: np.ndarray) -> torch.Tensor:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, 3] = torch.as_tensor(by)
    return matrix


def mirror(number: int) -> torch.Tensor:
    """Left and right exchanged; every fifth time front and back."""
    axis = 1 if number % 5 == 4 else 0
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[axis, axis] = -1
    return matrix


def offset(random: np.random.Generator) -> torch.Tensor:
    """Shifted, or turned about the centre."""
    way = random.normal(size=3)
    way /= np.linalg.norm(way)
    if random.random() < 0.5:
        return shift(way * random.uniform(12, 30))
    x, y, z = way
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.linalg.matrix_exp(cross * np.deg2rad(random.uniform(15, 35)))
    return turn


def other_organ(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    names = data.subjects()
    brain = data.subject_image(names[number % len(names)])
    others: list[Callable[[], Any]] = [
        lambda: lung_vessels(number).fixed,
        lambda: blobs(number, width_mm=(5.0, 9.0, 18.0)[number % 3]),
        lambda: noise(number, sigma=2.0),
        lambda: data.DATA / "heads" / "Iguana.nii.gz",
    ]
    pair = [brain, others[number % len(others)]()]
    yield "other organ", register(*(pair if number % 2 else pair[::-1]), **HOW).result


def cases(kinds: list[str]) -> Iterator[tuple[str, Callable[[], Iterator[tuple[str, dict[str, Any]]]]]]:
    """Names of what is run at once, and how."""
    for number in range(max(COUNTS.values())):
        if number < COUNTS["right"] and {"right", "local"} & set(kinds):
            yield f"registered {number}", lambda n=number: registered(n)
        for kind in ("half aligned", "half aligned, refined", "mirrored", "mirrored, refined"):
            if kind in kinds and number < COUNTS[kind]:
                yield f"{kind} {number}", lambda k=kind, n=number: given(k, n)
        if "other organ" in kinds and number < COUNTS["other organ"]:
            yield f"other organ {number}", lambda n=number: other_organ(n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(COUNTS), choices=list(COUNTS), metavar="KIND")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "wrong_pairs.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[dict[str, Any]]] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for name, run in cases(options.kinds):
        if name in rows:
            continue
        rows[name] = [{"kind": kind, **{key: result[key] for key in KEPT}} for kind, result in run()]
        options.out.write_text(json.dumps(rows) + "\n", encoding="utf-8")
        print(name, *(f"{row['kind']}: {row['verdict']['level']}" for row in rows[name]), flush=True)


if __name__ == "__main__":
    main()
