"""Register the development pairs with each method, score the written files, and print one table.

    python Benchmarks/dev_pairs.py [--methods spikereg optimize greedy ...] [--out Benchmarks/results/dev_pairs.json]

Every method runs as a person would run it: a process of its own, one thread, whole command, CPU seconds of that process
and its children (start of Python, reading, affine alignment and writing included for ours; greedy gets our affine for
free and only its deformable stage counts). Scores come from the independent scorer, never from our own metrics. Methods
that are not asked for stay in the result file as they were. Data: $SPIKEREG_DATA (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SPIKEREG_DATA", ROOT.parent / "shared" / "data"))
SCORER = DATA.parent / "score" / "score.py"
METHODS = {
    "spikereg": ["--preset", "brain-t1"],
    "spikereg, no refinement": ["--preset", "brain-t1", "--refine-iterations", "0"],
    "ann, no refinement": ["--preset", "brain-t1", "--method", "ann", "--refine-iterations", "0"],
    "fast-preview": ["--preset", "fast-preview"],
    "optimize": ["--preset", "any-anatomy"],
}
# The rows of the published table.
TABLE = [*(method for method in METHODS if method != "fast-preview"), "greedy"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
COLUMNS = ("dice", "folding_percent", "true_folding_percent", "sdlogj", "inverse_consistency_mm", "cpu_s", "peak_mb")


def listed_pairs() -> list[tuple[str, str]]:
    """The eight development pairs, (fixed, moving)."""
    with open(DATA / "dev" / "pairs.csv", newline="") as file:
        return [(row["fixed"], row["moving"]) for row in csv.DictReader(file)]


def measured(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of a command with its children; raises when it fails."""
    probe = (
        "import resource, subprocess, sys, json\n"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "u = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([u.ru_utime + u.ru_stime, u.ru_maxrss / 1024]))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *command], env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(command)}\n{done.stderr[-2000:]}")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def score(fixed: str, moving: str, transform: Path) -> dict:
    command = [
        sys.executable, str(SCORER), "--fixed-seg", str(DATA / f"dev/oasis_{fixed}_seg.nii.gz"), "--moving-seg",
        str(DATA / f"dev/oasis_{moving}_seg.nii.gz"), "--transform", str(transform), "--groups",
        str(DATA / "dev/label_groups.json"),
    ]  # fmt: skip
    return json.loads(subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=True).stdout)


def true_folding(fixed: str, transform: Path) -> float:
    """Folding in patient space; the scorer's filter ignores direction cosines, which the development images have."""
    sys.path.insert(0, str(ROOT))
    import SimpleITK as sitk

    from SpikeRegLib.images.files import frame_of
    from SpikeRegLib.quality.metrics import deformation_summary
    from SpikeRegLib.space.transforms import read_transform

    frame = frame_of(sitk.ReadImage(str(DATA / f"dev/oasis_{fixed}_seg.nii.gz")))
    return deformation_summary(read_transform(transform).displacement_on(frame), frame)["folding_percent"]


def register_pair(arguments: list[str], fixed: str, moving: str, out: Path) -> dict:
    """One run of `spikereg register` with these arguments, from a fresh process to the scored files in `out`."""
    command = [sys.executable, "-m", "SpikeRegLib", "register", *_images(fixed, moving), "--out", str(out)]
    seconds, peak = measured([*command, "--threads", "1", "--progress", "none", *arguments])
    result = json.loads((out / "result.json").read_text())
    return scored_row(fixed, moving, out / "transform.h5", result, seconds, peak)


def scored_row(fixed: str, moving: str, transform: Path, result: dict, seconds: float, peak: float) -> dict:
    """The figures of one run; `result` is what result.json says, empty for tools that write none."""
    scored = score(fixed, moving, transform)
    return {
        "pair": f"{fixed}_{moving}",
        "dice": scored["dice_mean"],
        "folding_percent": scored["folding_percent"],
        "true_folding_percent": true_folding(fixed, transform),
        "sdlogj": scored["sdlogj"],
        "inverse_consistency_mm": result.get("deformation", {}).get("inverse_consistency_mm"),
        "cpu_s": seconds,
        "peak_mb": peak,
        "stages_cpu_s": result.get("cpu_s"),
        "energy": result.get("energy"),
        "mean_rate": (result.get("spikes") or {}).get("mean_rate"),
    }


def run_pair(method: str, fixed: str, moving: str, folder: Path) -> dict:
    if method != "greedy":
        out = folder / f"{method.replace(', ', '_').replace(' ', '_')}_{fixed}_{moving}"
        return register_pair(METHODS[method], fixed, moving, out)
    images = _images(fixed, moving)
    affine = folder / f"{fixed}_{moving}.tfm"
    transform = folder / f"greedy_{fixed}_{moving}.nii.gz"
    align = (
        "import sys; from SpikeRegLib import align, read_image, write_transform;"
        "write_transform(align(read_image(sys.argv[1]), read_image(sys.argv[2])).transform, sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", align, *images, str(affine)], env=ONE_THREAD, cwd=ROOT, check=True)
    _, peak = measured([sys.executable, str(ROOT / "Benchmarks/greedy_run.py"), *images, str(affine), str(transform)])
    seconds = json.loads(Path(f"{transform}.json").read_text())["cpu_s"]
    return scored_row(fixed, moving, transform, {}, seconds, peak)


def _images(fixed: str, moving: str) -> list[str]:
    return [str(DATA / f"dev/oasis_{subject}_t1brain.nii.gz") for subject in (fixed, moving)]


def table(results: dict[str, list[dict]], columns: tuple[str, ...], *, first: str = "method", digits: int = 4) -> str:
    """Means of the columns for each entry of `results`, as Markdown; "-" where nothing was measured."""
    lines = [f"| {first} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, rows in results.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows if row[column] is not None]
            cells.append(f"{fmean(values):.{digits}g}" if values else "-")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=TABLE, choices=[*METHODS, "greedy"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look")
    options = parser.parse_args()
    pairs = listed_pairs()[: options.pairs]
    results: dict[str, list[dict]] = {method: [] for method in options.methods}
    with tempfile.TemporaryDirectory() as folder:
        for fixed, moving in pairs:
            for method in options.methods:
                row = run_pair(method, fixed, moving, Path(folder))
                results[method].append(row)
                shown = {k: round(row[k], 4) for k in COLUMNS if row[k] is not None}
                print(method, row["pair"], shown, flush=True)
    print(table(results, COLUMNS))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        kept = json.loads(options.out.read_text())["results"] if options.out.exists() else {}
        known = {**kept, **results}
        results = {method: known[method] for method in (*METHODS, "greedy") if method in known}
        facts = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        options.out.write_text(json.dumps({"machine": facts, "threads": 1, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
