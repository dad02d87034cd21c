"""Words of the panel: coloured where a verdict stands in them, and safe wherever a name of the user's does."""

from __future__ import annotations

from html import escape

# Mid tones, readable on Slicer's light and on its dark background; the word always stands beside the colour.
COLOURS = {"good": "#2f9e57", "check": "#c77f00", "poor": "#d9463e"}


def plain(text: str) -> str:
    """Plain text as rich text, line by line."""
    return "<br>".join(escape(line) for line in text.split("\n"))


def tip(text: str) -> str:
    """Plain text for a tooltip or a window, which would take a name that looks like markup for markup."""
    return f"<qt>{plain(text)}</qt>"


def coloured(word: str, kind: str) -> str:
    """A word in bold, in the colour of "good", "check" or "poor", with a dot for the eye; any other kind is plain."""
    if kind not in COLOURS:
        return f"<b>{escape(word)}</b>"
    return f'<b><font color="{COLOURS[kind]}">● {escape(word)}</font></b>'


def listed(lines: list[str]) -> str:
    """One line as it is; several as a list."""
    if len(lines) == 1:
        return plain(lines[0])
    return "".join(f"<br>– {escape(line)}" for line in lines).removeprefix("<br>")
