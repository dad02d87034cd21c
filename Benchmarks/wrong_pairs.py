"""What the verdict says of 200 results that are known to be right or wrong.

    python Benchmarks/wrong_pairs.py [--pairs 30] [--out Benchmarks/results/wrong_pairs.json]

Pairs of development brains, preset `brain`, one thread. Of each pair:

- `right`: registered.
- `local`: then pushed at one place by 8 to 20 mm over 12 to 20 mm, twice.
- `half aligned`: the alignment is off by 12 to 30 mm or by 15 to 35 degrees, and not refined.
- `mirrored`: the alignment takes left to right, or front to back, and is not refined.
- of every third pair `half aligned, refined` and `mirrored, refined`: the deformation is looked for from there.
- of two in three pairs `other organ`: the fixed brain with vessels of the lungs, blobs, noise, or an iguana.

What is wrong is put in the place of what the stage found, and all that follows is run as ever. Each row keeps the
figures that the verdict goes by, and the verdict is made anew from them at every call. Rows that are there are kept;
`--part I/N` runs every N-th pair.
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
from known_errors import push

from SpikeRegLib import register
from SpikeRegLib.images.volumes import Volume, foreground_mask, read_image
from SpikeRegLib.options.options import Options
from SpikeRegLib.pipeline.engine import choices, run_plan
from SpikeRegLib.pipeline.plan import PLANS, Plan
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.progress import Clock, silent
from SpikeRegLib.quality.usual import furthest_below_usual, usual_agreement, write_usual
from SpikeRegLib.quality.verdict import judge
from SpikeRegLib.similarity.pair import Deformation, Pair
from SpikeRegLib.space.transforms import AffineTransform, compose

KEPT = ("similarity", "deformation", "predicted_error", "anatomy", "dice", "tre_mm", "refinement", "verdict")
HOW = {"preset": "brain", "threads": 1, "device": "cpu"}
OTHERS: tuple[Callable[[int], Any], ...] = (
    lambda number: lung_vessels(number).fixed,
    lambda number: blobs(number, width_mm=(5.0, 9.0, 18.0)[number % 3]),
    lambda number: noise(number, sigma=2.0),
    lambda number: data.DATA / "heads" / "Iguana.nii.gz",
)


def of_pair(number: int) -> Iterator[tuple[str, Registration]]:
    """All results of one pair, by their kind."""
    names = data.cohort_pairs()[number]
    fixed, moving = (read_image(data.subject_image(name)) for name in names)
    memory, random = Memory(), np.random.default_rng(number)
    values = choices(Options.of(preset="brain", threads=1)) | {"fixed": fixed, "moving": moving, "device": "cpu"}
    plan = PLANS[values["method"]]

    def run(plan: Plan, **changed: Any) -> dict[str, Any]:
        return run_plan(plan, values | changed, Clock(silent), memory)

    found = run(plan)
    yield "right", found["registration"]
    refined, base, judged = found["refinement"], found["alignment"], found["working pair"].judged
    for _ in range(2):
        wrong = pushed(refined.deformation, judged, random)
        similarity = {**refined.similarity, "lncc_after": wrong.similarity(judged)}
        wrong_refined = replace(refined, deformation=wrong, similarity=similarity)
        yield "local", run(instead(plan, "refinement", wrong_refined))["registration"]
    centre = centre_of(fixed)
    for kind, wrong_map in (("half aligned", offset(random)), ("mirrored", mirror(number))):
        around = AffineTransform(shift(centre) @ wrong_map @ shift(-centre))
        other = instead(plan, "alignment", replace(base, transform=compose(base.transform, around)))
        yield kind, run(other, refine_iterations=0)["registration"]
        if number % 3 == 0:
            yield f"{kind}, refined", run(other)["registration"]
    if number % 3:
        pair = [fixed, OTHERS[number % len(OTHERS)](number)]
        yield "other organ", register(*(pair if number % 2 else pair[::-1]), **HOW)


def instead(plan: Plan, name: str, value: Any) -> Plan:
    """The plan with one stage that gives this value."""
    return tuple(
        replace(stage, make=lambda work, settings: value, reads=(), settings=lambda chosen, work: id(value))
        if stage.name == name else stage
        for stage in plan
    )  # fmt: skip


def pushed(found: Deformation, pair: Pair, random: np.random.Generator) -> Deformation:
    """Pushed by 8 to 20 mm at a place of the anatomy."""
    inside = torch.nonzero(pair.mask)
    centre = inside[int(random.integers(len(inside)))] * pair.grid.spacing_mm
    width, way = random.uniform(12, 20), random.normal(size=3)
    way *= random.uniform(8, 20) / np.linalg.norm(way)
    return replace(found, field=found.field + push(found.grid, centre.tolist(), way, width))


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


def figures_of(result: dict[str, Any]) -> dict[str, Any]:
    """What the verdict goes by, and no more."""
    figures = {key: result[key] for key in KEPT}
    if figures["predicted_error"] is not None:
        lists = ("worst", "structures", "calibrated_on")
        figures["predicted_error"] = {k: v for k, v in figures["predicted_error"].items() if k not in lists}
    if figures["anatomy"] is not None:
        found = {
            label: {k: s[k] for k in ("name", "agreement")} for label, s in result["anatomy"]["structures"].items()
        }
        figures["anatomy"] = {k: result["anatomy"][k] for k in ("agreement", "images")} | {"structures": found}
    figures["refinement"] = {"landmark_weight": (result["refinement"] or {}).get("landmark_weight")}
    return rounded(figures)


def rounded(value: Any) -> Any:
    """Numbers to four places."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return round(value, 4) if isinstance(value, float) else value


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the verdict of the bounds of today."""
    anatomy = row["anatomy"]
    if anatomy is not None and anatomy["agreement"] is not None:
        anatomy = anatomy | furthest_below_usual(agreements(row))
    row = row | {"anatomy": anatomy}
    return row | {"verdict": judge(row)}


def agreements(row: dict[str, Any]) -> dict[str, float]:
    """Dice of the structures that were found, by name."""
    found = row["anatomy"]["structures"].values()
    return {each["name"]: each["agreement"] for each in found if each["agreement"] is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--part", default="0/1", metavar="I/N")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "wrong_pairs.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, options.part.split("/"))
    rows: dict[str, list[dict[str, Any]]] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for number in range(part, options.pairs, parts):
        if str(number) in rows:
            continue
        rows[str(number)] = [
            {"kind": kind, **figures_of(registration.result)} for kind, registration in of_pair(number)
        ]
        options.out.write_text(json.dumps(rows) + "\n", encoding="utf-8")
        print(number, *(f"{row['kind']}: {row['verdict']['level']}" for row in rows[str(number)]), flush=True)
    write_usual(agreements(row) for found in rows.values() for row in found if row["kind"] == "right")
    usual_agreement.cache_clear()
    rows = {number: [judged(row) for row in found] for number, found in rows.items()}
    options.out.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
