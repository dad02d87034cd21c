"""The few lines a person reads after a registration."""

from __future__ import annotations

from typing import Any

from SpikeRegLib.quality.verdict import measure_name

# What is shown, from which table of the result, and how; a row is left out when one of its values was not measured.
_ROWS = (
    ("similarity", "similarity", "{lncc_before:.3f} -> {lncc_after:.3f} {measure_name}"),
    ("mean Dice", "dice", "{before_mean:.3f} -> {after_mean:.3f}"),
    ("structures' overlap", "anatomy", "{agreement:.3f} mean Dice of those found in both images"),
    ("landmark error", "tre_mm", "{before_mean:.2f} -> {after_mean:.2f} mm"),
    ("folded voxels", "deformation", "{folding_percent:.3f} %"),
    ("inverse consistency", "deformation", "{inverse_consistency_mm:.3f} mm"),
    ("mean spike rate", "spikes", "{mean_rate:.1%} over {timesteps} time steps"),
    ("energy (proxy)", "energy", "{reduction_vs_twin:.1f}x below the dense twin"),
    ("time", "timing_s", "{total:.1f} s"),
)


def summary_lines(result: dict[str, Any]) -> list[str]:
    """A short table of `result` (as in result.json), one line a row, then the verdict's reasons and the warnings."""
    lines = []
    for name, table, text in _ROWS:
        try:
            lines.append(f"{name:<20} {text.format(**(result.get(table) or {}), measure_name=measure_name(result))}")
        except (KeyError, TypeError):  # not in the table, or null
            continue
    verdict = result.get("verdict")
    if verdict:
        lines += [f"{'verdict':<20} {verdict['level']}", *(f"  - {reason}" for reason in verdict["reasons"])]
    return lines + [f"warning: {warning}" for warning in result.get("warnings") or []]
