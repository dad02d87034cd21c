"""Tables of the networks alone: seconds, what rounding costs, early read-outs, what each part of training gives."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from cohort_tables import markdown_table, p_value, read


def inference_table(name: str) -> str:
    """A network alone: dense twin, closed form, event simulation."""
    data = read(name)
    lines = []
    for arithmetic, entry in data["results"].items():
        seconds = [f"{entry['cpu_s'][kind]:.3f} s" for kind in ("dense twin", "closed form", "event simulation")]
        same = "yes" if entry["events_equal_closed_form"] else "NO"
        lines.append([arithmetic, *seconds, f"{entry['closed_form_vs_dense']:.2f}", same])
    headings = ["precision", "dense twin", "closed form", "event simulation", "closed form / dense", "same field"]
    shape = " x ".join(map(str, data["shape"]))
    note = f"CPU seconds at {shape} voxels, {data['threads']} thread, T = {data['timesteps']}."
    return "\n".join([markdown_table(headings, lines), "", note])


def arithmetic_table() -> str:
    """Dice of the networks in integers and in floating point."""
    data = read("arithmetics")
    lines = []
    for entry in data["comparisons"]:
        means = [fmean(data["dice"][entry["passes"]][name].values()) for name in (entry["first"], entry["second"])]
        low, high = entry["ci95"]
        lines.append([
            f"{entry['passes']}, {entry['first']} - {entry['second']}", *(f"{value:.4f}" for value in means),
            f"{entry['mean']:+.4f}", f"{low:+.4f} to {high:+.4f}", p_value(entry["tost_p"]),
        ])  # fmt: skip
    first = data["comparisons"][0]
    headings = ["networks alone", "Dice", "Dice of the other", "difference", "95 % interval", "equivalence p (t)"]
    note = f"{first['pairs']} pairs; the margin of equivalence is {first['margin']} here."
    return "\n".join([markdown_table(headings, lines), "", note])


def readout_table() -> str:
    """Dice of the networks read after each time step."""
    data = read("readout")
    headings = ["time steps", *data["dice"]]
    steps = next(iter(data["dice"].values()))
    lines = [[count, *(f"{found[count]:.3f}" for found in data["dice"].values())] for count in steps]
    note = (
        f"Mean Dice of {data['pairs']} pairs, no refinement; the networks were trained for {data['timesteps']} steps."
    )
    return "\n".join([markdown_table(headings, lines), "", note])


def ablation_table() -> str:
    """The coarse network after the same short training, one part left out at a time."""
    data = read("finetune_ablation")
    whole = next(row for row in data["rows"] if row["variant"] == "all parts")
    lines = []
    for row in data["rows"]:
        rates = [f"{row[name]:.1%}" if name in row else "-" for name in ("mean_rate", "mac_weighted_rate")]
        change = "-" if row is whole else f"{row['dice'] - whole['dice']:+.4f}"
        energy, mended = f"{row.get('snn_mj', row['ann_mj']):.2f}", f"{row['mended_percent']:.3f}"
        lines.append([row["variant"], f"{row['dice']:.4f}", change, *rates, energy, mended])
    headings = ["variant", "Dice", "change", "mean rate", "MAC-weighted", "energy proxy mJ", "cells mended %"]
    note = (
        f"The coarse pass alone, {len(whole['dice_per_pair'])} pairs, after {data['steps']} training pairs with the "
        f"options of `{data['recipe']}`, from the same teacher; the shipped weights saw many more. *Cells mended*: of "
        "the predicted field, where the fold guard had to act."
    )
    return "\n".join([markdown_table(headings, lines), "", note])


def structures_table(results: str) -> str:
    """Dice of a network that names structures against manual labels, and what it says of other images."""
    found = read(results)
    rows, fires = found["rows"], "rate" in found["rows"][0]
    columns = ["mean", "one_look", "worst", "brain", "cpu_s"]
    columns += ["rate", "snn_mj", "reduction_vs_twin"] if fires else []

    def cells(row: dict[str, Any]) -> list[str]:
        dice, seconds = (f"{row[name]:.3f}" for name in columns[:4]), f"{row['cpu_s']:.1f}"
        fired = (100 * row["rate"], row["snn_mj"], row["reduction_vs_twin"]) if fires else ()
        return [*dice, seconds, *(f"{value:.1f}" for value in fired)]

    lines = [[row["subject"], *cells(row)] for row in rows]
    lines.append(["mean", *cells({name: fmean(row[name] for row in rows) for name in columns})])
    headings = ["subject", f"mean Dice, {found['views']} looks", "one look", "worst structure", "brain", "CPU s"]
    headings += ["rate, %", "mJ", "times less than dense"] if fires else []
    others = markdown_table(
        ["other images", "Dice"], [[name, f"{value:.3f}"] for name, value in found["beyond"].items()]
    )
    return f"{markdown_table(headings, lines)}\n\n{others}"


def anatomy_uses_table() -> str:
    """What each use of the structures gives in a registration, and the preset brain-t1 on the pairs of every use."""
    found = read("anatomy_uses")["variants"]
    pairs = {"_".join(row["pair"]) for row in found["all"]}
    networks = [row for row in read("cohort")["methods"]["spikereg"]["rows"] if row["pair"] in pairs]
    lines = []
    for name, rows in [*found.items(), ("preset brain-t1", networks)]:
        means = [fmean(row[figure] for row in rows) for figure in ("dice", "sdlogj", "cpu_s")]
        worst, folds = min(row["dice"] for row in rows), max(row["folding_percent"] for row in rows)
        lines.append([name, str(len(rows)), f"{means[0]:.4f}", f"{worst:.3f}", f"{means[1]:.3f}", f"{folds:.3f}"])
        # Seconds of that preset were taken on another machine.
        lines[-1].append("-" if rows is networks else f"{means[2]:.1f}")
    return markdown_table(["uses", "pairs", "Dice", "worst", "SDlogJ", "folds, %", "CPU s"], lines)


def poses_table() -> str:
    """Heads in any pose: whether they are found, how far off the start is, and what finding them costs."""
    found = read("poses")
    headings = ["poses", "within 5 mm", "not found", "mean, mm", "most, mm", "mean CPU s", "most CPU s"]
    off = [f"{found[name]:.1f}" for name in ("mean_off_mm", "most_off_mm", "mean_cpu_s", "most_cpu_s")]
    return markdown_table(headings, [[str(found[name]) for name in ("poses", "within_5_mm", "not_found")] + off])
