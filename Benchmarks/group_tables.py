"""The tables of what goes beyond one pair: the template of a group, and simulated atrophy read back."""

from __future__ import annotations

from statistics import fmean

from cohort_tables import markdown_table, read


def group_table() -> str:
    """The template of all development brains: what it cost, and pairs through it against pairs by themselves."""
    found = read("group_template")
    headings = [
        "subjects", "rounds", "CPU min", "peak MB", "bias, mm", "edges against one subject's", "pairs", "Dice through",
        "Dice direct", "difference", "its standard error", "folds, %",
    ]  # fmt: skip
    row = [
        str(found["subjects"]), str(found["iterations"]), f"{found['group_cpu_s'] / 60:.1f}",
        f"{found['peak_memory_mb']:.0f}", f"{found['bias_mm']['mean']:.3f}", f"{found['sharpness']:.2f}",
        str(found["pairs"]), f"{found['dice_through']:.4f}", f"{found['dice_direct']:.4f}",
        f"{found['dice_difference']:+.4f}", f"{found['dice_difference_se'] or 0:.4f}",
        f"{found['folding_percent']:.3f}",
    ]  # fmt: skip
    return markdown_table(headings, [row])


def atrophy_table() -> str:
    """Simulated atrophy of both hippocampi: what was put in, and what is read back."""
    headings = [
        "subject", "SNR", "simulated, %", "read back, %", "error, %", "left, right, %", "directions differ by, %",
        "CPU s",
    ]  # fmt: skip
    lines = []
    for row in read("atrophy")["rows"]:
        right, left = row["sides_percent"]
        lines.append([
            row["subject"], f"{row['snr']:g}", f"{row['truth_percent']:.2f}", f"{row['found_percent']:.2f}",
            f"{row['error_percent']:+.2f}", f"{left:.2f}, {right:.2f}",
            "-" if row["directions_differ_percent"] is None else f"{row['directions_differ_percent']:.3f}",
            f"{row['cpu_s']:.0f}",
        ])  # fmt: skip
    whole = [abs(row["error_percent"]) for row in read("atrophy")["rows"]]
    lines.append(["mean of sizes", "", "", "", f"{fmean(whole):.2f}", "", "", ""])
    return markdown_table(headings, lines)
