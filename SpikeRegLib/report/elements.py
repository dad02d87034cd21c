"""The few HTML elements the report is built from; every text that comes from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from SpikeRegLib.report.colours import css_gradient
from SpikeRegLib.report.png import data_uri

if TYPE_CHECKING:
    from SpikeRegLib.report.planes import Plane

_RULER_MM = 50
_NOT_MEASURED = "not measured"


def number(value: Any, text: str = "{:.3f}") -> str:
    """A formatted figure, or "not measured" for null, NaN and what is missing."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return _NOT_MEASURED
    return text.format(value)


def percent(value: Any, decimals: int = 1) -> str:
    """A share in [0, 1] as percent."""
    share = 100 * value if isinstance(value, (int, float)) else value
    return number(share, f"{{:.{decimals}f}} %")


def course(table: dict[str, Any], fields: Sequence[str], text: str = "{:.3f}") -> str:
    """Figures of a table from first to last, "0.31 → 0.52"; those that were not measured are left out."""
    known = [shown for field in fields if (shown := number(table.get(field), text)) != _NOT_MEASURED]
    return " → ".join(known) or _NOT_MEASURED


def page(title: str, style: str, body: str, policy: str = "") -> str:
    """A whole HTML document; `title` is a plain text, `style` and `body` are taken as they are.

    `policy` is a content security policy, what the browser lets the page do.
    """
    policed = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">' if policy else ""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{policed}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · SpikeReg</title><style>{style}</style></head><body>{body}</body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    explained = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{explained}{''.join(parts)}</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric_from: int = 1) -> str:
    """A table of plain texts; columns from `numeric_from` on are set right."""

    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=number' if n >= numeric_from else ''}>{escape(str(cell))}</{kind}>"
            for n, cell in enumerate(row)
        )

    header = f"<thead><tr>{cells('th', head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table>{header}<tbody>{body}</tbody></table>"


def picture(
    image: np.ndarray,
    plane: Plane,
    what: str,
    *,
    palette: np.ndarray | None = None,
    light: bool = False,
    ruler: bool = False,
) -> str:
    """A slice with its orientation letters and, if asked for, a ruler of 50 mm.

    Args:
        image: as `png.data_uri`; covers the whole of `plane`.
        plane: what the image shows.
        what: for readers who do not see it.
        palette: as `png.data_uri`.
        light: dark letters, for pictures on a light ground.
        ruler: draw it.
    """
    sides = zip(("left", "right", "top", "bottom"), plane.letters, strict=True)
    letters = "".join(f'<i class="{side}">{letter}</i>' for side, letter in sides)
    width_mm = plane.frame.size[0] * plane.frame.spacing[0]
    drawn = f'<div class="ruler" style="width:{100 * _RULER_MM / width_mm:.2f}%"><span>{_RULER_MM} mm</span></div>'
    return (
        f'<div class="picture{" light" if light else ""}"><div>'
        f'<img src="{data_uri(image, palette)}" alt="{escape(f"{what}, {plane.name}")}">'
        f"{letters}{drawn if ruler else ''}</div></div>"
    )


def panel(heads: Sequence[str], pictures: Sequence[str]) -> str:
    """Pictures in as many columns as there are heads, row by row."""
    cells = [f'<div class="head">{escape(head)}</div>' for head in heads]
    columns = f"repeat({len(heads)}, minmax(0, 1fr))"
    return f'<div class="panel" style="grid-template-columns:{columns}">{"".join([*cells, *pictures])}</div>'


def colour_bar(scale: np.ndarray, ticks: Sequence[tuple[float, str]], text: str, *extra: tuple[str, str]) -> str:
    """A colour scale with ticks at positions in [0, 1], a text, and colours of their own with what they mean."""
    marks = "".join(f'<span style="left:{100 * at:.1f}%">{escape(label)}</span>' for at, label in ticks)
    swatches = "".join(
        f'<span><span class="swatch" style="background:{colour}"></span>{escape(meaning)}</span>'
        for colour, meaning in extra
    )
    ramp = (
        f'<div class="ramp"><div style="background:{css_gradient(scale)}"></div><div class="ticks">{marks}</div></div>'
    )
    return f'<div class="scale">{ramp}<span>{escape(text)}</span>{swatches}</div>'


def tile(figure: str, what: str) -> str:
    return f'<div class="tile"><div class="figure">{escape(figure)}</div><div class="what">{escape(what)}</div></div>'
