"""The measured part of the report: verdict, key figures, overlap, landmarks, regularity, time, provenance."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from SpikeRegLib.report.charts import before_after
from SpikeRegLib.report.elements import change, number, section, table, tile

_VERDICTS = {
    "good": ("Good", "nothing measured speaks against this registration"),
    "check": ("Check", "look at the points below before using it"),
    "poor": ("Poor", "do not use it without correction"),
}
_STAGES = ("prepare", "align", "predict", "refine", "finish")
_STAGE_COLOURS = ("#8a97a5", "#2f6f9f", "#8f3a84", "#c2622d", "#5b7f3b")
_CHART_LABELS = 60  # more rows than this go into the table alone


def verdict_box(result: dict[str, Any]) -> str:
    """The verdict in words and colour, with its reasons and every warning."""
    verdict = result.get("verdict") or {}
    level = verdict.get("level") if verdict.get("level") in _VERDICTS else "check"
    word, meaning = _VERDICTS[str(level)]
    reasons = "".join(f"<li>{escape(str(reason))}</li>" for reason in verdict.get("reasons") or [])
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    warnings = "".join(f"<li>{escape(str(warning))}</li>" for warning in result.get("warnings") or [])
    warned = f'<div class="verdict check"><b>Warnings</b><ul>{warnings}</ul></div>' if warnings else ""
    return f'<div class="verdict {level}"><b>Verdict: {word}</b> · {meaning}{listed}</div>{warned}'


def key_figures(result: dict[str, Any]) -> str:
    """The row of tiles under the verdict; what was not measured has no tile."""
    part = _tables(result)
    tiles = [(change(part["similarity"], "lncc_before", "lncc_after"), "similarity (LNCC), before → after")]
    if part["dice"]:
        tiles.append((change(part["dice"], "before_mean", "after_mean"), "mean Dice, before → after"))
    if part["tre_mm"]:
        error = change(part["tre_mm"], "before_mean", "after_mean", "{:.2f}")
        tiles.append((f"{error} mm", "landmark error, before → after"))
    tiles.append((number(part["deformation"].get("folding_percent"), "{:.3g} %"), "of the voxels are folded"))
    tiles.append((number(part["deformation"].get("inverse_consistency_mm"), "{:.3f} mm"), "inverse consistency"))
    if part["energy"]:
        reduction = number(part["energy"].get("reduction_vs_twin"), "{:.1f}×")
        tiles.append((reduction, "less energy than the dense twin (proxy)"))
    tiles.append((number(part["timing_s"].get("total"), "{:.1f} s"), "from reading to result"))
    return f'<div class="tiles">{"".join(tile(*entry) for entry in tiles)}</div>'


def measurements(result: dict[str, Any]) -> str:
    """Overlap, landmarks and regularity of the deformation."""
    part = _tables(result)
    deformation = part["deformation"]
    low, high = (number(deformation.get(f"jacobian_{end}"), "{:.2f}") for end in ("min", "max"))
    rows = [
        ("Similarity (LNCC, higher is better)", change(part["similarity"], "lncc_before", "lncc_after", "{:.4f}")),
        ("Similarity after the affine alignment alone", number(part["similarity"].get("lncc_aligned"), "{:.4f}")),
        ("Folded voxels", number(deformation.get("folding_percent"), "{:.4f} %")),
        ("Jacobian determinant, lowest to highest", f"{low} to {high}"),
        ("Spread of its logarithm (SDlogJ)", number(deformation.get("sdlogj"))),
        ("Displacement, mean", number(deformation.get("mean_mm"), "{:.2f} mm")),
        ("Displacement, largest", number(deformation.get("max_mm"), "{:.2f} mm")),
        ("Inverse consistency, mean", number(deformation.get("inverse_consistency_mm"), "{:.3f} mm")),
    ]
    if part["dice"]:
        rows.insert(1, ("Mean Dice", change(part["dice"], "before_mean", "after_mean")))
    if part["tre_mm"]:
        rows.insert(1, ("Landmark error, mean", change(part["tre_mm"], "before_mean", "after_mean", "{:.2f} mm")))
    parts = [table((), rows)]
    if part["dice"]:
        parts.append(_labels(part["dice"].get("per_label") or {}, result.get("hd95_mm")))
    if part["tre_mm"]:
        points = part["tre_mm"].get("per_point") or []
        listed = [(str(n), number(error, "{:.2f} mm")) for n, error in enumerate(points, 1)]
        parts.append(_folded("Error of each landmark", table(("Landmark", "After"), listed)))
    return section("Measurements", *parts)


def _labels(per_label: dict[str, Any], hd95: Any) -> str:
    """Dice of each label as a chart (where before and after are known) and as a table with the surface distance."""
    distances = hd95 if isinstance(hd95, dict) else {}
    distances = distances.get("per_label", distances)
    rows, pairs = [], []
    for label, value in per_label.items():
        before, after = (value.get("before"), value.get("after")) if isinstance(value, dict) else (None, value)
        rows.append((label, number(before), number(after), number(distances.get(label), "{:.2f} mm")))
        if isinstance(before, (int, float)) and isinstance(after, (int, float)):
            pairs.append((f"label {label}", float(before), float(after)))
    chart = "<h3>Dice of each label, before (hollow) and after (filled)</h3>" + before_after(pairs)
    listed = table(("Label", "Dice before", "Dice after", "95 % surface distance"), rows)
    return (chart if 0 < len(pairs) <= _CHART_LABELS else "") + _folded("All labels as a table", listed)


def timing(result: dict[str, Any]) -> str:
    """Time per stage as a bar and a table, and the memory used."""
    times = _tables(result)["timing_s"]
    known = [(stage, float(times[stage])) for stage in _STAGES if isinstance(times.get(stage), (int, float))]
    total = sum(seconds for _, seconds in known) or 1.0
    bars = "".join(
        f'<div style="width:{100 * seconds / total:.2f}%;background:{_STAGE_COLOURS[_STAGES.index(stage)]}">'
        f"{stage if seconds > 0.09 * total else ''}</div>"
        for stage, seconds in known
    )
    rows = [(stage, number(seconds, "{:.2f} s")) for stage, seconds in known]
    rows += [("total", number(times.get("total"), "{:.2f} s"))]
    rows += [("peak memory", number(result.get("peak_memory_mb"), "{:.0f} MB"))]
    return section("Time and memory", f'<div class="stages">{bars}</div>', table((), rows))


def provenance(result: dict[str, Any], fixed: str, moving: str) -> str:
    """What was registered with what: files, settings, model and versions."""
    model = result.get("model") or {}
    rows = [
        ("Fixed image", fixed),
        ("Moving image", moving),
        ("Method", result.get("method")),
        ("Preset", result.get("preset")),
        ("Model", f"{model['name']}, sha256 {model.get('sha256')}" if model.get("name") else "none"),
        ("Device", result.get("device")),
        ("Threads", result.get("threads")),
        ("Seed", result.get("seed")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in (result.get("versions") or {}).items())),
        ("result.json schema", result.get("schema")),
    ]
    listed = [(name, str(value)) for name, value in rows if value not in (None, "")]
    return section("Provenance", table((), listed, numeric_from=2))


def file_name(name: str) -> str:
    """The last part of a path, or a dash for a volume that came from no file."""
    return Path(name).name or "—"


def _tables(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables of the result; those that are null or missing are empty."""
    names = ("similarity", "deformation", "dice", "tre_mm", "timing_s", "energy")
    return {name: result.get(name) or {} for name in names}


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
