"""The bounds of the verdict: one TOML file, which a clinic can replace in whole or in part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.presets.preset import read_toml
from SpikeRegLib.quality.rules import RULES, Rule

SCHEMA = 1
_FILE = Path(__file__).with_name("verdict.toml")


@dataclass(frozen=True)
class Bound:
    """Beyond `check` a figure worries; beyond `poor` the result is not to be used."""

    check: float
    poor: float


Bounds = Mapping[tuple[str, str], Bound]


@lru_cache
def default_bounds() -> Bounds:
    """Those that were measured, and those of AAPM TG-132."""
    return _read(_FILE)


def load_bounds(path: str | Path) -> Bounds:
    """The bounds of a file; what it leaves out is as in `default_bounds`.

    Args:
        path: a .toml file like `quality/verdict.toml`.

    Raises:
        InputError: it cannot be read, is of another version, names a figure that has no bounds, or bounds that are no
            numbers or the wrong way round.
    """
    return {**default_bounds(), **_read(Path(path))}


def _read(path: Path) -> Bounds:
    tables = read_toml(path)
    schema = tables.pop("schema", None)
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema!r} is not known here; bounds of this version say schema = {SCHEMA}")
    rules = {(rule.table, rule.field): rule for rule in RULES}
    found = {}
    for table, fields in tables.items():
        for field, bounds in fields.items() if isinstance(fields, dict) else [("", None)]:
            rule = rules.get((table, field))
            if rule is None:
                known = ", ".join(f"{rule.table}.{rule.field}" for rule in RULES)
                raise InputError(f"{path}: {table}.{field}: no figure with bounds; choose among {known}")
            found[table, field] = _bound(path, rule, bounds)
    return found


def _bound(path: Path, rule: Rule, given: Any) -> Bound:
    name = f"{path}: {rule.table}.{rule.field}"
    if not isinstance(given, dict) or given.keys() != {"check", "poor"}:
        raise InputError(f"{name}: give two numbers, as {{ check = ..., poor = ... }}")
    for value in given.values():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{name}: {value!r} is no number; give two, as {{ check = ..., poor = ... }}")
    bound = Bound(float(given["check"]), float(given["poor"]))
    if rule.sign * (bound.poor - bound.check) < 0:
        worse = "at least" if rule.higher_is_worse else "at most"
        raise InputError(f"{name}: poor must be {worse} check, {bound.check:g}; it is {bound.poor:g}")
    return bound
