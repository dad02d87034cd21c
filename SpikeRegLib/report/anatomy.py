"""The structures that a network found in both images: how well each lies on its like, and how large it is."""

from __future__ import annotations

from html import escape
from typing import Any

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.anatomy.structures import MIRRORED
from SpikeRegLib.report.charts import overlap_rows
from SpikeRegLib.report.elements import number, section, table

_LEFT_OF = {right: left for left, right in MIRRORED.items()}
_TURNED_DEGREES = 20.0  # more than people lie in a scanner
_HEAD = ("Structure", "Overlap", "Fixed", "Moving", "Moving / fixed")
_NOTE = (
    "Found in each image by the network, not drawn by anyone: overlap (Dice) after registration says where to look "
    "first, volumes how much growing or shrinking is to be expected."
)


def anatomy_part(result: dict[str, Any]) -> str:
    """The section; empty where no structures were looked for."""
    found = result.get("anatomy") or {}
    if not found:
        return ""
    uses = ", ".join(found["used_for"]) or "nothing"
    parts = [f"<p>Used for: {escape(uses)}.</p>"]
    for side, image in found["images"].items():
        if (image.get("tilt_degrees") or 0) > _TURNED_DEGREES:
            parts.append(f"<p>The head in the {side} image is turned by {image['tilt_degrees']:.0f}°.</p>")
        if not image["head"]:
            parts.append(f"<p>The {side} image does not look like a head: {escape(image['reason'])}.</p>")
    rows = {_name(label): values for label, values in sorted(found["structures"].items(), key=_beside)}
    overlaps = [(name, None, values["agreement"]) for name, values in rows.items() if values["agreement"] is not None]
    if overlaps:
        parts.append(f"<h3>Overlap of each structure (mean {found['agreement']:.2f})</h3>{overlap_rows(overlaps)}")
    if all(image["head"] for image in found["images"].values()):
        lines = [(name, *_cells(values)) for name, values in rows.items()]
        content = table(_HEAD, lines)
        parts.append(f"<details><summary>All structures as a table</summary>{content}</details>")
    return section("Anatomy", *parts, note=_NOTE)


def _cells(values: dict[str, Any]) -> tuple[str, ...]:
    fixed, moving = values["fixed_ml"], values["moving_ml"]
    ratio = f"{moving / fixed:.2f}" if fixed > 0 else "—"
    return number(values["agreement"], "{:.2f}"), f"{fixed:.1f} ml", f"{moving:.1f} ml", ratio


def _beside(structure: tuple[str, Any]) -> tuple[bool, int, int]:
    """Left and right of one kind stand one below the other; what the library does not know comes last."""
    label = int(structure[0]) if structure[0].isdecimal() else 0
    return label not in STRUCTURES, _LEFT_OF.get(label, label), label


def _name(label: str) -> str:
    known = STRUCTURES.get(int(label)) if label.isdecimal() else None
    return known.name if known else f"label {label}"
