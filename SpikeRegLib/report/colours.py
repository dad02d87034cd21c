"""Colour scales of the report: a sequential one for rates and differences, a diverging one for the Jacobian."""

from __future__ import annotations

import numpy as np

# Anchors of scales whose lightness changes evenly, so that they read the same in grey and for colour-blind eyes.
_SEQUENTIAL = ("000004", "1d1147", "51127c", "832681", "b73779", "e75263", "fc8961", "fec488", "fcfdbf")
_DIVERGING = ("0b3c6f", "2f79b5", "7db8da", "cfe4f0", "f7f7f7", "fbd9c4", "f0997a", "c9413f", "7a0a22")
FOLD = (255, 0, 255)  # a colour outside the diverging scale
OUTSIDE = (222, 225, 229)


def _scale(anchors: tuple[str, ...]) -> np.ndarray:
    rgb = np.array([[int(code[n : n + 2], 16) for n in (0, 2, 4)] for code in anchors], float)
    position = np.linspace(0, len(anchors) - 1, 256)
    return np.stack([np.interp(position, np.arange(len(anchors)), rgb[:, c]) for c in range(3)], 1).round().astype("u1")


SEQUENTIAL = _scale(_SEQUENTIAL)  # [256, 3] uint8, dark = 0
DIVERGING = _scale(_DIVERGING)  # [256, 3] uint8, light = the middle


def css_gradient(scale: np.ndarray) -> str:
    """The scale as a CSS gradient from left to right."""
    stops = [f"rgb({r},{g},{b})" for r, g, b in scale[:: 255 // 15].tolist()]
    return f"linear-gradient(to right, {', '.join(stops)})"
