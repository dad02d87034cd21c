"""The live view of the report: the volumes to move through, with NiiVue, in the page itself and without any network."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SpikeRegLib.report.colours import DIVERGING, FOLD, SEQUENTIAL
from SpikeRegLib.report.elements import section
from SpikeRegLib.report.live_volumes import ERROR_STEP_MM, JACOBIAN_STEP, live_volumes
from SpikeRegLib.report.pictures import CHECK_STEP_MM

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.registration import Registration

NIIVUE = Path(__file__).with_name("niivue-0.69.0.js.gz")
NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_SCRIPT = Path(__file__).with_name("live.js")
_CHOICES = (
    ("warped", "Warped"),
    ("moving", "Moving, affine only"),
    ("checkerboard", "Checkerboard of fixed and warped"),
    ("difference", "Difference of fixed and warped"),
    ("jacobian", "Jacobian (change of volume)"),
    ("error", "Predicted error"),
    ("spikes", "Spike rates"),
)


def missing_viewer() -> str | None:
    """Why there can be no live view; None where there can."""
    absent = next((path for path in (NIIVUE, _SCRIPT) if not path.is_file()), None)
    if absent is None:
        return None
    return f"{absent.name}: missing from {absent.parent}, so the report has no live view; install SpikeReg again"


def security_policy() -> str:
    """What the page may do, as the browser enforces it: run this one script and what it unpacks, fetch nothing."""
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data: blob:; connect-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def live_part(registration: Registration) -> str:
    """Section "Look through it", hidden until its script has drawn it, then the script and what it draws."""
    volumes = live_volumes(registration)
    names = {volume["name"] for volume in volumes} | {"checkerboard", "difference"}
    layers = [volume for volume in volumes if volume["kind"] == "rate"]
    worst = (registration.result.get("predicted_error") or {}).get("worst") or []
    choices = "".join(
        f'<option value="{value}">{text}</option>'
        for value, text in _CHOICES
        if value in names or (value == "spikes" and layers)
    )
    size = np.array(volumes[0]["shape"][::-1])
    centre = (np.linalg.inv(volumes[0]["matrix"]) @ np.append((size - 1) / 2, 1.0))[:3]
    own_voxels = volumes[0]["spacing"] == list(registration.fixed.frame.spacing)
    data = {
        "volumes": volumes,
        "colours": {
            "grey": ["#000000", "#ffffff"],
            "diverging": _anchors(DIVERGING),
            "sequential": _anchors(SEQUENTIAL),
        },
        "fold": "#{:02x}{:02x}{:02x}".format(*FOLD),
        "legends": _legends(layers),
        "worst": [{"place_mm": place["place_mm"], "mm": place["mm"]} for place in worst],
        "square_mm": CHECK_STEP_MM,
        "centre_mm": centre.tolist(),
    }
    controls = (
        f'<label>Over the fixed image <select id="live-over">{choices}</select></label>'
        '<label>Blend <input id="live-blend" type="range" min="0" max="100" value="100"></label>'
        '<button type="button" id="live-flicker" aria-pressed="false">Flicker (space)</button>'
        f'<button type="button" id="live-worst"{"" if worst else " hidden"}>Next worst place (n)</button>'
        '<span id="live-worst-text" aria-live="polite"></span>'
        f'<label id="live-layers" hidden>Layer <input id="live-layer" type="range" min="0" value="0" '
        f'max="{max(0, len(layers) - 1)}"> <span id="live-layer-name"></span></label>'
        '<label><input id="live-still" type="checkbox"> Still pictures too</label>'
    )
    shown = section(
        "Look through it",
        f'<div class="controls">{controls}</div>',
        '<div class="canvas"><canvas id="live-canvas"></canvas></div>',
        '<div class="scale" id="live-legend" hidden><div class="ramp"><div id="live-ramp"></div>'
        '<div class="ticks" id="live-ticks"></div></div><span id="live-scale"></span></div>',
        '<div class="readout"><span>At the cursor, LPS mm: <b id="live-place"></b></span>'
        '<dl id="live-values"></dl></div>',
        note="Click or drag in a plane to move the others; the patient's right (R) is on the left. "
        + _fineness(volumes, own_voxels),
    )
    return (
        f'<div class="live">{shown}</div><p class="note unlive" id="live-note">The live view starts with JavaScript '
        "and WebGL2; the still pictures below need neither.</p>"
        f'<script type="application/json" id="live-data">{script_json(data)}</script>'
        f'<script type="text/plain" id="live-niivue">{base64.b64encode(NIIVUE.read_bytes()).decode("ascii")}</script>'
    )


def live_script() -> str:
    """The script that starts the view, for the end of the page."""
    return f"<script>{_script()}</script>"


def no_live_part(reason: str) -> str:
    """What stands in the place of the live view where it is missing."""
    return f'<p class="note" id="live-note">{escape(reason)}</p>'


def script_json(data: Any) -> str:
    """JSON that cannot end the <script> it stands in, nor begin another, whatever its texts are."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _script() -> str:
    return _SCRIPT.read_text(encoding="utf-8")


def _anchors(scale: Any) -> list[str]:
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in scale[:: 255 // 15].tolist()]


def _legends(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """For each coloured choice its ticks, at shares of the scale, and what it measures."""
    highest = 100 * layers[0]["window"][1] if layers else 0.0
    return {
        "jacobian": {
            "ticks": [(0, "≤ 1/4"), (0.25, "1/2"), (0.5, "1"), (0.75, "2"), (1, "≥ 4")],
            "text": "Jacobian determinant: blue shrinks, red grows, magenta is folded (≤ 0)",
        },
        "error": {
            "ticks": [(0, "0"), (1 / 3, "2 mm"), (5 / 6, "5 mm"), (1, "≥ 6")],
            "text": "predicted error",
        },
        "difference": {"ticks": [(0, "none"), (1, "black against white")], "text": "difference of grey values"},
        "spikes": {"ticks": [(0, "0"), (1, f"{highest:.0f} %")], "text": "mean spike rate, one scale for all layers"},
    }


def _fineness(volumes: list[dict[str, Any]], own_voxels: bool) -> str:
    """How exact the values at the cursor are."""
    by_name = {volume["name"]: volume for volume in volumes}
    fixed, warped = by_name["fixed"], by_name["warped"]
    size = " × ".join(f"{mm:.3g}" for mm in fixed["spacing"])
    resampled = "the fixed image's own voxels" if own_voxels else f"resampled to {size} mm"
    return (
        f"Values are those of the voxel at the cursor ({resampled}), rounded: fixed ±{fixed['step'] / 2:.2g}, warped "
        f"±{warped['step'] / 2:.2g}, Jacobian ±{JACOBIAN_STEP / 2:g}"
        + (f", predicted error ±{ERROR_STEP_MM / 2:g} mm." if "error" in by_name else ".")
    )
