"""What segmentation.json says about the structures of one volume, taken as a stranger's word."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.errors import InputError


@dataclass(frozen=True)
class StructureFigures:
    """Figures of one volume; None where the file has no number.

    Attributes:
        brainMl: the brain with its ventricles and the CSF around it.
        confidence: of the whole, 0..1.
        structures: label of `anatomy.names` -> ml and confidence.
        warnings: for a person.
    """

    brainMl: float | None = None
    confidence: float | None = None
    structures: dict[int, tuple[float | None, float | None]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The figures of the whole in one line; each warning is a line of its own below it."""
        count = sum(bool(ml) for ml, _confidence in self.structures.values())
        said = [_("{count} structures").format(count=count)]
        if self.brainMl is not None:
            said.append(_("brain with CSF {ml:,.0f} ml").format(ml=self.brainMl))
        if self.confidence is not None:
            said.append(_("confidence {confidence:.2f}").format(confidence=self.confidence))
        return "\n".join(["  ·  ".join(said), *self.warnings])


def readFigures(path: str, worded: Callable[[str], str] = str) -> StructureFigures:
    """The figures in a segmentation.json.

    Args:
        path: of the file.
        worded: makes a warning one for the person, who knows nothing of the library's files.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(_("{path}: cannot be read ({error}); run again").format(path=path, error=error)) from error
    table = found if isinstance(found, dict) else {}
    rows = [row for row in _list(table, "structures") if isinstance(row, dict)]
    structures = {row["label"]: (_number(row, "ml"), _number(row, "confidence")) for row in rows if _isKnown(row)}
    warnings = [worded(" ".join(line.split())) for line in _list(table, "warnings") if isinstance(line, str)]
    return StructureFigures(_number(table, "brain_ml"), _number(table, "confidence"), structures, tuple(warnings))


def _isKnown(row: dict[str, Any]) -> bool:
    return type(row.get("label")) is int and row["label"] in STRUCTURES


def _number(table: dict[str, Any], name: str) -> float | None:
    value = table.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def _list(table: dict[str, Any], name: str) -> list[Any]:
    value = table.get(name)
    return value if isinstance(value, list) else []
