"""What a run is called: by its time and preset first, so that two runs of one pair can be told apart."""

from __future__ import annotations

import os
import time

LONGEST = 44  # characters; what a run makes is called after it, and a selector shows some fifty
SHORTEST = 8


def runName(moving: str, fixed: str, preset: str) -> str:
    """Name of a run of these volumes that begins now; names that are too long are cut in the middle, where it shows.

    Args:
        preset: name, or path of its file.
    """
    begin = f"{time.strftime('%H:%M')} {shortened(os.path.basename(preset).removesuffix('.toml'), 20)}: "
    each = max(SHORTEST, (LONGEST - len(begin) - len(" → ")) // 2)
    return f"{begin}{shortened(moving, each)} → {shortened(fixed, each)}"


def shortened(text: str, longest: int) -> str:
    """The text with its middle left out where it is longer than so many characters; both ends tell names apart."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"
