"""Tables of the neural fields, from their result files."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from cohort_tables import markdown_table, mean_of, p_value, read


def methods_table() -> str:
    """All methods on the development pairs, one run."""
    data = read("methods")
    headings = ["method", "mean Dice", "worst", "folds % (scorer)", "folds % (patient space)", "SDlogJ"]
    headings += ["inverse consistency mm", "CPU s", "beyond the affine", "of it predict and refine", "peak memory MB"]
    headings += ["energy proxy mJ: networks", "decoding"]
    lines = []
    for name, entry in data["methods"].items():
        rows = entry["rows"]
        energy = [row["energy_mj"] for row in rows]
        lines.append([
            name, mean_of(rows, "dice", "{:.3f}"), f"{min(row['dice'] for row in rows):.3f}",
            mean_of(rows, "folding_percent", "{:.4f}"), mean_of(rows, "true_folding_percent", "{:.4f}"),
            mean_of(rows, "sdlogj", "{:.3f}"), mean_of(rows, "inverse_consistency_mm", "{:.3f}"),
            mean_of(rows, "cpu_s", "{:.1f}"), mean_of(rows, "beyond_affine_cpu_s", "{:.1f}"),
            mean_of(rows, "found_cpu_s", "{:.1f}"), mean_of(rows, "peak_mb", "{:.0f}"),
            mean_of(energy, "network_mj", "{:.3g}"), mean_of(energy, "decoder_mj", "{:.3g}"),
        ])  # fmt: skip
    count = max(len(entry["rows"]) for entry in data["methods"].values())
    notes = [
        f"Means over {count} pairs, {data['threads']} thread, whole commands. The energy is an analytical proxy "
        "(45 nm, 32-bit float), never a measurement; refinement and the optimisation of codes are not in it.",
    ]
    for entry in data["comparisons"]:
        low, high = entry["ci95"]
        notes.append(
            f"Dice of {entry['first']} minus {entry['second']}: {entry['mean']:+.4f} (95 % interval {low:+.4f} to "
            f"{high:+.4f}; p of at least -{entry['margin']}: {p_value(entry['non_inferiority_p'])})."
        )
    if data["left_out"]:
        notes.append(f"Not measured, for want of preset or weights: {', '.join(data['left_out'])}.")
    return "\n\n".join([markdown_table(headings, lines), *notes])


def _memory_lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    lines = []
    for row in rows:
        alike = [r for r in rows if (r["task"], r["spacing_mm"]) == (row["task"], row["spacing_mm"])]
        voxel = [r["beyond_mb"] for r in alike if not r["network"].startswith("neural field")]
        compared = "-"
        if row["network"].startswith("neural field") and voxel:
            compared = " to ".join(f"{row['beyond_mb'] / mb:.2f}" for mb in sorted({min(voxel), max(voxel)})[::-1])
        lines.append([
            f"{row['spacing_mm']} mm, {' x '.join(map(str, row['shape']))}", row["task"], row["network"],
            f"{row['imports_mb']:.0f}", f"{row['peak_mb']:.0f}", f"{row['beyond_mb']:.0f}", compared,
            f"{row['cpu_s']:.1f}",
        ])  # fmt: skip
    return lines


def memory_table() -> str:
    """Peak memory of neural and voxel fields, training and predicting."""
    data = read("field_memory")
    headings = ["grid", "task", "network", "after the imports MB", "peak MB", "beyond the imports MB"]
    headings += ["share of the voxel networks'", "CPU s"]
    verdicts = []
    for spacing in dict.fromkeys(row["spacing_mm"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["task"] == "train" and row["spacing_mm"] == spacing]
        fields = [row for row in rows if row["network"].startswith("neural field")]
        voxel = [row for row in rows if row not in fields]
        if not (fields and voxel):
            continue
        least = min(fields, key=lambda row: row["beyond_mb"])
        shares = [f"{least['beyond_mb'] / row['beyond_mb']:.2f} of {row['network']}" for row in voxel]
        held = all(least["beyond_mb"] <= data["claim"] * row["beyond_mb"] for row in voxel)
        verdicts.append(
            f"At {spacing} mm the smallest training of a neural field ({least['network']}) takes {', '.join(shares)}: "
            f"the paper's fifth is {'reached' if held else 'not reached'}."
        )
    steps = f"{data['steps']} steps" if data["steps"] > 1 else "one step"
    note = f"A fresh process each, {data['threads']} thread; training: {steps}, CPU seconds of one."
    return "\n\n".join([markdown_table(headings, _memory_lines(data["rows"])), note, *verdicts])


def consistency_table() -> str:
    """The same training with and without gradient inverse consistency."""
    data = read("consistency_ablation")
    headings = ["weight of the term", "mean Dice", "folds %", "folds %, inverse map", "smallest Jacobian", "SDlogJ"]
    headings += ["inverse consistency mm", "99th percentile"]
    lines = []
    for run in data["runs"]:
        rows = run["rows"]
        lines.append([
            f"{run['consistency']:g}", mean_of(rows, "dice", "{:.3f}"), mean_of(rows, "folding_percent", "{:.4f}"),
            mean_of(rows, "inverse_folding_percent", "{:.4f}"), f"{min(row['jacobian_min'] for row in rows):.2f}",
            mean_of(rows, "sdlogj", "{:.3f}"), mean_of(rows, "inverse_consistency_mm", "{:.3f}"),
            mean_of(rows, "inverse_consistency_p99_mm", "{:.3f}"),
        ])  # fmt: skip
    notes = [
        f"{data['steps']} training steps each from {data['initial']}, same pairs and points; the encoder alone on "
        f"{len(data['runs'][0]['rows'])} pairs, the fields as the decoders give them, without the fold guard."
    ]
    if data["dice_difference"]:
        low, high = data["dice_difference"]["ci95"]
        notes.append(
            f"Dice with the term minus without: {data['dice_difference']['mean']:+.4f} "
            f"(95 % interval {low:+.4f} to {high:+.4f})."
        )
    return "\n\n".join([markdown_table(headings, lines), *notes])


def warps_table() -> str:
    """A field without weights on known warps, one resolution and more."""
    data = read("field_warps")
    headings = ["warp", "codes", "before mm", "after mm", "95th percentile", "folds %", "similarity", "CPU s"]
    lines = []
    groups = dict.fromkeys((row["warp"], row["resolutions"]) for row in data["rows"])
    for warp, resolutions in groups:
        rows = [row for row in data["rows"] if (row["warp"], row["resolutions"]) == (warp, resolutions)]
        stages = ", ".join(f"{mm:g}" for mm in rows[0]["stages_mm"])
        lines.append([
            warp, f"{resolutions}: {stages} mm", mean_of(rows, "before_mm", "{:.2f}"),
            mean_of(rows, "after_mm", "{:.2f}"), mean_of(rows, "after_p95_mm", "{:.2f}"),
            mean_of(rows, "folding_percent", "{:.3f}"),
            f"{fmean(row['lncc_before'] for row in rows):.2f} to {fmean(row['lncc_after'] for row in rows):.2f}",
            mean_of(rows, "cpu_s", "{:.0f}"),
        ])  # fmt: skip
    seeds = len({row["seed"] for row in data["rows"]})
    note = (
        f"{data['image']} at {data['spacing_mm']:g} mm, {seeds} {'warp' if seeds == 1 else 'warps'} of each kind, no "
        "alignment before; distance of the found from the true displacement over the head."
    )
    return "\n\n".join([markdown_table(headings, lines), note])
