"""The page of a commissioning: what was drawn, what was found, and whether it keeps the tolerances of TG-132."""

from __future__ import annotations

from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from SpikeRegLib import __version__
from SpikeRegLib.report.elements import number, page, section, tile

# Figure, heading, how it is written.
COLUMNS = (
    ("moved_mean_mm", "moved, mean", "{:.2f}"),
    ("moved_max_mm", "most", "{:.1f}"),
    ("error_mean_mm", "error, mean", "{:.2f}"),
    ("error_p95_mm", "95th percentile", "{:.2f}"),
    ("error_max_mm", "most", "{:.2f}"),
    ("within_2_mm_percent", "within 2 mm, %", "{:.2f}"),
    ("inverse_error_mean_mm", "of the inverse, mean", "{:.2f}"),
    ("inverse_error_p95_mm", "95th percentile", "{:.2f}"),
    ("predicted_mean_mm", "predicted, mean", "{:.2f}"),
    ("predicted_p95_mm", "95th percentile", "{:.2f}"),
    ("folding_percent", "folds, %", "{:.3g}"),
)
_STYLE = """
body { max-width: 1280px; } .wide { overflow-x: auto; } .trials { width: 100%; }
.trials td, .trials th { white-space: nowrap; } .trials td.said { white-space: normal; min-width: 200px; }
.chip { border-radius: 9px; padding: 1px 9px; font-size: 12.5px; font-weight: 600; }
.good.chip { color: #116329; } .check.chip { color: #7d4e00; } .poor.chip { color: #a40e26; }
"""
_NOTE = (
    "Every phantom is a head moved in a known way by SimpleITK, with new noise. Errors in mm, in the head: of the map "
    "fixed to moving in the fixed image, and of the inverse by itself in the moving one, both read from the written "
    "files by SimpleITK. Predicted: what the result said of itself."
)


def render_page(result: dict[str, Any]) -> str:
    """The page as HTML, from what `campaign.commission` gives; reports are linked as phantoms/NAME/report.html."""
    style = (Path(__file__).parents[1] / "report" / "style.css").read_text(encoding="utf-8") + _STYLE
    rows = result["phantoms"]
    kept = sum(row["passed"] for row in rows.values())
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    within = min(row["within_2_mm_percent"] for row in rows.values())
    tiles = "".join((
        tile(f"{kept} of {len(rows)}", "keep the tolerance"),
        tile(number(max(row["error_p95_mm"] for row in rows.values()), "{:.2f} mm"), "largest 95th percentile"),
        tile(number(within, "{:.1f} %"), "within 2 mm, least"),
    ))  # fmt: skip
    level = "good" if kept == len(rows) else "poor"
    said = "All phantoms keep their tolerance" if level == "good" else "Not every phantom keeps its tolerance"
    body = "".join((
        f'<header><h1>Commissioning</h1><div class="soft">preset {escape(str(result["preset"]))} · seed '
        f"{result['seed']} · {today}</div></header>",
        f'<div class="verdict {level}"><b>{said}</b></div>',
        f'<div class="tiles" style="margin-top:18px">{tiles}</div>',
        section("Digital phantoms", f'<div class="wide">{_table(rows)}</div>', note=_NOTE),
        f"<footer>SpikeReg {__version__}. Research software, not a medical device. Tolerances: AAPM TG-132 (Brock et "
        "al. 2017).</footer>",
    ))  # fmt: skip
    return page("Commissioning", style, body)


def _table(rows: dict[str, dict[str, Any]]) -> str:
    heads = ["phantom", "tolerance kept", "verdict", *(heading for _, heading, _ in COLUMNS), "tolerance"]
    numeric = range(3, len(heads) - 1)
    head = "".join(f"<th{' class=number' if n in numeric else ''}>{escape(name)}</th>" for n, name in enumerate(heads))
    return (
        f'<table class="trials"><thead><tr>{head}</tr></thead><tbody>{"".join(map(_row, rows.items()))}</tbody></table>'
    )


def _row(named: tuple[str, dict[str, Any]]) -> str:
    name, row = named
    link = f'<a href="{escape(quote(f"phantoms/{name}/report.html"))}">{escape(name)}</a>'
    kept = ("good", "yes") if row["passed"] else ("poor", "no")
    cells = [
        f"<td>{link}</td>",
        f'<td><span class="chip {kept[0]}">{kept[1]}</span></td>',
        f'<td><span class="chip {escape(row["verdict"])}">{escape(row["verdict"])}</span></td>',
        *(f'<td class="number">{number(row[figure], text)}</td>' for figure, _, text in COLUMNS),
        f'<td class="said">{escape(row["tolerance"])}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"
