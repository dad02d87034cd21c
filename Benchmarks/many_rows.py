"""What a cohort costs beside its registrations: two workers against one, and the overhead and memory of many rows.

    python Benchmarks/many_rows.py [--rows 1000] [--out Benchmarks/results/many_rows.json]

Forty registrations of small drawn images are made by one worker and by two, in turn, two
times; every worker has one thread. Then tiny rows are done in one process and by two workers: the overhead of a row is
the time that is spent neither in `register` nor in writing its files; the memory is the peak of the process at a row
early on and at the last. Times of the workers leave out how long the processes take to start. A quiet machine is
needed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import evaluation as data
import numpy as np
import SimpleITK as sitk

from SpikeRegLib.cohort import rows as cohort_rows
from SpikeRegLib.cohort.alone import in_this_process
from SpikeRegLib.cohort.dask_cluster import local_cluster, on_cluster
from SpikeRegLib.cohort.manifest import Row, read_manifest
from SpikeRegLib.cohort.rows import Plan

_PRESET = """\
description = "small"
method = "optimize"
model = ""
working_spacing_mm = {spacing}
similarity = "lncc"
passes = 0

[[refine.levels]]
spacing_mm = {spacing}
field_mm = 8.0
iterations = {iterations}
velocity_sigma_mm = 6.9
field_sigma_mm = 2.0
"""
_ROWS_OF_A_PAIR, _REPEATS = 40, 2


def table_of(folder: Path, count: int, size: int, spacing_mm: float) -> list[Row]:
    """`count` registrations among eight drawn images of size^3 voxels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        place = np.indices((size,) * 3) - (size - 1) / 2 - random.normal(size=(3, 1, 1, 1))
        waves = sum(np.sin(place[axis] * random.uniform(0.2, 1.2) * 20 / size + number) for axis in range(3))
        drawn = (400 + 90 * waves) * (np.sqrt((place**2).sum(0)) < 0.42 * size)
        image = sitk.GetImageFromArray((drawn + random.normal(0, 4, drawn.shape)).astype(np.float32))
        image.SetSpacing((spacing_mm,) * 3)
        sitk.WriteImage(image, str(folder / f"i{number}.nii.gz"))
    lines = [f"r{n},i0.nii.gz,i{1 + n % 7}.nii.gz" for n in range(count)]
    (folder / "table.csv").write_text("\n".join(["id,fixed,moving", *lines]) + "\n", encoding="utf-8")
    return read_manifest(folder / "table.csv", {"threads": 1})


def with_options(rows: list[Row], **options: Any) -> list[Row]:
    return [Row(row.id, {**row.options, **options}) for row in rows]


def by_workers(workers: int, rows: list[Row], plan: Plan) -> tuple[float, list[cohort_rows.Outcome]]:
    """Wall seconds from the first row handed out to the last one done, with processes that run already."""
    with local_cluster(workers, 1, 0) as client:
        client.wait_for_workers(workers)
        client.run(_load)
        began = time.perf_counter()
        found = list(on_cluster(client, rows, plan))
        return time.perf_counter() - began, found


def _load() -> None:
    import SpikeRegLib.cohort.rows  # noqa: F401


def speed_up(folder: Path) -> dict[str, Any]:
    """Forty small registrations with one worker and with two."""
    preset = folder / "small.toml"
    preset.write_text(_PRESET.format(spacing=2.0, iterations=20), encoding="utf-8")
    rows = with_options(table_of(folder / "pairs", _ROWS_OF_A_PAIR, 48, 3.0), preset=str(preset), skip_affine=True)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(_REPEATS):
        for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
            taken, found = by_workers(workers, rows, Plan(str(folder / f"out{repeat}-{workers}")))
            assert all(each.state == "done" for each in found)
            seconds[workers].append(taken)
    ratio = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {"rows": len(rows), "wall_s": seconds, "times_faster": ratio, "mean": fmean(ratio)}


class Clocked:
    """Counts the seconds spent in a function."""

    def __init__(self, function: Any) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return self.function(*given, **options)
        finally:
            self.seconds += time.perf_counter() - began


def overhead(folder: Path, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tiny rows in one process, once more when all are done, and by two workers."""
    preset = folder / "tiny.toml"
    preset.write_text(_PRESET.format(spacing=4.0, iterations=1), encoding="utf-8")
    rows = with_options(table_of(folder / "tiny", count, 16, 4.0), preset=str(preset), skip_affine=True)
    plan = Plan(str(folder / "alone"), ("transform.h5",))
    work = Clocked(cohort_rows.register), Clocked(cohort_rows.write_outputs)
    cohort_rows.register, cohort_rows.write_outputs = work  # type: ignore[assignment]
    began = time.perf_counter()
    found = list(in_this_process(rows, plan))
    taken = time.perf_counter() - began
    cohort_rows.register, cohort_rows.write_outputs = (each.function for each in work)
    peaks = [each.figures["peak_memory_mb"] for each in found]
    yield (
        "one process",
        {
            "rows": count,
            "wall_s": taken,
            "overhead_ms": 1e3 * (taken - sum(each.seconds for each in work)) / count,
            "peak_mb_at_row_100": peaks[min(99, count - 1)],
            "peak_mb_at_last_row": peaks[-1],
        },
    )
    began = time.perf_counter()
    assert all(each.state == "kept" for each in in_this_process(rows, plan))
    yield "all done before", {"rows": count, "overhead_ms": 1e3 * (time.perf_counter() - began) / count}
    taken, found = by_workers(2, rows, Plan(str(folder / "workers"), ("transform.h5",)))
    spent = sum(each.seconds for each in found)
    yield "two workers", {"rows": count, "wall_s": taken, "overhead_ms": 1e3 * (2 * taken - spent) / count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=data.RESULTS / "many_rows.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {"speed_up": speed_up(Path(folder)), "overhead": {}}
        print(result["speed_up"])
        for name, figures in overhead(Path(folder), options.rows):
            result["overhead"][name] = figures
            print(name, figures)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
