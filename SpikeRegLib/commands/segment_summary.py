"""The table a person reads after a segmentation: a structure a line, left beside right."""

from __future__ import annotations

from typing import Any


def segmentation_lines(result: dict[str, Any]) -> list[str]:
    """A short table of `result` (as in segmentation.json), then the whole brain, what it took, and the warnings."""
    sides: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result["structures"]:
        side, _, rest = str(row["name"]).partition(" ")
        name, side = (rest, side) if side in ("left", "right") else (str(row["name"]), "middle")
        sides.setdefault(name, {})[side] = row
    lines = [f"{'':<28} {'left ml':>10} {'right ml':>10} {'confidence':>11}"]
    for name, rows in sides.items():
        first, *second = (rows[side] for side in ("left", "right", "middle") if side in rows)
        right = f"{second[0]['ml']:10.2f}" if second else f"{'':10}"
        sure = min(row["confidence"] for row in rows.values())
        lines.append(f"{name:<28} {first['ml']:10.2f} {right} {sure:11.2f}")
    lines.append(f"{'brain with CSF':<28} {result['brain_ml']:10.1f} {'':10} {result['confidence']:11.2f}")
    if spikes := result.get("spikes"):
        lines.append(f"{'mean spike rate':<28} {spikes['mean_rate']:.1%} over {spikes['timesteps']} time steps")
    if (energy := result.get("energy")) and energy["reduction_vs_twin"]:
        lines.append(f"{'energy (proxy)':<28} {energy['reduction_vs_twin']:.1f}x below the dense twin")
    lines.append(f"{'time':<28} {result['timing_s']['total']:.1f} s")
    return lines + [f"warning: {warning}" for warning in result["warnings"]]
