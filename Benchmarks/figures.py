"""Regenerate every table and plot from the committed result files.

    python Benchmarks/figures.py

Tables: see tables.py. Plots: Docs/figures/accuracy-energy.png and accuracy-time.png. Each plot carries a digest of the
results it shows, by which a test finds one that is out of date.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import tables
from cohort_tables import RESULTS, read
from league_tables import league_plot

PLOTS = Path(__file__).resolve().parents[1] / "Docs" / "figures"
# Name in the cohort -> name in the plot.
TIMED = {
    "affine": "affine alignment",
    "fast-preview": "preset fast-preview",
    "spiking, coarse pass": "spiking network, coarse pass",
    "sparse": "sparse networks, both passes",
    "spiking": "spiking networks, both passes",
    "optimize": "refinement without network",
    "spikereg": "spiking network and refinement",
    "greedy": "greedy, deformable stage alone",
}
MARKS = "Xv<P>sDo"


def digest(plot: str) -> str:
    """Of the result files a plot is made from."""
    content = b"".join((RESULTS / f"{name}.json").read_bytes() for name in tables.FILLERS[plot][1])
    return hashlib.sha256(content).hexdigest()


def save(figure: Any, plot: str) -> None:
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / f"{plot}.png", dpi=130, metadata={"Source": digest(plot)})


def greedy_on(pairs: list[str]) -> float:
    rows = read("cohort")["methods"]["greedy"]["rows"]
    return fmean(row["dice"] for row in rows if row["pair"] in pairs)


def accuracy_energy() -> None:
    """Dice over proxy energy: one line a percentile, T along it; the released network; dense teacher and greedy."""
    import matplotlib.pyplot as plt

    data = read("pareto")
    figure, axes = plt.subplots(figsize=(9.0, 5.0), layout="constrained")
    percentiles = list(dict.fromkeys(entry["percentile"] for entry in data["converted"]))
    colours = plt.get_cmap("viridis")
    for number, percentile in enumerate(percentiles):
        points = [entry for entry in data["converted"] if entry["percentile"] == percentile]
        axes.plot(
            [p["snn_mj"] for p in points], [p["dice"] for p in points], "o-", markersize=4, linewidth=1.2,
            color=colours(0.92 * number / max(1, len(percentiles) - 1)), label=f"{percentile:g}th percentile",
        )  # fmt: skip
    released = data["released"]
    axes.plot(
        [p["snn_mj"] for p in released], [p["dice"] for p in released], "s-", color="crimson", markersize=5,
        label="released, fine-tuned\n(star: as released)",
    )  # fmt: skip
    for entry in released:
        if entry["timesteps"] == data["released_timesteps"]:
            axes.plot(entry["snn_mj"], entry["dice"], "*", color="crimson", markersize=17, zorder=5)
        beside = (-8, 7) if entry["timesteps"] < 8 else (16, 8)
        axes.annotate(
            f"T = {entry['timesteps']}", (entry["snn_mj"], entry["dice"]), xytext=beside, textcoords="offset points",
            color="crimson", fontsize=9, ha="right",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )  # fmt: skip
    sparse = data["sparse"]
    axes.plot(
        sparse["snn_mj"], sparse["dice"], "*", color="mediumvioletred", markersize=17, zorder=5,
        label=f"sparse networks, T = {sparse['timesteps']}",
    )  # fmt: skip
    teacher = data["teacher"]
    axes.axhline(teacher["dice"], color="0.25", linewidth=1, linestyle="--")
    axes.plot(teacher["ann_mj"], teacher["dice"], "D", color="0.25", markersize=7, label="dense teacher")
    axes.axhline(greedy_on(data["pairs"]), color="darkorange", linewidth=1.2, linestyle=":", label="greedy")
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.set(xlabel="energy of both passes by the analytical proxy, mJ", ylabel="mean Dice, 33 label groups")
    ticks = sorted({entry["timesteps"] for entry in data["converted"]})
    axes.set_title(
        f"Accuracy against energy: {len(data['pairs'])} pairs, both passes, no refinement; "
        f"along the percentiles T = {', '.join(map(str, ticks))}", fontsize=10,
    )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(figure, "accuracy-energy")
    plt.close(figure)


def accuracy_time() -> None:
    """Dice over CPU seconds, mean and standard deviation over the cohort."""
    import matplotlib.pyplot as plt

    methods = read("cohort")["methods"]
    figure, axes = plt.subplots(figsize=(9.0, 5.0), layout="constrained")
    for number, (name, shown) in enumerate(TIMED.items()):
        rows = methods[name]["rows"]
        dice, seconds = [row["dice"] for row in rows], [row["cpu_s"] for row in rows]
        colour = f"C{number}"
        axes.scatter(seconds, dice, s=9, alpha=0.25, color=colour, linewidths=0)
        x, y = fmean(seconds), fmean(dice)
        axes.errorbar(
            x, y, xerr=stdev(seconds), yerr=stdev(dice), fmt=MARKS[number], color=colour, markersize=8, capsize=3,
            linewidth=1.3, markeredgecolor="white", label=f"{shown}:\n{y:.3f} in {x:.1f} s",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set(
        xlabel="CPU seconds, one thread; ours from reading the files on, affine alignment included",
        ylabel="mean Dice, 33 label groups",
    )
    axes.set_title(f"Accuracy against time: {len(rows)} pairs, mean and standard deviation", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5), labelspacing=0.9)
    save(figure, "accuracy-time")
    plt.close(figure)


def league() -> None:
    """Every method of the league by overlap and CPU time."""
    import matplotlib.pyplot as plt

    figure = league_plot()
    save(figure, "league-plot")
    plt.close(figure)


PLOTTED = {"accuracy-energy": accuracy_energy, "accuracy-time": accuracy_time, "league-plot": league}


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    tables.main()
    for name, draw in PLOTTED.items():
        if tables.measured(name):
            draw()
            print(f"Docs/figures/{name}.png")


if __name__ == "__main__":
    main()
