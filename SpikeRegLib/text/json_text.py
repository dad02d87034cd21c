"""JSON that others wrote: whatever cannot be read as plain JSON is a ValueError, however it is broken."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def read_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: not JSON, not UTF-8, nested too deeply, or NaN or infinity, which JSON does not have.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")
