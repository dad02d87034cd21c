"""The result.json that a scene holds, as far as it has the shape of one."""

from __future__ import annotations

from typing import Any

_OF_TEXT = frozenset({"verdict", "model", "inputs", "versions", "label_names", "refinement"})
_TABLES = _OF_TEXT | {"similarity", "deformation", "dice", "hd95_mm", "tre_mm", "spikes", "energy", "timing_s", "cpu_s",
                      "predicted_error"}  # fmt: skip


def sound(found: Any) -> dict[str, Any]:
    """A result as far as it has the shape of one: a scene may come from anybody."""
    result = dict(found) if isinstance(found, dict) else {}
    for name in _TABLES & result.keys():
        if result[name] is None:  # not measured
            continue
        entries = result[name] if isinstance(result[name], dict) else {}
        result[name] = {
            key: value
            for key, value in entries.items()
            if name in _OF_TEXT or key == "measure" or not isinstance(value, str)
        }
    spikes, verdict = result.get("spikes") or {}, result.get("verdict") or {}
    if "layers" in spikes:
        layers = spikes["layers"] if isinstance(spikes["layers"], list) else []
        spikes["layers"] = [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("name"), str)]
    for table, name in ((verdict, "reasons"), (result, "warnings")):
        if name in table:
            table[name] = _texts(table[name])
    return result


def _texts(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
