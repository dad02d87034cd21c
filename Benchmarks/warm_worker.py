"""CPU seconds that a warm worker spends on one request after another about the same pair.

    python Benchmarks/warm_worker.py [--pairs N] [--out Benchmarks/results/warm_worker.json]

One worker a pair and preset, one thread. Each row is one request as Slicer's module makes it, which wants only the
files that it loads: the CPU seconds of the whole process from the result before it to its own (reading, measuring and
writing included), and what it could take over. Needs slicer-core, for the module's list of files. Data: $SPIKEREG_DATA
(see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import SimpleITK as sitk
from dev_pairs import DATA, ONE_THREAD, ROOT, listed_pairs

sys.path[:0] = [str(ROOT), str(ROOT / "SpikeRegSlicer"), str(ROOT / "Testing" / "scene")]
import slicer_i18n  # noqa: E402, F401
from SpikeRegSlicerLib.scene.results import FILES  # noqa: E402

# Each request changes this against the first one of its series.
SERIES: dict[str, dict[str, dict[str, Any]]] = {
    "fast-preview": {
        "first": {},
        "moved landmark": {"moved": True},
        "moved landmark that pulls": {"moved": True, "landmark_weight": 1.0},
        "other regularisation": {"regularisation": 2.0},
        "moved landmark that pulls, every file": {"moved": True, "landmark_weight": 0.5, "outputs": None},  # null: all
        "one time step less": {"timesteps": 3},
        "other seed": {"seed": 1},
    },
    "brain-t1": {
        "first": {},
        "moved landmark": {"moved": True},
        "moved landmark that pulls": {"moved": True, "landmark_weight": 1.0},
        "other regularisation": {"regularisation": 2.0},
    },
}


class Worker:
    """A worker process and the CPU seconds it has used."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "SpikeRegLib", "worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ONE_THREAD, cwd=ROOT, text=True,
        )  # fmt: skip
        self._until("ready")
        self.starting = self._used = self._cpu_seconds()

    def ask(self, request: dict[str, Any]) -> tuple[float, dict]:
        """CPU seconds of a request, and its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": "request", **request}) + "\n")
        self._process.stdin.flush()
        result = json.loads(Path(self._until("result")["path"]).read_text())
        before, self._used = self._used, self._cpu_seconds()
        return self._used - before, result

    def end(self) -> None:
        self._process.communicate('{"quit": true}\n', timeout=60)

    def _until(self, wanted: str) -> dict:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == wanted:
                return event
            if event["event"] == "error":
                break
            continue
        raise SystemExit(f"the worker failed: {line}")

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def landmarks(image: Path, folder: Path, shift_mm: float) -> Path:
    """Five points around the middle of an image; the first is moved."""
    volume = sitk.ReadImage(str(image))
    middle = volume.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in volume.GetSize()])
    rows = [list(middle) for _ in range(5)]
    for n, row in enumerate(rows):
        row[n % 3] += 12.0 * (n - 2)
    rows[0][1] += shift_mm
    path = folder / f"{image.name.split('.')[0]}_{shift_mm:g}.csv"
    path.write_text("x,y,z\n" + "".join("{:.3f},{:.3f},{:.3f}\n".format(*row) for row in rows))
    return path


def series(preset: str, fixed: str, moving: str, folder: Path) -> list[dict]:
    images = {
        side: DATA / f"dev/oasis_{subject}_t1brain.nii.gz" for side, subject in (("fixed", fixed), ("moving", moving))
    }
    worker, rows = Worker(), []
    for name, change in SERIES[preset].items():
        change = dict(change)
        shift = 3.0 if change.pop("moved", False) else 0.0
        request = {
            **{side: str(path) for side, path in images.items()},
            "fixed_points": str(landmarks(images["fixed"], folder, 0.0)),
            "moving_points": str(landmarks(images["moving"], folder, shift)),
            "out": str(folder / "out"), "preset": preset, "threads": 1, "device": "cpu",
            "outputs": list(FILES), **change,
        }  # fmt: skip
        seconds, result = worker.ask(request)
        row = {"pair": f"{fixed}_{moving}", "request": name, "cpu_s": round(seconds, 2), "reused": result["reused"]}
        row["stages_cpu_s"] = {k: round(v, 3) for k, v in result["cpu_s"].items() if k != "process"}
        rows.append(row)
        print(preset, row["pair"], name, row["cpu_s"], row["stages_cpu_s"], flush=True)
    worker.end()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=list(SERIES), choices=list(SERIES))
    parser.add_argument("--pairs", type=int, help="only the first N pairs")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, list[dict]] = {preset: [] for preset in options.presets}
    with tempfile.TemporaryDirectory() as folder:
        for preset in options.presets:
            for fixed, moving in listed_pairs()[: options.pairs]:
                results[preset] += series(preset, fixed, moving, Path(folder))
    print("| preset | request | CPU s, mean | CPU s, worst |\n|---|---|---|---|")
    for preset, rows in results.items():
        for name in SERIES[preset]:
            seconds = [row["cpu_s"] for row in rows if row["request"] == name]
            print(f"| {preset} | {name} | {fmean(seconds):.2f} | {max(seconds):.2f} |")
    if options.out:
        facts = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        options.out.write_text(json.dumps({"machine": facts, "threads": 1, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
