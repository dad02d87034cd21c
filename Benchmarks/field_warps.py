"""A neural field without weights, optimised on known warps: how far from the truth it ends, one resolution or more.

    python Benchmarks/field_warps.py [--image FILE] [--spacing 2] [--warps ...] [--seeds 1] [--out FILE.json]

The fixed image is one head seen through a known displacement, the moving image the head itself, so the right map is
that displacement; both get their own noise. The error is the distance in mm of the found from the true displacement at
random points of the fixed head. There is no alignment before: what a warp asks for is left to the field alone. Warps:
smooth random ones of 10 and 30 mm at most, and a shift of 20 voxels. Every list in `STAGES` has the same iterations in
its finest stage, those before have more, of smaller images; a single resolution has the codes of the finest stage
alone. Voxels are padded all round, so that nothing leaves the image.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from SpikeRegLib.images.frames import Frame  # noqa: E402
from SpikeRegLib.neural_field.codes import positions_on  # noqa: E402
from SpikeRegLib.neural_field.consistency import jacobians  # noqa: E402
from SpikeRegLib.neural_field.field import NeuralField  # noqa: E402
from SpikeRegLib.neural_field.optimise import OptimisationOptions, optimise  # noqa: E402
from SpikeRegLib.neural_field.sizes import FieldSizes  # noqa: E402
from SpikeRegLib.pipeline.inputs import load_side, on_working_frame, working_frame  # noqa: E402
from SpikeRegLib.space.fields import warp  # noqa: E402
from SpikeRegLib.space.filters import gaussian  # noqa: E402
from SpikeRegLib.space.grids import Grid  # noqa: E402

SAMPLE = ROOT / "SpikeRegLib" / "sample" / "fixed.nii.gz"
NOISE = 0.02
# Points in the head where errors are measured, and those of them with Jacobians.
POINTS, JACOBIANS = 50_000, 5_000
# Distances of codes in mm, coarse to fine.
STAGES = {"multi-resolution": (32.0, 16.0, 8.0), "single resolution": (8.0,)}
SHIFT_VOXELS = 20
# Largest displacement in mm, and standard deviation in mm of the Gaussian that makes noise a warp.
SMOOTH = {"10 mm": (10.0, 20.0), "30 mm": (30.0, 40.0)}
WARPS = (*SMOOTH, f"{SHIFT_VOXELS}-voxel shift")


def head(path: Path, spacing_mm: float, largest_mm: float) -> tuple[torch.Tensor, Frame]:
    """[D, H, W] in [0, 1], the head padded by so much that it stays inside when it is moved so far, and its frame."""
    side = load_side(path)
    frame = working_frame(side, spacing_mm)
    image = on_working_frame(side, frame, None)
    pad = math.ceil(largest_mm / spacing_mm) + 4
    image = torch.nn.functional.pad(image, (pad,) * 6)
    depth, height, width = image.shape
    origin = tuple(o - pad * s for o, s in zip(frame.origin, frame.spacing, strict=True))
    return image, Frame(shape=(depth, height, width), origin=origin, spacing=frame.spacing, direction=frame.direction)


def true_displacement(name: str, frame: Frame, image: torch.Tensor, seed: int) -> torch.Tensor:
    """[3, D, H, W] mm: the longest vector inside the head has the length that the name says."""
    spacing = frame.spacing[0]
    if name not in SMOOTH:
        shift = torch.zeros(3, *frame.shape)
        shift[0] = largest(name, spacing)
        return shift
    noise = torch.randn((1, 3, *frame.shape), generator=torch.Generator().manual_seed(seed))
    field = gaussian(noise, SMOOTH[name][1] / spacing)[0]
    return field * (largest(name, spacing) / field.norm(dim=0)[image > NOISE].max())


def largest(name: str, spacing_mm: float) -> float:
    """Length in mm of the longest displacement of a warp."""
    return SMOOTH[name][0] if name in SMOOTH else SHIFT_VOXELS * spacing_mm


def pair_of(
    image: torch.Tensor, truth: torch.Tensor, spacing_mm: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fixed and moving image; the noise lies inside the heads, whose surroundings stay zero."""
    random = torch.Generator().manual_seed(seed + 1000)
    fixed = warp(image[None, None], truth[None] / spacing_mm)[0, 0]
    return tuple(  # type: ignore[return-value]
        (i + NOISE * torch.randn(i.shape, generator=random)).clamp(0, 1) * (i > NOISE) for i in (fixed, image)
    )


def run(
    name: str, stages: tuple[float, ...], seed: int, path: Path, spacing_mm: float, iterations: int
) -> dict[str, Any]:
    image, frame = head(path, spacing_mm, largest(name, spacing_mm))
    truth = true_displacement(name, frame, image, seed)
    fixed, moving = pair_of(image, truth, spacing_mm, seed)
    mask, grid = fixed > NOISE, Grid(frame.shape, spacing_mm)
    before = time.process_time()
    found = optimise(
        fixed, moving, mask.float(), grid, None, seed=seed, field_options=FieldSizes(),
        options=OptimisationOptions(stages_mm=stages, iterations=round(iterations * stages[0] / stages[-1])),
    )  # fmt: skip
    seconds = time.process_time() - before
    lengths = truth.norm(dim=0)[mask]
    return {
        "warp": name, "stages_mm": stages, "seed": seed, "largest_mm": float(lengths.max()),
        "before_mm": float(lengths.mean()), **errors(found.field, truth, mask, grid, seed),
        "lncc_before": found.similarity_before, "lncc_after": found.similarity_after, "iterations": found.iterations,
        "cpu_s": seconds,
    }  # fmt: skip


def errors(field: NeuralField, truth: torch.Tensor, mask: torch.Tensor, grid: Grid, seed: int) -> dict[str, float]:
    """Distance in mm from the true displacement, at random voxels of the mask, and folds there by exact Jacobians.

    Args:
        field: the found one.
        truth: [3, D, H, W] mm on the grid.
        mask: [D, H, W] bool.
        grid: of both.
        seed: of the points.
    """
    inside = mask.flatten().nonzero()[:, 0]
    chosen = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))[:POINTS]]
    position = positions_on(grid)[chosen]
    with torch.no_grad():
        distance = (field.points(position) - position - truth.flatten(1)[:, chosen].t()).norm(dim=1)
    determinant = torch.linalg.det(jacobians(field.points, position[:JACOBIANS]).detach())
    return {
        "after_mm": float(distance.mean()),
        "after_p95_mm": float(distance.quantile(0.95)),
        "folding_percent": 100 * float((determinant <= 0).float().mean()),
        "jacobian_min": float(determinant.min()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=SAMPLE, help="a head without surroundings; default: the sample's")
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--warps", nargs="+", default=list(WARPS), choices=WARPS)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--iterations", type=int, default=20, help="of the images at half the finest codes' distance")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out has already")
    parser.add_argument("--out", type=Path, default=ROOT / "Benchmarks" / "results" / "field_warps.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = {"image": options.image.name, "spacing_mm": options.spacing, "iterations": options.iterations, "threads": 1}
    stored = json.loads(options.out.read_text())["rows"] if options.resume and options.out.exists() else []
    kept = {(row["warp"], row["resolutions"], row["seed"]): row for row in stored}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, stages, seed in itertools.product(options.warps, options.stages, options.seeds):
        row = kept.get((name, stages, seed))
        if row is None:
            found = run(name, STAGES[stages], seed, options.image, options.spacing, options.iterations)
            row = {"resolutions": stages, **found}
            shown = {key: round(value, 3) for key, value in found.items() if isinstance(value, float)}
            print(name, stages, shown, flush=True)
        rows.append(row)
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
