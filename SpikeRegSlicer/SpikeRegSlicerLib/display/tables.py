"""Tables of a run's figures from its result.json: metrics, labels, energy, provenance, spike rates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeGuard

import slicer
import vtk
from slicer.i18n import tr as _

_NONE = "–"
_MEASURED = ("similarity", "dice", "hd95_mm", "tre_mm", "deformation", "predicted_error")


def metricsTable(scene: Any, result: dict[str, Any]) -> Any:
    """What was measured before, after the affine alignment and at the end; what was not measured has no row."""
    from SpikeRegLib.quality.verdict import measure_name

    part = {name: result.get(name) or {} for name in _MEASURED}
    lncc = {when: part["similarity"].get(f"lncc_{when}") for when in ("before", "aligned", "after")}
    rows = [_course(_("Similarity ({measure})").format(measure=measure_name(result)), lncc, "{:.3f}")]
    above = {"aligned": part["similarity"].get("above_chance")}
    rows.append(_course(_("Similarity against one image turned over (times)"), above, "{:.2f}"))
    for name, title, text in (
        ("dice", _("Dice, mean of the labels"), "{:.3f}"),
        ("hd95_mm", _("95 % surface distance, mean (mm)"), "{:.2f}"),
        ("tre_mm", _("Landmark error, mean (mm)"), "{:.2f}"),
    ):
        means = {when: part[name].get(f"{when}_mean") for when in ("before", "aligned", "after")}
        rows.append(_course(title, means, text))
    for field, title, text in (
        ("folding_percent", _("Folded voxels (%)"), "{:.4f}"),
        ("jacobian_min", _("Jacobian, smallest"), "{:.3f}"),
        ("jacobian_max", _("Jacobian, largest"), "{:.3f}"),
        ("sdlogj", _("Spread of the log Jacobian (SDlogJ)"), "{:.3f}"),
        ("mean_mm", _("Displacement with alignment, mean (mm)"), "{:.2f}"),
        ("max_mm", _("Displacement with alignment, largest (mm)"), "{:.2f}"),
        ("inverse_consistency_mm", _("Inverse consistency, mean (mm)"), "{:.3f}"),
    ):
        rows.append(_course(title, {"after": part["deformation"].get(field)}, text))
    for field, title, text in (
        ("mean_mm", _("Predicted error, mean (mm)"), "{:.2f}"),
        ("p95_mm", _("Predicted error, 95 % of the anatomy are below (mm)"), "{:.2f}"),
        ("above_2_mm_percent", _("Predicted error above 2 mm (% of the anatomy)"), "{:.1f}"),
        ("above_5_mm_percent", _("Predicted error above 5 mm (% of the anatomy)"), "{:.1f}"),
    ):
        rows.append(_course(title, {"after": part["predicted_error"].get(field)}, text))
    points = [part["tre_mm"].get(name) or [] for name in ("per_point_before", "per_point_aligned", "per_point")]
    for number, errors in enumerate(zip_longest(*points), 1):
        course = dict(zip(("before", "aligned", "after"), errors, strict=True))
        rows.append(_course(_("Landmark error, point {number} (mm)").format(number=number), course, "{:.2f}"))
    known = [row for row in rows if row[1:] != (_NONE,) * 3]
    return _textTable(scene, _("Metrics"), (_("Measure"), _("Before"), _("Affine"), _("After")), known)


def labelsTable(scene: Any, result: dict[str, Any]) -> Any | None:
    """Dice and surface distance of each label; None where the run had no segmentations.

    Names are those of `label_names` (label -> segment), which the run's result has in the scene.
    """
    overlap = result.get("dice") or {}
    if not overlap.get("per_label"):
        return None
    before = overlap.get("per_label_before") or {}
    distances = (result.get("hd95_mm") or {}).get("per_label") or {}
    names = result.get("label_names") or {}
    rows = []
    for label, after in overlap["per_label"].items():
        figures = (_format(before.get(label)), _format(after), _format(distances.get(label), "{:.2f}"))
        rows.append((str(label), str(names.get(label, "")), *figures))
    head = (_("Label"), _("Name"), _("Dice before"), _("Dice after"), _("95 % surface distance (mm)"))
    return _textTable(scene, _("Labels"), head, rows)


def structuresTable(scene: Any, result: dict[str, Any]) -> Any | None:
    """Overlap and volumes of the structures found in both volumes; None where none were looked for, or no head seen."""
    found = result.get("anatomy") or {}
    if not all(image.get("head") for image in (found.get("images") or {"none": {}}).values()):
        return None
    rows = []
    for values in found["structures"].values():
        volumes = (_format(values.get(name), "{:.1f}") for name in ("fixed_ml", "moving_ml"))
        rows.append((str(values.get("name", "")), _format(values.get("agreement"), "{:.2f}"), *volumes))
    head = (_("Structure"), _("Overlap after"), _("Fixed (ml)"), _("Moving (ml)"))
    return _textTable(scene, _("Structures"), head, rows)


def errorsTable(scene: Any, result: dict[str, Any]) -> Any | None:
    """The predicted error of each structure; None where none was predicted, or no structures were found."""
    predicted = result.get("predicted_error")
    structures = predicted.get("structures") if isinstance(predicted, dict) else None
    found = [entry for entry in structures.values() if isinstance(entry, dict)] if isinstance(structures, dict) else []
    if not found:
        return None
    rows = [
        (str(entry.get("name", "")), *(_format(entry.get(name), "{:.2f}") for name in ("mean_mm", "p95_mm")))
        for entry in found
    ]
    head = (_("Structure"), _("Mean (mm)"), _("95 % are below (mm)"))
    return _textTable(scene, _("Predicted error"), head, rows)


def energyTable(scene: Any, result: dict[str, Any]) -> Any | None:
    """The estimate for the spiking network, its dense twin and the paper's baseline; None where there is none.

    The node's description and its energy column say how it is computed.
    """
    energy = result.get("energy")
    if not energy:
        return None
    mac, ac = energy.get("mac_pj"), energy.get("ac_pj")
    paper = energy.get("paper_baseline_macs")
    paperMj = paper * mac * 1e-9 if _isNumber(paper) and _isNumber(mac) else None
    decoders = energy.get("decoder_macs")
    rows = [
        (
            _("Spiking encoder") if decoders else _("Spiking network"),
            energy.get("analog_macs"),
            energy.get("synaptic_ops"),
            energy.get("snn_mj"),
            None,
        ),
        (_("Dense twin"), energy.get("dense_twin_macs"), 0, energy.get("ann_mj"), energy.get("reduction_vs_twin")),
        (_("Dense network of the paper, scaled to this image"), paper, 0, paperMj, energy.get("reduction_vs_paper")),
    ]
    if decoders:
        decodersMj = decoders * mac * 1e-9 if _isNumber(mac) else None
        rows.insert(1, (_("Decoders of the neural field, dense, at most"), decoders, 0, decodersMj, None))
    formula = _("E = {mac} pJ × MACs + {ac} pJ × synaptic operations").format(
        mac=_format(mac, "{:g}"), ac=_format(ac, "{:g}")
    )
    texts = [
        (name, _format(macs, "{:,.0f}"), _format(ops, "{:,.0f}"), _format(mj), _format(less, "{:.1f}×"))
        for name, macs, ops, mj, less in rows
        if any(value is not None for value in (macs, mj, less))  # a method without this baseline leaves it out
    ]
    head = (_("Network"), _("MACs"), _("Synaptic operations"), _("Energy proxy (mJ)"), _("Spiking is lower by"))
    node = _textTable(scene, _("Energy (proxy, not a measurement)"), head, texts)
    node.SetDescription(
        _(
            "{formula}. An analytical proxy from counted operations (45 nm, 32-bit float), not a "
            "measurement: neuron updates ({updates}) and memory traffic are not in it."
        ).format(formula=formula, updates=_format(energy.get("neuron_updates"), "{:,.0f}"))
    )
    node.SetColumnDescription(head[3], formula)
    node.SetColumnDescription(head[2], _("one spike arriving at one connection"))
    node.SetColumnDescription(head[1], _("multiply-accumulates; of the spiking network, those fed by the analog image"))
    return node


def provenanceTable(scene: Any, result: dict[str, Any], options: dict[str, Any] | None = None) -> Any:
    """What made the result: files, method, models, device, threads, seed, versions, options and warnings.

    Args:
        options: of the request, as they were sent; each is a row. None for those that result.json itself names.
    """
    model = result.get("model") or {}
    fine = model.get("fine") or {}
    inputs = result.get("inputs") or {}
    rows: list[tuple[str, Any]] = [
        (_("Fixed image"), inputs.get("fixed")),
        (_("Moving image"), inputs.get("moving")),
        (_("Method"), result.get("method")),
        (_("Transform type"), result.get("transform_type")),
        (_("Preset"), result.get("preset")),
        (_("Model"), model.get("name")),
        (_("Model, sha256"), model.get("sha256")),
        (_("Fine model"), fine.get("name")),
        (_("Fine model, sha256"), fine.get("sha256")),
        (_("Device"), result.get("device")),
        (_("Arithmetic"), result.get("arithmetic")),
        (_("Threads"), result.get("threads")),
        (_("Seed"), result.get("seed")),
        (_("Time steps"), (result.get("spikes") or {}).get("timesteps")),
        (_("Refinement, iterations"), _list((result.get("refinement") or {}).get("iterations"))),
        (_("Time (s)"), _format((result.get("timing_s") or {}).get("total"), "{:.1f}")),
        (_("Highest memory (MB)"), _format(result.get("peak_memory_mb"), "{:.0f}")),
        *((_("Option {name}").format(name=name), value) for name, value in (options or {}).items()),
        *((_("Version of {name}").format(name=name), value) for name, value in (result.get("versions") or {}).items()),
        (_("result.json schema"), result.get("schema")),
        *((_("Warning"), warning) for warning in result.get("warnings") or []),
    ]
    known = [(name, str(value)) for name, value in rows if value not in (None, "", _NONE)]
    return _textTable(scene, _("Provenance"), (_("What"), _("Value")), known)


def firingLayers(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers with neurons, as in result.json; none where no spiking network ran."""
    layers = (result.get("spikes") or {}).get("layers") or []
    return [layer for layer in layers if layer.get("neurons", 1)]  # a network's head has none


def ratesTable(scene: Any, result: dict[str, Any]) -> Any | None:
    """One row per layer with neurons, from encoder to head, as numbers; None where no spiking network ran."""
    layers = firingLayers(result)
    if not layers:
        return None
    node = _table(scene, _("Spike rates"))
    names = vtk.vtkStringArray()
    names.SetName(_("Layer"))
    for layer in layers:
        names.InsertNextValue(str(layer["name"]))
    node.AddColumn(names)
    for title, field, factor in (
        (_("Rate (%)"), "rate", 100.0),
        (_("Silent neurons (%)"), "silent_percent", 1.0),
        (_("Spikes"), "count", 1.0),
        (_("Synaptic operations"), "synaptic_ops", 1.0),
        (_("Neuron updates"), "neuron_updates", 1.0),
    ):
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        for layer in layers:
            value = layer.get(field)
            column.InsertNextValue(factor * value if _isNumber(value) else float("nan"))
        node.AddColumn(column)
    rate = node.GetTable().GetColumnName(1)
    node.SetColumnDescription(rate, _("share of time steps in which a neuron fires, mean over the layer"))
    node.SetDescription(_("Mean over {count} time steps.").format(count=result["spikes"].get("timesteps", _NONE)))
    return node


def _table(scene: Any, title: str) -> Any:
    node = slicer.vtkMRMLTableNode()
    node.SetName(title)
    scene.AddNode(node)
    return node


def _textTable(scene: Any, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    node = _table(scene, title)
    for number, name in enumerate(head):
        column = vtk.vtkStringArray()
        column.SetName(name)
        for row in rows:
            column.InsertNextValue(str(row[number]))
        node.AddColumn(column)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    return node


def _course(title: str, values: dict[str, Any], text: str) -> tuple[str, str, str, str]:
    before, aligned, after = (_format(values.get(when), text) for when in ("before", "aligned", "after"))
    return title, before, aligned, after


def _format(value: Any, text: str = "{:.3f}") -> str:
    return text.format(value) if _isNumber(value) else _NONE


def _isNumber(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _list(values: Any) -> str | None:
    return ", ".join(map(str, values)) if isinstance(values, list) else values
