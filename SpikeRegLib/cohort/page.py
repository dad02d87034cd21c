"""The page of a cohort: all rows with verdict and figures, worst first, their distributions, links to the reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from SpikeRegLib import __version__
from SpikeRegLib.cohort.rows import FAILED, Outcome
from SpikeRegLib.cohort.summary import MISSING, worst_first
from SpikeRegLib.report.charts import histogram
from SpikeRegLib.report.elements import number, page, section, tile
from SpikeRegLib.system.atomic_files import atomic_output

# Figure, its name, how it is written.
_COLUMNS = (
    ("dice_after", "Dice", "{:.3f}"),
    ("hd95_mm", "HD95, mm", "{:.2f}"),
    ("tre_after_mm", "landmarks, mm", "{:.2f}"),
    ("similarity_after", "similarity", "{:.3f}"),
    ("structure_agreement", "structures", "{:.3f}"),
    ("sdlogj", "SDlogJ", "{:.3f}"),
    ("folding_percent", "folds, %", "{:.3g}"),
    ("mean_mm", "moved, mm", "{:.1f}"),
    ("cpu_s", "CPU s", "{:.1f}"),
)
_WORDS = {"poor": "poor", "check": "check", "good": "good", FAILED: "failed", MISSING: "not done"}
_CLASSES = {FAILED: "poor", MISSING: "check"}
_STYLE = """
.cohort td, .cohort th { white-space: nowrap; } .cohort td.said { white-space: normal; min-width: 260px; }
.cohort { width: 100%; } .wide { overflow-x: auto; } th[data-column] { cursor: pointer; }
th[data-column]:hover { color: var(--ink); } .chip { border-radius: 9px; padding: 1px 9px; font-size: 12.5px;
  font-weight: 600; } .good.chip { color: #116329; } .check.chip { color: #7d4e00; } .poor.chip { color: #a40e26; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 8px 24px; }
body { max-width: 1280px; } .plots h3 { margin: 10px 0 0; }
"""
# Sorts the table by a column at a click on its head; without scripts it stays worst first.
_SCRIPT = """
document.querySelectorAll("th[data-column]").forEach(function (head) {
  head.addEventListener("click", function () {
    var body = head.closest("table").tBodies[0], place = head.cellIndex, down = head.dataset.down !== "yes";
    head.dataset.down = down ? "yes" : "no";
    Array.from(body.rows).sort(function (a, b) {
      var x = a.cells[place].dataset.value, y = b.cells[place].dataset.value;
      if (x === "" || y === "") { return (x === "") - (y === ""); }
      var order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? order : -order;
    }).forEach(function (row) { body.appendChild(row); });
  });
});
"""
_ORDER = {FAILED: 0, "poor": 1, "check": 2, "good": 3, MISSING: 4}


def write_page(
    outcomes: Sequence[Outcome], out: Path, title: str, *, name: str = "summary.html",
    reports: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write the page and return its path; it appears whole.

    Args:
        outcomes: of all rows.
        out: folder of the cohort, in which the rows' folders lie.
        title: of the page, plain text.
        name: of the file.
        reports: id -> file in `out` that is the row's report; if not given, `ID/report.html`.

    Raises:
        InputError: it cannot be written.
    """
    path = out / name
    named = {each.id: f"{each.id}/report.html" for each in outcomes} if reports is None else reports
    there = {row: report for row, report in named.items() if os.path.isfile(out / report)}
    with atomic_output(path) as temporary:
        temporary.write_text(render_page(outcomes, there, title), encoding="utf-8")
    return path


def render_page(outcomes: Sequence[Outcome], reports: Mapping[str, str], title: str) -> str:
    """The page as HTML; arguments as of `write_page`, with the reports that are there."""
    style = (Path(__file__).parents[1] / "report" / "style.css").read_text(encoding="utf-8") + _STYLE
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    states = [_state(each) for each in outcomes]
    tiles = "".join(tile(str(states.count(state)), word) for state, word in _WORDS.items() if state in states)
    versions = sorted({str(each.figures["version"]) for each in outcomes if each.figures.get("version")})
    mixed = (
        f'<div class="verdict check"><b>Results of several versions</b> · {escape(", ".join(versions))}; '
        "run with --redo to make all of them with one</div>"
        if len(versions) > 1
        else ""
    )
    body = "".join(
        (
            f'<header><h1>{escape(title)}</h1><div class="soft">{len(outcomes)} registrations · {today}</div></header>',
            mixed,
            f'<div class="tiles" style="margin-top:18px">{tiles}</div>',
            _rows(worst_first(outcomes), reports),
            _plots(outcomes),
            f"<footer>SpikeReg {__version__}. Research software, not a medical device.</footer>",
            f"<script>{_SCRIPT}</script>",
        )
    )
    return page(title, style, body)


def _state(outcome: Outcome) -> str:
    if outcome.state in (FAILED, MISSING):
        return outcome.state
    level = str(outcome.figures.get("verdict"))
    return level if level in _WORDS else "check"


def _rows(outcomes: Sequence[Outcome], reports: Mapping[str, str]) -> str:
    columns = [column for column in _COLUMNS if any(_known(each.figures.get(column[0])) for each in outcomes)]
    heads = ["id", "verdict", *(name for _, name, _ in columns), "what to look at"]
    head = "".join(
        f'<th data-column="{n}"{_numeric(1 < n < len(heads) - 1)}>{escape(name)}</th>' for n, name in enumerate(heads)
    )
    body = "".join(_row(each, columns, reports.get(each.id)) for each in outcomes)
    table = f'<table class="cohort"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    note = "Worst first; a click on a column sorts by it, a click on an id opens the report."
    return section("Registrations", f'<div class="wide">{table}</div>', note=note)


def _row(outcome: Outcome, columns: Sequence[tuple[str, str, str]], report: str | None) -> str:
    state = _state(outcome)
    named = escape(outcome.id)
    if outcome.figures and report is not None:
        named = f'<a href="{escape(quote(report))}">{named}</a>'
    said = outcome.message or "; ".join((*outcome.figures.get("reasons", ()), *outcome.figures.get("warnings", ())))
    cells = [
        f'<td data-value="{escape(outcome.id)}">{named}</td>',
        f'<td data-value="{_ORDER[state]}"><span class="chip {_CLASSES.get(state, state)}">{_WORDS[state]}</span></td>',
    ]
    for figure, _, text in columns:
        value = outcome.figures.get(figure)
        known = _known(value)
        cells.append(
            f'<td class="number" data-value="{value if known else ""}">{number(value, text) if known else "–"}'
        )
    cells.append(f'<td class="said" data-value="{escape(said[:40])}">{escape(said)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _plots(outcomes: Sequence[Outcome]) -> str:
    plots = []
    for figure, name, text in _COLUMNS:
        values = [float(each.figures[figure]) for each in outcomes if _known(each.figures.get(figure))]
        if len(values) > 1 and max(values) > min(values):
            plots.append(f"<div><h3>{escape(name)}</h3>{histogram(values, name, text)}</div>")
    if not plots:
        return ""
    return section("Distributions", f'<div class="plots">{"".join(plots)}</div>', note="Number of registrations.")


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numeric(numeric: bool) -> str:
    return ' class="number"' if numeric else ""
