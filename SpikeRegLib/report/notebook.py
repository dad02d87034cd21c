"""The report in a notebook's cell."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

HEIGHT_PIXELS = 1000


@dataclass(frozen=True, repr=False)
class NotebookView:
    """What a Jupyter cell shows as the report, in a frame of its own that reaches nothing of the notebook.

    Attributes:
        page: the report as HTML.
    """

    page: str

    def _repr_html_(self) -> str:
        """An <iframe> with the whole report in it."""
        return (
            f'<iframe sandbox="allow-scripts" style="width:100%;height:{HEIGHT_PIXELS}px;border:0" '
            f'srcdoc="{escape(self.page)}"></iframe>'
        )
