"""The report of a visual check: one HTML file with the views' pictures, the verdict, the figures and the decision."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

_LABEL_LENGTH = 16  # characters that fit beside the chart of overlaps


def writeReport(
    path: str | os.PathLike[str],
    result: Mapping[str, Any],
    review: Mapping[str, Any] | None,
    screenshots: Mapping[str, bytes],
    places: Sequence[Any] = (),
) -> None:
    """Write the report as one file that needs no other; it is written to a temporary name and renamed.

    Args:
        path: of the HTML file.
        result: as in result.json.
        review: as `scene.review.review` gives it ("decision", "reviewer", "note", ...); None where nobody decided.
        screenshots: caption -> PNG file's bytes, in the order to show.
        places: as `places.worstPlaces` gives them.

    Raises:
        OSError: if the file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".spikereg-{os.getpid()}.part")
    try:
        temporary.write_text(renderReport(result, review, screenshots, places), encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def renderReport(
    result: Mapping[str, Any],
    review: Mapping[str, Any] | None,
    screenshots: Mapping[str, bytes],
    places: Sequence[Any] = (),
) -> str:
    """The report as HTML; every text from outside is escaped. Arguments as `writeReport`."""
    import SpikeRegLib.report
    from SpikeRegLib.report import figures
    from SpikeRegLib.report.elements import page

    result = _withLabelNames(result)
    style = Path(SpikeRegLib.report.__file__).with_name("style.css").read_text(encoding="utf-8")
    inputs = result.get("inputs") or {}
    fixed, moving = (str(inputs.get(name) or "") for name in ("fixed", "moving"))
    title = f"{figures.file_name(moving)} → {figures.file_name(fixed)}"
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    about = escape(_("Visual check of a registration"))
    version = escape(str((result.get("versions") or {}).get("spikereg", "")))
    unknown = _("not from a file")
    body = "".join(
        (
            f'<header><h1>{escape(title)}</h1><div class="soft">{about} · {now}</div></header>',
            _review(review),
            figures.verdict_box(result),
            figures.key_figures(result),
            _pictures(screenshots),
            _places(places),
            figures.measurements(result),
            _energy(result),
            figures.timing(result),
            figures.provenance(result, fixed or unknown, moving or unknown),
            f"<footer>SpikeReg {version}. {escape(_('Research software, not a medical device.'))}</footer>",
        )
    )
    return page(_("{title} · visual check").format(title=title), f"{style}{_STYLE}", body)


_STYLE = """figure.view { margin: 18px 0 0; } figure.view img { width: 100%; display: block; border-radius: 4px;
  background: #000; } figure.view figcaption { padding-top: 4px; }
.note-text { white-space: pre-wrap; margin: 6px 0 0; }
.open { background: var(--wash); border-color: var(--soft); }
"""


def _withLabelNames(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result with each label's name beside its number, as far as the scene knew names."""
    named, names = dict(result), result.get("label_names") or {}
    for measure in ("dice", "hd95_mm") if names else ():
        figures = dict(result.get(measure) or {})
        for table in figures.keys() & {"per_label", "per_label_before", "per_label_aligned"}:
            labels = {label: f"{label} {names[label]}" if label in names else label for label in figures[table]}
            shown = {label: text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 1]}…"
                     for label, text in labels.items()}  # fmt: skip
            figures[table] = {shown[label]: value for label, value in figures[table].items()}
        named[measure] = figures or None
    return named


def _review(review: Mapping[str, Any] | None) -> str:
    """What a person decided, in words and colour."""
    decision = str((review or {}).get("decision") or "")
    if review is None or not decision:
        words, meaning = _("Not reviewed"), _("nobody has accepted or rejected this registration")
        return f'<div class="verdict open"><b>{escape(words)}</b> · {escape(meaning)}</div>'
    known = {
        "accepted": ("good", _("Accepted"), _("for the use it was made for")),
        "rejected": ("poor", _("Rejected"), _("do not use this registration")),
    }
    level, word, meaning = known.get(decision, ("check", decision.capitalize(), ""))
    time = str(review.get("time") or "").replace("T", " ").replace("+00:00", " UTC")
    said = [_("by {reviewer}").format(reviewer=review["reviewer"]) if review.get("reviewer") else "", time]
    about = " · ".join(text for text in (meaning, *said) if text)
    note = f'<p class="note-text">{escape(str(review["note"]))}</p>' if review.get("note") else ""
    return f'<div class="verdict {level}"><b>{escape(word)}</b> · {escape(about)}{note}</div>'


def _pictures(screenshots: Mapping[str, bytes]) -> str:
    from SpikeRegLib.report.elements import section

    if not screenshots:
        return ""
    shown = [
        f'<figure class="view"><img alt="{escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode("ascii")}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, png in screenshots.items()
    ]
    return section(_("Views"), *shown)


def _places(places: Sequence[Any]) -> str:
    from SpikeRegLib.report.elements import section, table

    if not places:
        return ""
    rows = [
        (str(number), place.text, *(f"{coordinate:.1f}" for coordinate in place.ras))
        for number, place in enumerate(places, 1)
    ]
    note = _(
        "Strongest local change of volume and largest difference left, inside the head, at least 15 mm apart. "
        "Positions in mm: R towards the patient's right, A to the front, S to the head."
    )
    head = ("", _("What"), "R", "A", "S")
    return section(_("Where to look first"), table(head, rows, numeric_from=2), note=note)


def _energy(result: Mapping[str, Any]) -> str:
    from SpikeRegLib.report.elements import number, section, table

    energy = result.get("energy")
    if not energy:
        return ""
    baselines = (
        (_("Dense twin"), "ann_mj", "reduction_vs_twin"),
        (_("Dense network of the paper, scaled"), "", "reduction_vs_paper"),
    )
    decoders, pj = energy.get("decoder_macs"), energy.get("mac_pj") or 0
    rows = [(_("Spiking encoder") if decoders else _("Spiking network"), number(energy.get("snn_mj"), "{:.3f} mJ"), "")]
    rows += [
        (name, number(energy.get(mj), "{:.3f} mJ") if mj else "", number(energy.get(less), "{:.1f}×"))
        for name, mj, less in baselines
        if energy.get(mj) is not None or energy.get(less) is not None
    ]
    if decoders:
        rows.insert(1, (_("Decoders of the neural field, dense, at most"), f"{decoders * pj * 1e-9:.3f} mJ", ""))
    mac, ac = (number(energy.get(name), "{:g}") for name in ("mac_pj", "ac_pj"))
    formula = _("E = {mac} pJ × MACs + {ac} pJ × synaptic operations").format(mac=mac, ac=ac)
    return section(
        _("Energy (proxy)"),
        table(("", _("Energy (proxy)"), _("Spiking is lower by")), rows),
        f"<p><code>{escape(formula)}</code></p>",
        note=_("An analytical proxy from counted operations (45 nm, 32-bit float), not a measurement."),
    )
