"""How well each structure overlaps in registered pairs of brains, and which one falls short of that most.

`usual_agreement.json` is written by `Benchmarks/wrong_pairs.py`: medians of the right pairs of development
brains, the two sides together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

_FILE = Path(__file__).with_name("usual_agreement.json")
# Structures that overlap less than this even when all is right are too thin to tell anything.
_LEAST = 0.6


@lru_cache
def usual_agreement() -> Mapping[str, float]:
    """Dice of each structure in pairs that are right, by its name without the side."""
    usual: dict[str, float] = json.loads(_FILE.read_text(encoding="utf-8"))
    return usual


def sideless(name: str) -> str:
    """The name of a structure without its side."""
    return name.removeprefix("left ").removeprefix("right ")


def furthest_below_usual(agreement: Mapping[str, float]) -> dict[str, Any]:
    """The structure that falls short of its usual overlap most.

    Args:
        agreement: Dice by name, "left hippocampus".

    Returns:
        lowest_share, of the usual overlap; lowest_structure, its name; lowest_agreement and lowest_usual, Dice. Empty
        where none of the structures is known.
    """
    usual = {name: usual_agreement().get(sideless(name), 0.0) for name in agreement}
    shares = {name: value / usual[name] for name, value in agreement.items() if usual[name] >= _LEAST}
    if not shares:
        return {}
    name = min(shares, key=lambda each: shares[each])
    return {
        "lowest_share": shares[name], "lowest_structure": name, "lowest_agreement": agreement[name],
        "lowest_usual": usual[name],
    }  # fmt: skip


def write_usual(pairs: Iterable[Mapping[str, float]], path: Path = _FILE) -> None:
    """Write the medians of what was found in right pairs, each Dice by name."""
    values: dict[str, list[float]] = {}
    for pair in pairs:
        for name, value in pair.items():
            values.setdefault(sideless(name), []).append(value)
    table = {name: round(median(found), 3) for name, found in sorted(values.items())}
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
