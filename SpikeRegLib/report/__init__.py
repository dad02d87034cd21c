"""The report of a registration: one HTML file that carries its pictures with it, to look at and to keep.

It needs nothing but numpy and torch: pictures are PNG written by `png`, charts are inline SVG. `planes` says what is
shown, `pictures` how, `slices`, `figures` and `spikes` write the sections, `elements` the HTML. `live` lets the reader
move through the volumes, which `live_volumes` chooses and `quantised` packs, with the NiiVue that lies beside it.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib import __version__
from SpikeRegLib.system.atomic_files import atomic_output

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.registration import Registration

__all__ = ["render_report", "write_report"]


def write_report(registration: Registration, path: str | os.PathLike[str]) -> None:
    """Write the report as one self-contained HTML file; it appears complete or not at all.

    Raises:
        InputError: a folder that cannot be written, or a full disk.
    """
    with atomic_output(path) as temporary:
        temporary.write_text(render_report(registration), encoding="utf-8")


def render_report(registration: Registration) -> str:
    """The report as HTML.

    Where files of the live view are missing, the page does without and says so, as do the warnings of `result`.
    """
    from SpikeRegLib.report import figures, live
    from SpikeRegLib.report.anatomy import anatomy_part
    from SpikeRegLib.report.elements import page
    from SpikeRegLib.report.planes import planes_through
    from SpikeRegLib.report.slices import slices_part
    from SpikeRegLib.report.spikes import energy_part, spikes_part

    result = registration.result
    missing = live.missing_viewer()
    if missing and missing not in result.setdefault("warnings", []):
        result["warnings"].append(missing)
    fixed, moving = registration.fixed.name, registration.moving.name
    planes = planes_through(registration.fixed)
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    title = f"{figures.file_name(moving)} → {figures.file_name(fixed)}"
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    body = "".join(
        (
            f'<header><h1>{escape(title)}</h1><div class="soft">Registration report · {today}</div></header>',
            figures.verdict_box(result),
            figures.key_figures(result),
            live.no_live_part(missing) if missing else live.live_part(registration),
            f'<div class="still">{slices_part(registration, planes)}</div>',
            figures.measurements(result),
            anatomy_part(result),
            spikes_part(result, registration.spike_maps, planes[0]),
            energy_part(result),
            figures.timing(result),
            figures.provenance(result, fixed or "not from a file", moving or "not from a file"),
            f"<footer>SpikeReg {__version__}. Research software, not a medical device.</footer>",
            "" if missing else live.live_script(),
        )
    )
    return page(title, style, body, live.NO_SCRIPTS if missing else live.security_policy())
