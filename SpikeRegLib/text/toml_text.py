"""TOML text of settings: the standard library reads TOML, but does not write it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


def toml_text(settings: Any, *, leave_out: tuple[str, ...] = ()) -> str:
    """The text from which `settings_from_table` builds the same settings.

    Args:
        settings: a dataclass of strings, numbers, Booleans, and further dataclasses or tuples of them.
            None is left out.
        leave_out: fields that the text does not hold.
    """
    return "\n".join(_lines({k: v for k, v in dataclasses.asdict(settings).items() if k not in leave_out}, "")) + "\n"


def _lines(table: dict[str, Any], prefix: str) -> list[str]:
    """Plain values first: after a heading they would belong to it."""
    table = {key: value for key, value in table.items() if value is not None}
    nested = {key for key, value in table.items() if isinstance(value, dict) or _is_list_of_tables(value)}
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if key not in nested]
    for key in table:
        if key not in nested:
            continue
        value, heading = table[key], f"{prefix}{key}"
        for entry in value if isinstance(value, (list, tuple)) else [value]:
            lines += ["", f"[[{heading}]]" if isinstance(value, (list, tuple)) else f"[{heading}]"]
            lines += _lines(entry, f"{heading}.")
    return lines


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], dict)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON and TOML escape alike, but for one control character; neither needs to escape anything beyond ASCII.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(entry) for entry in value)}]"
    return repr(value)
