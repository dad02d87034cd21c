"""Charts as inline SVG: bars of spike rates, Dice before and after, distributions of figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

_ROW = 20
_LABEL = 150  # at least; longer names get more
_LETTER = 7.0  # of the widest of the usual fonts
_PLOT = 420
_VALUE = 110


def rate_bars(layers: Sequence[tuple[str, float]]) -> str:
    """One horizontal bar per layer, rate in [0, 1] as percent, axis from 0 to a round number above the largest."""
    top = round_up(max((rate for _, rate in layers), default=0.0))
    height, left = _ROW * len(layers) + 24, _left([name for name, _ in layers])
    parts = [_gridlines(left, 0.0, top, height - 24, _percent)]
    for n, (name, rate) in enumerate(layers):
        y, width = n * _ROW, _PLOT * rate / top
        parts.append(_name(name, left, y))
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" rx="2" class="bar"/>')
        parts.append(f'<text x="{left + width + 6:.1f}" y="{y + 14}" class="value">{100 * rate:.1f} %</text>')
    return _svg(left, height, parts, "Mean spike rate of each layer")


def overlap_rows(rows: Sequence[tuple[str, float | None, float]]) -> str:
    """One line per label to its value after (filled), from its value before (hollow) or from 0; values in [0, 1]."""
    height, left = _ROW * len(rows) + 24, _left([name for name, _, _ in rows])
    parts = [_gridlines(left, 0.0, 1.0, height - 24, lambda value: f"{value:.1f}")]
    for n, (name, before, after) in enumerate(rows):
        y = n * _ROW + _ROW / 2
        x0, x1 = (left + _PLOT * min(max(value, 0.0), 1.0) for value in (before or 0.0, after))
        kind = "gain" if after >= (before or 0.0) else "loss"
        parts.append(_name(name, left, n * _ROW))
        parts.append(f'<line x1="{x0:.1f}" y1="{y}" x2="{x1:.1f}" y2="{y}" class="{kind}"/>')
        if before is not None:
            parts.append(f'<circle cx="{x0:.1f}" cy="{y}" r="3.5" class="hollow"/>')
        parts.append(f'<circle cx="{x1:.1f}" cy="{y}" r="4" class="{kind}"/>')
        text = f"{after:.3f}" if before is None else f"{before:.3f} → {after:.3f}"
        parts.append(f'<text x="{left + _PLOT + 12}" y="{y + 4}" class="value">{text}</text>')
    return _svg(left, height, parts, "Dice of each label")


def histogram(values: Sequence[float], name: str, text: str = "{:.2f}", bins: int = 16) -> str:
    """How often values fall into each of `bins` equal parts between the smallest and the largest, with their median.

    Args:
        values: finite, not all equal.
        name: of what they are, for readers who do not see it.
        text: format of the ends and of the median.
    """
    low, high, width, height = min(values), max(values), 300.0, 90.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(bins * (value - low) / (high - low)))] += 1
    parts = []
    for n, found in enumerate(counts):
        x, tall = n * width / bins, height * found / max(counts)
        if found:
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{14 + height - tall:.1f}" width="{width / bins - 2:.1f}" '
                f'height="{tall:.1f}" class="bar"><title>{found}</title></rect>'
            )
    middle = sorted(values)[len(values) // 2]
    at = width * (middle - low) / (high - low)
    place = min(max(at, 40.0), width - 40.0)
    parts.append(f'<line x1="{at:.1f}" y1="12" x2="{at:.1f}" y2="{14 + height}" class="loss"/>')
    parts.append(f'<text x="{place:.1f}" y="9" class="tick">median {escape(text.format(middle))}</text>')
    parts.append(f'<line x1="0" y1="{14 + height}" x2="{width}" y2="{14 + height}" class="rule"/>')
    parts.append(f'<text x="0" y="{height + 30}" class="value">{escape(text.format(low))}</text>')
    end = escape(text.format(high))
    parts.append(f'<text x="{width}" y="{height + 30}" class="value" style="text-anchor:end">{end}</text>')
    size = f'viewBox="0 0 {width} {height + 36}"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(name)}">{"".join(parts)}</svg>'


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten at or above `value` (at least 0.01, at most 1)."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        if value <= step:
            return step
    return 1.0


def _percent(value: float) -> str:
    return f"{100 * value:g} %"


def _left(names: Sequence[str]) -> int:
    """Where the plot begins: room for the longest name."""
    return max(_LABEL, round(_LETTER * max(map(len, names), default=0)) + 8)


def _gridlines(left: int, low: float, high: float, height: float, text: Callable[[float], str]) -> str:
    parts = []
    for n in range(6):
        x = left + _PLOT * n / 5
        label = escape(text(low + (high - low) * n / 5))
        parts.append(f'<line x1="{x}" y1="0" x2="{x}" y2="{height}" class="rule"/>')
        parts.append(f'<text x="{x}" y="{height + 16}" class="tick">{label}</text>')
    return "".join(parts)


def _name(name: str, left: int, y: float) -> str:
    return f'<text x="{left - 8}" y="{y + 14}" class="name">{escape(name)}</text>'


def _svg(left: int, height: float, parts: Sequence[str], title: str) -> str:
    size = f'viewBox="0 0 {left + _PLOT + _VALUE} {height}"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
