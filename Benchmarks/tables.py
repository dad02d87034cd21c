"""Write the measured tables into README, Docs and model cards, and the training curve into Docs: no figure by hand.

    python Benchmarks/tables.py

Reads the files in Benchmarks/results, the headers of the shipped weights and the training logs in Docs/training. Text
between the markers `<!-- figures:NAME -->` and `<!-- end -->` is replaced. `figures.py` does this and draws the plots.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cohort_tables import (
    RESULTS,
    cohort_table,
    comparison_table,
    contrast_table,
    doubtful_table,
    markdown_table,
    pairs_table,
    robustness_table,
    summary_table,
    warp_table,
)
from field_tables import consistency_table, memory_table, methods_table, warps_table
from group_tables import atrophy_table, group_table
from known_tables import known_table
from league_tables import league_table, many_rows_table
from network_tables import (
    ablation_table,
    anatomy_uses_table,
    arithmetic_table,
    inference_table,
    poses_table,
    readout_table,
    structures_table,
)
from scripts_table import scripts_table
from trust_tables import calibration_table, phantoms_table, verdict_table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WEIGHTS = ROOT / "SpikeRegLib" / "weights"
LOGS = ROOT / "Docs" / "training"


def facts_table(model: str) -> str:
    """Training facts from the header of a model file."""
    from SpikeRegLib.models import read_header

    header = read_header(WEIGHTS / f"{model}.safetensors")
    facts = header.facts
    rows = {
        "kind, spec": f"{header.kind}, {header.spec}",
        "training data": facts["training_data"],
        "steps": facts["steps"],
        "wall seconds": facts["seconds"],
        "seed": facts["seed"],
        "machine": ", ".join(f"{k} {v}" for k, v in facts["machine"].items()),
        "versions": ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
        "date": facts["date"],
        "last log entry": ", ".join(f"{k} {v}" for k, v in facts["last_log_entry"].items()),
    }
    before, earlier = facts.get("before"), []
    while before and before["step"] == facts["step"]:
        earlier.append(f"{before['steps']} steps, {before['seconds']} s")
        before = before.get("before")
    if earlier:
        rows["fine-tuned before" if facts["step"] == "finetune" else "trained before"] = "; ".join(reversed(earlier))
    if before and "percentile" not in before:
        rows["began as"] = f"{facts['initial_weights']}, after its {before['steps']} steps"
    elif before:
        rows["converted from"] = (
            f"teacher of {before['steps']} steps; percentile {before['percentile']} over "
            f"{before['calibration_pairs']} training pairs"
        )
    return markdown_table(["", ""], [[name, str(value)] for name, value in rows.items()])


def draw_curves() -> None:
    """Docs/training/*.png: similarity and soft overlap of the training pairs, smoothed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    for log in sorted(LOGS.glob("*.jsonl")):
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        entries = [entry for entry in entries if "dice" in entry]
        steps = np.array([entry["step"] for entry in entries])
        names = [name for name in ("lncc", "dice", "operations_share") if name in entries[0]]
        figure, axes = plt.subplots(figsize=(7, 3.6))
        for name in names:
            values = np.array([entry[name] for entry in entries])
            width = max(1, len(values) // 40)
            smooth = np.convolve(values, np.ones(width) / width, mode="valid")
            (line,) = axes.plot(steps, values, alpha=0.2, linewidth=0.7)
            axes.plot(steps[width - 1 :], smooth, color=line.get_color(), label=name.replace("_", " "))
        drawn = "pair" if "lncc" in names else "image"
        axes.set(xlabel=f"training {drawn}", title=f"{log.stem}: training {drawn}s (synthetic)", ylim=(0, 1))
        axes.legend(frameon=False, loc="lower right")
        axes.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(log.with_suffix(".png"), dpi=110)
        plt.close(figure)


def fill(path: Path, tables: dict[str, str]) -> str:
    """The text of `path` with every marked table replaced."""
    text = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = rf"(<!-- figures:{re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)
    return text


# Marker -> what fills it, and the result files it is made from; a marker whose files are not there stays as it is.
FILLERS: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "pairs": (pairs_table, ("dev_pairs",)),
    "inference": (partial(inference_table, "inference"), ("inference",)),
    "inference-fine": (partial(inference_table, "inference-fine"), ("inference-fine",)),
    "arithmetics": (arithmetic_table, ("arithmetics",)),
    "readout": (readout_table, ("readout",)),
    "ablation": (ablation_table, ("finetune_ablation",)),
    "summary": (summary_table, ("cohort",)),
    "cohort": (cohort_table, ("cohort",)),
    "comparisons": (comparison_table, ("cohort",)),
    "robustness": (robustness_table, ("robustness",)),
    "doubtful": (doubtful_table, ("doubtful_pairs",)),
    "partly-known": (known_table, ("partly_known",)),
    "contrasts": (contrast_table, ("multicontrast_subjects",)),
    "contrast-warps": (warp_table, ("contrast_warps",)),
    "poses": (poses_table, ("poses",)),
    "structures": (partial(structures_table, "structures"), ("structures",)),
    "structures-teacher": (partial(structures_table, "structures-teacher"), ("structures-teacher",)),
    "anatomy-uses": (anatomy_uses_table, ("anatomy_uses", "cohort")),
    "league": (league_table, ("league",)),
    "league-plot": (lambda: "![Overlap against CPU time](figures/league-plot.png)", ("league",)),
    "many-rows": (many_rows_table, ("many_rows",)),
    "group-template": (group_table, ("group_template",)),
    "atrophy": (atrophy_table, ("atrophy",)),
    "predicted-error": (calibration_table, ("error_calibration",)),
    "verdicts": (verdict_table, ("wrong_pairs",)),
    "phantoms": (phantoms_table, ("phantoms",)),
    "methods": (methods_table, ("methods",)),
    "field-memory": (memory_table, ("field_memory",)),
    "field-consistency": (consistency_table, ("consistency_ablation",)),
    "field-warps": (warps_table, ("field_warps",)),
    "scripts": (scripts_table, ()),
    "accuracy-time": (lambda: "![Accuracy against CPU time](Docs/figures/accuracy-time.png)", ("cohort",)),
    "accuracy-energy": (lambda: "![Accuracy against energy](figures/accuracy-energy.png)", ("pareto", "cohort")),
}


def measured(name: str) -> bool:
    """Whether the results that a marker shows are there."""
    return all((RESULTS / f"{source}.json").is_file() for source in FILLERS[name][1])


def documents() -> dict[Path, str]:
    """Every document with figures, as it should read."""
    shared = {name: make() for name, (make, _) in FILLERS.items() if measured(name)}
    filled = {}
    for page in (ROOT / "README.md", ROOT / "Benchmarks" / "README.md", *sorted((ROOT / "Docs").glob("*.md"))):
        if "<!-- figures:" in page.read_text(encoding="utf-8"):
            filled[page] = fill(page, shared)
    for card in sorted(WEIGHTS.glob("*.md")):
        filled[card] = fill(card, {**shared, "facts": facts_table(card.stem)})
    return filled


def main() -> None:
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    draw_curves()


if __name__ == "__main__":
    main()
