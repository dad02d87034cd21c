"""Tables and plot of the league of methods, and of what many rows cost, from their result files."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from cohort_tables import markdown_table, read


def league_rows() -> dict[str, list[dict[str, Any]]]:
    """Method -> rows on the pairs that every method has."""
    methods = read("league")["methods"]
    common = set.intersection(*({tuple(row["pair"]) for row in rows} for rows in methods.values()))
    return {name: [row for row in rows if tuple(row["pair"]) in common] for name, rows in methods.items()}


def league_table() -> str:
    """Methods by their overlap."""
    lines = []
    for name, rows in league_rows().items():
        mean = {figure: fmean(row[figure] for row in rows) for figure in ("dice", "hd95_mm", "sdlogj", "cpu_s")}
        folds, peak = fmean(row["true_folding_percent"] for row in rows), max(row["peak_mb"] for row in rows)
        lines.append(
            [name, str(len(rows)), f"{mean['dice']:.4f}", f"{mean['hd95_mm']:.2f}", f"{mean['sdlogj']:.3f}",
             f"{folds:.4f}", f"{mean['cpu_s']:.0f}", f"{peak:.0f}"]
        )  # fmt: skip
    lines.sort(key=lambda line: -float(line[2]))
    head = ["method", "pairs", "Dice", "HD95, mm", "SDlogJ", "folds, %", "CPU s", "peak MB"]
    return markdown_table(head, lines)


def league_plot() -> Any:
    """Overlap against CPU seconds, the roughness as the size of the mark; a figure of matplotlib."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.0, 4.6), layout="constrained")
    for name, rows in league_rows().items():
        cpu_s, dice, rough = (fmean(row[figure] for row in rows) for figure in ("cpu_s", "dice", "sdlogj"))
        ours = name.startswith("spikereg")
        axes.scatter(cpu_s, dice, s=40 + 260 * rough**2, color="#2f6f9f" if ours else "#9aa4ae", alpha=0.85, zorder=3)
        label = f"{name} ({rough:.2f})"
        axes.annotate(label, (cpu_s, dice), xytext=(9, 4), textcoords="offset points", fontsize=8.5)
    axes.set(xscale="log", xlabel="CPU seconds, one thread", ylabel="mean Dice, 33 groups")
    axes.set_title("Same pairs, same affine; in brackets SDlogJ", fontsize=10)
    axes.margins(x=0.22, y=0.12)
    axes.grid(alpha=0.3)
    return figure


def many_rows_table() -> str:
    """Two workers against one, and the overhead and memory of many rows."""
    found = read("many_rows")
    alone, kept, two = (found["overhead"][name] for name in ("one process", "all done before", "two workers"))
    speed, early, last = found["speed_up"], alone["peak_mb_at_row_100"], alone["peak_mb_at_last_row"]
    lines = [
        [f"{speed['rows']} registrations, two workers against one", f"{speed['mean']:.2f} times as fast"],
        [f"{alone['rows']} rows in one process, overhead a row", f"{alone['overhead_ms']:.1f} ms"],
        ["the same, all of them done before", f"{kept['overhead_ms']:.1f} ms"],
        ["the same by two workers", f"{two['overhead_ms']:.1f} ms"],
        ["peak memory at row 100, at the last", f"{early:.0f} MB, {last:.0f} MB"],
    ]
    return markdown_table(["what", "measured"], lines)
