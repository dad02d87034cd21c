"""Tables of the cohort, the comparisons, the eight pairs, the robustness, the contrasts and the doubtful pairs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PAIR_COLUMNS = (
    ("dice", "mean Dice", "{:.3f}"),
    ("folding_percent", "folds % (scorer)", "{:.3f}"),
    ("true_folding_percent", "folds % (patient space)", "{:.3f}"),
    ("inverse_consistency_mm", "inverse consistency mm", "{:.3f}"),
    ("cpu_s", "CPU s", "{:.1f}"),
    ("peak_mb", "peak memory MB", "{:.0f}"),
)


# Method in the cohort -> how the README calls it.
SUMMARY = {
    "affine": "affine alignment alone",
    "optimize": "`brain-t1` without its networks (`--method optimize`)",
    "spikereg": "`brain-t1`",
    "greedy": "greedy, deformable stage alone",
}


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown_table(headings: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def mean_of(rows: list[dict], column: str, text: str) -> str:
    values = [row[column] for row in rows if row.get(column) is not None]
    return text.format(fmean(values)) if values else "-"


def pairs_table() -> str:
    """All methods side by side on the development pairs."""
    results = read("dev_pairs")["results"]
    lines = [
        [method, *(mean_of(rows, column, text) for column, _, text in PAIR_COLUMNS)] for method, rows in results.items()
    ]
    spiking = results["spikereg, no refinement"]
    energy = {key: fmean(row["energy"][key] for row in spiking) for key in ("reduction_vs_twin", "reduction_vs_paper")}
    note = (
        f"Means over {len(spiking)} pairs, one CPU thread. Mean spike rate {mean_of(spiking, 'mean_rate', '{:.1%}')}; "
        f"by the energy proxy {energy['reduction_vs_twin']:.1f}x below the dense twin and "
        f"{energy['reduction_vs_paper']:.1f}x below the paper's dense network over the same field of view (all passes "
        "counted)."
    )
    return "\n".join([markdown_table(["method", *(heading for _, heading, _ in PAIR_COLUMNS)], lines), "", note])


def summary_table() -> str:
    """Four rows of the cohort, for the README."""
    data = read("cohort")
    lines = []
    for name, shown in SUMMARY.items():
        rows = data["methods"][name]["rows"]
        dice = [row["dice"] for row in rows]
        folds, seconds = mean_of(rows, "true_folding_percent", "{:.3f}"), mean_of(rows, "cpu_s", "{:.1f}")
        lines.append([shown, f"{fmean(dice):.3f}", f"{stdev(dice):.3f}", f"{min(dice):.3f}", folds, seconds])
    subjects = {subject for row in rows for subject in row["pair"].split("_")}
    note = (
        f"{len(rows)} ordered pairs of {len(subjects)} subjects, {data['label_groups']} label groups, "
        f"{data['threads']} thread. Folds are counted in patient space."
    )
    headings = ["method", "mean Dice", "sd", "worst pair", "folds %", "CPU s"]
    return "\n".join([markdown_table(headings, lines), "", note])


def cohort_table() -> str:
    """Every method over the cohort."""
    data = read("cohort")
    headings = ["method", "mean Dice", "sd", "worst", "folds % (scorer)", "folds % (patient space)", "CPU s"]
    headings += ["mean rate", "MAC-weighted rate", "energy: below dense twin", "below paper's network"]
    lines = []
    for name, entry in data["methods"].items():
        rows = entry["rows"]
        dice = [row["dice"] for row in rows]
        energy = [row["energy"] for row in rows if row.get("energy")]
        spiking = [entry for entry in energy if entry["synaptic_ops"] is not None]
        lines.append([
            name, f"{fmean(dice):.3f}", f"{stdev(dice):.3f}", f"{min(dice):.3f}",
            mean_of(rows, "folding_percent", "{:.4f}"), mean_of(rows, "true_folding_percent", "{:.4f}"),
            mean_of(rows, "cpu_s", "{:.1f}"),
            mean_of(rows, "mean_rate", "{:.1%}"), mean_of(rows, "mac_weighted_rate", "{:.1%}"),
            mean_of(spiking, "reduction_vs_twin", "{:.1f}x"), mean_of(spiking, "reduction_vs_paper", "{:.1f}x"),
        ])  # fmt: skip
    ours, greedy = (data["methods"][name]["rows"] for name in ("spikereg", "greedy"))
    return "\n".join([
        markdown_table(headings, lines),
        "",
        f"{len(ours)} ordered pairs of {len({n for r in ours for n in r['pair'].split('_')})} subjects, "
        f"{data['label_groups']} label groups, {data['threads']} thread. CPU seconds are those of the whole "
        "`register`, reading and affine alignment included, and of greedy's deformable stage alone; "
        f"{seconds_compared(ours, greedy)}. Energy counts all passes; the paper's network one.",
    ])  # fmt: skip


def seconds_compared(ours: list[dict], greedy: list[dict]) -> str:
    """The mean ratio over the pairs, where one machine took the seconds of all rows."""
    machines = {row.get("machine") for row in (*ours, *greedy)}
    if len(machines) > 1 or None in machines:
        return "the two were timed on different machines, so there is no ratio of them"
    seconds = {row["pair"]: row["cpu_s"] for row in greedy}
    return f"spikereg takes {fmean(row['cpu_s'] / seconds[row['pair']] for row in ours):.2f} of greedy's"


def comparison_table() -> str:
    """Paired Dice differences with intervals and tests."""
    headings = ["Dice difference", "mean", "95 % interval", "95 %, subjects resampled", "equivalence p (t)"]
    headings += ["equivalence p (Wilcoxon)", "p of at least -margin", "difference p (t)", "(Wilcoxon)"]
    comparisons = read("cohort")["comparisons"]
    lines = []
    for entry in comparisons:
        intervals = [f"{low:+.4f} to {high:+.4f}" for low, high in (entry["ci95"], entry["subject_ci95"])]
        names = ("tost_p", "wilcoxon_tost_p", "non_inferiority_p", "difference_p", "wilcoxon_p")
        lines.append([
            f"{entry['first']} - {entry['second']}", f"{entry['mean']:+.4f}", *intervals,
            *(p_value(entry[name]) for name in names),
        ])  # fmt: skip
    return "\n".join([
        markdown_table(headings, lines),
        "",
        f"Equivalence is two one-sided paired tests with a margin of {comparisons[0]['margin']}. The pairs share "
        "subjects, so these tests and the first interval take them for more independent than they are; the second "
        "interval resamples subjects instead of pairs and errs on the wide side.",
    ])  # fmt: skip


def p_value(p: float) -> str:
    """Two significant digits, or that it is tiny."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def robustness_table() -> str:
    """Dice lost to each corruption."""
    rows = read("robustness")["rows"]
    lines = []
    for name in dict.fromkeys(row["corruption"] for row in rows):
        mine = [row for row in rows if row["corruption"] == name]
        drops = [row["drop"] for row in mine]
        affine = [row["affine_dice_untouched"] - row["affine_dice"] for row in mine]
        lines.append([
            name, str(len(mine)), f"{fmean(drops):+.3f}", f"{max(drops):+.3f}", f"{fmean(affine):+.3f}",
            f"{max(affine):+.3f}", f"{max(row['folding_percent'] for row in mine):.3f}",
        ])  # fmt: skip
    headings = ["moving image damaged by", "runs", "mean drop", "worst drop", "mean drop, affine alone", "worst"]
    worst = max(row["drop"] for row in rows)
    note = f"{len(rows)} runs of the whole pipeline, worst drop of mean Dice {worst:.3f}."
    return "\n".join([markdown_table([*headings, "worst folds %"], lines), "", note])


def contrast_table() -> str:
    """Overlap between subjects through one who was imaged in two contrasts."""
    data = read("multicontrast_subjects")
    lines = [
        [row["contrast"], row["preset"], f"{row['dice']:.3f}", f"{row['folding_percent']:.3f}"] for row in data["rows"]
    ]
    count = len(data["rows"][0]["dice_per_pair"])
    note = (
        f"{count} ordered pairs of {len(data['subjects'])} T1-weighted brains, each registered once to the one between."
    )
    headings = ["image of the one between", "preset", "mean Dice", "folds %"]
    return "\n".join([markdown_table(headings, lines), "", note])


def warp_table() -> str:
    """Known warps within one subject, between contrasts."""
    rows = [row for row in read("contrast_warps")["rows"] if row["seed"] is not None]  # without those of --no-warp
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["largest_mm"], row["pair"]), []).append(row)
    lines = []
    for (largest_mm, _), mine in groups.items():
        first, after = mine[0], [row["after_mm"] for row in mine]
        contrasts = " to ".join(first[name].split("brain")[0].upper() for name in ("fixed", "moving"))
        run = first["preset"] + (f" --method {first['method']}" if first["method"] else "")
        lines.append([
            contrasts, f"{largest_mm:g}", run, mean_of(mine, "before_mm", "{:.2f}"), f"{fmean(after):.2f}",
            f"{max(after):.2f}", mean_of(mine, "after_p95_mm", "{:.2f}"), mean_of(mine, "folding_percent", "{:.3f}"),
            mean_of(mine, "cpu_s", "{:.0f}"),
        ])  # fmt: skip
    headings = ["fixed to moving", "warp up to mm", "preset", "error before, mm", "after", "worst run"]
    headings += ["95th percentile", "folds %", "CPU s"]
    seeds = len({row["seed"] for row in rows})
    note = f"One subject; means over the voxels of the brain and {seeds} random smooth warps."
    return "\n".join([markdown_table(headings, lines), "", note])


def doubtful_table() -> str:
    """What the verdict says of pairs that cannot be registered, of halves of heads, and of sparse vessels."""
    rows = read("doubtful_pairs")["now"]
    groups: dict[tuple, list[dict]] = {}
    for name, row in rows.items():
        shown = row["kind"] if row["error_mm"] is None else name.rsplit(" (", 1)[0]
        groups.setdefault((shown, row["preset"]), []).append(row)
    lines = []
    for (shown, preset), mine in groups.items():
        levels = Counter(row["verdict"]["level"] for row in mine)
        above = [f"{row['similarity']['above_chance']:.2f}" for row in mine if row["similarity"]["above_chance"]]
        lines.append([
            shown, preset, " or ".join(mine[0]["expected"]),
            ", ".join(level if len(mine) == 1 else f"{count} {level}" for level, count in levels.items()),
            " to ".join(dict.fromkeys((min(above), max(above)))) if above else "-",
            mean_of(mine, "error_before_mm", "{:.1f}"), mean_of(mine, "error_mm", "{:.1f}"),
        ])  # fmt: skip
    headings = ["pair", "preset", "right", "verdict", "similarity, times chance", "error before, mm", "after"]
    return markdown_table(headings, lines)
