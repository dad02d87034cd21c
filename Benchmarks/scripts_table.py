"""The table of all benchmark scripts: command, what it fills, recorded minutes, data needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohort_tables import RESULTS, markdown_table, read

ROOT = Path(__file__).resolve().parents[1]
BRAINS, LABELS, SCORER = "development brains", "training label maps", "scorer"


@dataclass(frozen=True)
class Script:
    """One script that a person runs.

    Attributes:
        data: what it reads besides the repository; empty for nothing.
        results: the result files it writes, one for each of `arguments`, or none.
        fills: markers of the tables and plots made from them.
        arguments: of the published run; several where it takes more than one.
        timed: whether every row of the result file is one run with its CPU seconds.
        instead: what it writes where it fills no marker.
    """

    data: str
    results: tuple[str, ...] = ()
    fills: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ("",)
    timed: bool = False
    instead: str = "prints"


SCRIPTS = {
    "affine_pairs": Script(f"{BRAINS}, {SCORER}"),
    "anatomy_uses": Script(BRAINS, ("anatomy_uses",), ("anatomy-uses",)),
    "arithmetics": Script(BRAINS, ("arithmetics",), ("arithmetics",)),
    "atrophy": Script(BRAINS, ("atrophy",), ("atrophy",), ("--subjects 1000",), timed=True),
    "cohort": Script(
        f"{BRAINS}, greedy", ("cohort",), ("summary", "cohort", "comparisons", "accuracy-time"), timed=True,
    ),
    "consistency_ablation": Script(f"{BRAINS}, {LABELS}", ("consistency_ablation",), ("field-consistency",)),
    "dev_pairs": Script(
        f"{BRAINS}, {SCORER}, greedy", ("dev_pairs",), ("pairs",),
        ("--out Benchmarks/results/dev_pairs.json",), timed=True,
    ),
    "doubtful_pairs": Script(f"{BRAINS}, heads", ("doubtful_pairs",), ("doubtful",), timed=True),
    "error_calibration": Script(f"{BRAINS}, {LABELS}", ("error_calibration",), ("predicted-error",)),
    "field_memory": Script("", ("field_memory",), ("field-memory",)),
    "field_warps": Script("", ("field_warps",), ("field-warps",), timed=True),
    "figures": Script("", instead="all tables and plots"),
    "finetune_ablation": Script(f"{BRAINS}, {LABELS}", ("finetune_ablation",), ("ablation",)),
    "greedy_run": Script(
        "greedy", arguments=("FIXED MOVING AFFINE.tfm OUT_FIELD.nii.gz",), instead="the field it finds",
    ),
    "group_template": Script(BRAINS, ("group_template",), ("group-template",), ("--pairs 4",)),
    "hundred_runs": Script("", ("hundred_runs",), instead="the result file alone"),
    "inference": Script(
        "", ("inference", "inference-fine"), ("inference", "inference-fine"),
        (
            "--out Benchmarks/results/inference.json",
            "--model brain-t1-fine --repeats 3 --out Benchmarks/results/inference-fine.json",
        ),
    ),
    "league": Script(
        f"{BRAINS}, greedy, ANTs, elastix, convexAdam, FireANTs", ("league",), ("league", "league-plot"), timed=True,
    ),
    "league_run": Script(
        "greedy, ANTs, elastix, convexAdam, FireANTs", arguments=("METHOD FIXED MOVING AFFINE.tfm OUT_FIELD.nii.gz",),
        instead="the field it finds",
    ),
    "many_rows": Script("", ("many_rows",), ("many-rows",)),
    "methods": Script(f"{BRAINS}, {SCORER}", ("methods",), ("methods",), timed=True),
    "multicontrast": Script(
        "one subject in T1, T2 and FLAIR", ("contrast_warps",), ("contrast-warps",),
        ("--largest-mm 8 --pairs T2 T2-fixed T2-no-network FLAIR T2-lncc", "--largest-mm 16 --pairs T2 T2-no-network"),
        timed=True,
    ),
    "multicontrast_subjects": Script(
        f"{BRAINS}, one subject in T1 and T2", ("multicontrast_subjects",), ("contrasts",)
    ),
    "pareto": Script(f"{BRAINS}, {LABELS}", ("pareto",), ("accuracy-energy",)),
    "partly_known": Script(
        f"{BRAINS}, heads", ("partly_known",), ("partly-known",),
        ("--only slab --out Benchmarks/results/partly_known.json",), timed=True,
    ),
    "phantoms": Script("", ("phantoms",), ("phantoms",)),
    "poses": Script(f"{BRAINS}, heads", ("poses",), ("poses",)),
    "readout": Script(BRAINS, ("readout",), ("readout",)),
    "refine_pairs": Script(f"{BRAINS}, {SCORER}"),
    "robustness": Script(BRAINS, ("robustness",), ("robustness",), timed=True),
    "structures": Script(
        f"{BRAINS}, heads", ("structures", "structures-teacher"), ("structures", "structures-teacher"),
        (
            "--out Benchmarks/results/structures.json",
            "--model structures-teacher --out Benchmarks/results/structures-teacher.json",
        ),
    ),
    "synthetic_gallery": Script(LABELS, instead="`Docs/synthetic-pairs.png`"),
    "tables": Script("", instead="all tables"),
    "wrong_pairs": Script(BRAINS, ("wrong_pairs",), ("verdicts",)),
    "warm_worker": Script(
        BRAINS, ("warm_worker",), (), ("--out Benchmarks/results/warm_worker.json",), timed=True,
        instead="the result file alone",
    ),
}  # fmt: skip


def cpu_seconds(entry: Any) -> float:
    """Sum of all `cpu_s` that are numbers, wherever they lie in a result file."""
    if isinstance(entry, list):
        return sum(map(cpu_seconds, entry))
    if not isinstance(entry, dict):
        return 0.0
    own = entry.get("cpu_s")
    inside = sum(cpu_seconds(value) for name, value in entry.items() if name != "cpu_s")
    return inside + (own if isinstance(own, int | float) else 0.0)


def minutes(script: Script) -> str:
    """Recorded CPU minutes of all rows, whole ones."""
    files = [name for name in script.results if (RESULTS / f"{name}.json").is_file()]
    if not script.timed or not files:
        return "not recorded"
    return f"{sum(cpu_seconds(read(name)) for name in files) / 60:.0f}"


def pages(marker: str) -> list[str]:
    """Links, from this folder, to the documents in which a marker stands."""
    found = [ROOT / "README.md", *sorted(ROOT.glob("Docs/*.md")), *sorted(ROOT.glob("SpikeRegLib/weights/*.md"))]
    holding = [page for page in found if f"<!-- figures:{marker} -->" in page.read_text(encoding="utf-8")]
    return [f"[{page.stem}](../{page.relative_to(ROOT).as_posix()})" for page in holding]


def scripts_table() -> str:
    """Every script that a person runs."""
    lines = []
    for name, script in SCRIPTS.items():
        commands = [f"`{f'python Benchmarks/{name}.py {one}'.rstrip()}`" for one in script.arguments]
        fills = [f"{marker}: {', '.join(pages(marker))}" for marker in script.fills]
        lines.append([
            "<br>".join(commands), "<br>".join(fills) or script.instead, minutes(script), script.data or "none",
        ])  # fmt: skip
    return markdown_table(["command", "fills", "CPU minutes", "data"], lines)
