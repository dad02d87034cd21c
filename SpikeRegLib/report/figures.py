"""The measured part of the report: verdict, key figures, overlap, landmarks, regularity, time, provenance."""

from __future__ import annotations

from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

from SpikeRegLib.quality.verdict import measure_name
from SpikeRegLib.report.charts import overlap_rows
from SpikeRegLib.report.elements import course, number, section, table, tile

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
    means = ("before_mean", "after_mean")
    tiles = [
        (course(part["similarity"], ("lncc_before", "lncc_after"), "{:.2f}"), f"similarity ({measure_name(result)})")
    ]
    if part["dice"]:
        tiles.append((course(part["dice"], means, "{:.2f}"), "mean Dice of the labels"))
    if part["tre_mm"]:
        tiles.append((f"{course(part['tre_mm'], means, '{:.1f}')} mm", "mean landmark error"))
    tiles.append((number(part["deformation"].get("folding_percent"), "{:.3g} %"), "of the voxels are folded"))
    tiles.append((number(part["deformation"].get("inverse_consistency_mm"), "{:.3f} mm"), "inverse consistency"))
    if part["energy"]:
        reduction = number(part["energy"].get("reduction_vs_twin"), "{:.1f}×")
        decoders = part["energy"].get("decoder_macs")
        twin = "the dense encoder (proxy, decoders aside)" if decoders else "the dense twin (proxy)"
        tiles.append((reduction, f"less energy than {twin}"))
    spent = "of computing, the rest known from the run before" if result.get("reused") else "from reading to result"
    tiles.append((number(part["timing_s"].get("total"), "{:.1f} s"), spent))
    return f'<div class="tiles">{"".join(tile(*entry) for entry in tiles)}</div>'


def measurements(result: dict[str, Any]) -> str:
    """Overlap, landmarks and regularity of the deformation."""
    part = _tables(result)
    deformation = part["deformation"]
    low, high = (number(deformation.get(f"jacobian_{end}"), "{:.2f}") for end in ("min", "max"))
    means = ("before_mean", "aligned_mean", "after_mean")
    rows = [
        (
            f"Similarity ({measure_name(result)})",
            course(part["similarity"], ("lncc_before", "lncc_aligned", "lncc_after")),
        )
    ]
    if part["similarity"].get("above_chance") is not None:
        times = number(part["similarity"]["above_chance"], "{:.2f} times")
        rows.append(("Similarity aligned, against one image turned over", times))
    if part["dice"]:
        rows.append(("Mean Dice", course(part["dice"], means)))
    if part["hd95_mm"]:
        rows.append(("95 % surface distance, mean", course(part["hd95_mm"], means, "{:.2f} mm")))
    if part["tre_mm"]:
        rows.append(("Landmark error, mean", course(part["tre_mm"], means, "{:.2f} mm")))
    rows += [
        ("Folded voxels", number(deformation.get("folding_percent"), "{:.4f} %")),
        ("Jacobian determinant", f"{low} to {high}"),
        ("Spread of its logarithm (SDlogJ)", number(deformation.get("sdlogj"))),
        ("Displacement, alignment included, mean", number(deformation.get("mean_mm"), "{:.2f} mm")),
        ("Displacement, alignment included, largest", number(deformation.get("max_mm"), "{:.2f} mm")),
        ("Inverse consistency, mean", number(deformation.get("inverse_consistency_mm"), "{:.3f} mm")),
    ]
    parts = [table((), rows)]
    if part["dice"]:
        before, after = (part["dice"].get(name) or {} for name in ("per_label_before", "per_label"))
        parts.append(_labels(before, after, part["hd95_mm"].get("per_label") or {}))
    if part["tre_mm"]:
        errors = [part["tre_mm"].get(name) or [] for name in ("per_point_before", "per_point_aligned", "per_point")]
        listed = [
            (str(n), *(number(error, "{:.2f} mm") for error in course))
            for n, course in enumerate(zip_longest(*errors), 1)
        ]
        head = ("Landmark", "Before", "Aligned", "After")
        parts.append(_folded("Error of each landmark", table(head, listed)))
    note = "Before, with the headers alone; after the affine alignment, where it is known; and after all."
    return section("Measurements", *parts, note=note)


def _labels(before: dict[str, Any], after: dict[str, Any], distances: dict[str, Any]) -> str:
    """Dice of each label as a chart and, with the surface distance, as a table.

    Args:
        before, after: label -> Dice.
        distances: label -> mm.
    """
    values = {label: (before.get(label), value) for label, value in after.items()}
    head = ("Label", "Dice before", "Dice after", "95 % surface distance")
    rows = [
        (label, number(before), number(after), number(distances.get(label), "{:.2f} mm"))
        for label, (before, after) in values.items()
    ]
    parts = [_folded("All labels as a table", table(head, rows))]
    if 0 < len(values) <= _CHART_LABELS:
        chart = overlap_rows([(f"label {label}", before, after) for label, (before, after) in values.items()])
        known = any(before is not None for before, _ in values.values())
        title = "Dice of each label, before (hollow) and after (filled)" if known else "Dice of each label, after"
        parts.insert(0, f"<h3>{title}</h3>{chart}")
    return "".join(parts)


def timing(result: dict[str, Any]) -> str:
    """Time per stage as a bar and, with the CPU time, as a table; and the memory used."""
    times = _tables(result)["timing_s"]
    known = [(stage, float(times[stage])) for stage in _STAGES if isinstance(times.get(stage), (int, float))]
    total = sum(seconds for _, seconds in known) or 1.0
    bars = "".join(
        f'<div style="width:{100 * seconds / total:.2f}%;background:{_STAGE_COLOURS[_STAGES.index(stage)]}">'
        f"{stage if seconds > 0.09 * total else ''}</div>"
        for stage, seconds in known
    )
    cpu = dict(result.get("cpu_s") or {})
    if all(stage in cpu for stage, _ in known):
        cpu["total"] = sum(cpu[stage] for stage, _ in known)
    reused = [str(part) for part in result.get("reused") or []]
    rows = [
        (stage, number(times.get(stage), "{:.2f} s"), number(cpu.get(stage), "{:.2f} s"))
        for stage in (*(stage for stage, _ in known), "total")
    ]
    return section(
        "Time and memory",
        f'<div class="stages">{bars}</div>',
        table(("Stage", "Time", "CPU time"), rows),
        f"<p>Taken over from the run before, and not counted: {escape(', '.join(reused))}.</p>" if reused else "",
        f"<p>Highest memory of the process: {number(result.get('peak_memory_mb'), '{:.0f} MB')}.</p>",
    )


def provenance(result: dict[str, Any], fixed: str, moving: str) -> str:
    """What was registered with what: files, settings, model and versions."""
    model = result.get("model") or {}
    fine = model.get("fine")
    structures = (result.get("anatomy") or {}).get("model")
    rows = [
        ("Fixed image", fixed),
        ("Moving image", moving),
        ("Method", result.get("method")),
        ("Preset", result.get("preset")),
        ("Model", f"{model['name']}, sha256 {model.get('sha256')}" if model.get("name") else "none"),
        ("Fine model", f"{fine['name']}, sha256 {fine.get('sha256')}" if fine else None),
        ("Structures", f"{structures['name']}, sha256 {structures.get('sha256')}" if structures else None),
        ("Device", result.get("device")),
        ("Arithmetic", result.get("arithmetic")),
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
    names = ("similarity", "deformation", "dice", "hd95_mm", "tre_mm", "timing_s", "energy")
    return {name: result.get(name) or {} for name in names}


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
