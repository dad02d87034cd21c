"""Refinement alone on the development pairs: our affine, no network, each schedule scored by the independent scorer.

    python Benchmarks/refine_pairs.py [--schedules default thorough coarse] [--affines FOLDER]

CPU seconds are those of `refine` only, one thread, images at 1 mm. `dev_pairs.py` measures whole commands and
greedy. Data: $SPIKEREG_DATA (see CONTRIBUTING.md). Affine transforms found are kept in `--affines` for the next run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from dev_pairs import DATA, ROOT, listed_pairs, score, table

sys.path.insert(0, str(ROOT))

from SpikeRegLib.affine import align
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.pipeline.inputs import Side, load_side, on_working_frame, working_frame
from SpikeRegLib.quality.metrics import deformation_summary, inverse_consistency_mm
from SpikeRegLib.refinement.refine import DEFAULT, THOROUGH, OptimisedField, RefinementSchedule, refine
from SpikeRegLib.similarity.pair import itk_reading
from SpikeRegLib.space.transforms import (
    CompositeTransform,
    DisplacementTransform,
    Transform,
    read_transform,
    write_transform,
)

SCHEDULES = {"default": DEFAULT, "thorough": THOROUGH, "coarse": RefinementSchedule(DEFAULT.levels[:2])}
COLUMNS = ("dice", "folding_percent", "true_folding_percent", "sdlogj", "inverse_consistency_mm", "cpu_s")


def aligned(fixed: Side, moving: Side, file: Path) -> Transform:
    """The affine map of the pair, from `file` when it is there."""
    if not file.exists():
        write_transform(align(fixed.image, moving.image).transform, file)
    return read_transform(file)


def total_transform(found: OptimisedField, frame: Frame, affine: Transform) -> CompositeTransform:
    """The deformation on its own grid, then the affine map."""
    spacing = found.grid.spacing_mm
    grid = Frame(found.grid.shape, frame.origin, (spacing,) * 3)
    return CompositeTransform([DisplacementTransform(found.field, grid), affine])


def run_pair(
    fixed: Side, moving: Side, affine: Transform, schedule: RefinementSchedule, names: tuple[str, str]
) -> dict:
    frame = working_frame(fixed, 1.0)
    images = on_working_frame(fixed, frame, None), on_working_frame(moving, frame, affine)
    before = time.process_time()
    found = refine(*images, spacing_mm=1.0, schedule=schedule, itk_jacobian=itk_reading(fixed.image.frame, affine))
    seconds = time.process_time() - before
    transform = total_transform(found, frame, affine)
    with tempfile.TemporaryDirectory() as folder:
        write_transform(transform, Path(folder) / "transform.h5")
        scored = score(*names, Path(folder) / "transform.h5")
    grid = fixed.image.frame
    summary = deformation_summary(transform.displacement_on(grid), grid, fixed.mask)
    return {
        "dice": scored["dice_mean"],
        "folding_percent": scored["folding_percent"],
        "true_folding_percent": summary["folding_percent"],
        "sdlogj": summary["sdlogj"],
        "inverse_consistency_mm": inverse_consistency_mm(transform, transform.inverse(), grid, fixed.mask),
        "cpu_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES)
    parser.add_argument("--affines", type=Path, default=Path(tempfile.gettempdir()) / "spikereg_affines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.affines.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in options.schedules}
    for pair in listed_pairs():
        fixed, moving = (load_side(DATA / f"dev/oasis_{name}_t1brain.nii.gz") for name in pair)
        affine = aligned(fixed, moving, options.affines / f"{pair[0]}_{pair[1]}.tfm")
        for name in options.schedules:
            row = run_pair(fixed, moving, affine, SCHEDULES[name], pair)
            rows[name].append(row)
            print(name, *pair, {key: round(row[key], 4) for key in COLUMNS}, flush=True)
    print(table(rows, COLUMNS, first="schedule"))


if __name__ == "__main__":
    main()
