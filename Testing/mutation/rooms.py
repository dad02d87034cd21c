"""What is mutated: the rooms where a quiet mistake moves anatomy, and the kinds of mistake."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# Room -> patterns of its files, below the root of the repository.
ROOMS = {
    "geometry": ("SpikeRegLib/images/frames.py", "SpikeRegLib/images/points.py", "SpikeRegLib/space/*.py"),
    "alignment": ("SpikeRegLib/affine/*.py",),
    "refinement": ("SpikeRegLib/similarity/*.py", "SpikeRegLib/refinement/*.py", "SpikeRegLib/pipeline/refine.py"),
    "spiking": (
        "SpikeRegLib/spiking/*.py",
        "SpikeRegLib/networks/deploy.py",
        "SpikeRegLib/networks/integer*.py",
        "SpikeRegLib/networks/rounding.py",
        "SpikeRegLib/networks/tiles.py",
    ),
    "outputs": ("SpikeRegLib/outputs/folder.py", "SpikeRegLib/pipeline/assemble.py", "SpikeRegLib/quality/*.py"),
}

# Operators of Cosmic Ray that make mistakes people make: the neighbouring operator, the number beside, the other sign,
# the negated condition, the loop that does not run, the error that is not caught. Left out are operators that nobody
# confuses (a sum that becomes a shift), which any test catches and which would only lift the figure, and removed
# decorators (without `torch.no_grad` the numbers stay).
OPERATORS = re.compile(
    r"core/("
    r"ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Mul_Add|Div_Mul|FloorDiv_Div|FloorDiv_Mul|Mod_FloorDiv|Pow_Mul"
    r"|BitAnd_BitOr|BitOr_BitAnd|RShift_LShift|LShift_RShift)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt"
    r"|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_(Delete_USub|Delete_Invert|Delete_Not)"
    r"|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd"
    r"|ReplaceBreakWithContinue|ReplaceContinueWithBreak|ExceptionReplacer|NumberReplacer|ZeroIterationForLoop"
    r")"
)

# Tests that read the sources, which coverage does not see: every mutant meets them.
ALWAYS = ("Testing/library/test_project.py::test_records_cannot_be_changed_once_they_are_made",)


def files_of_rooms(root: Path, rooms: Iterable[str]) -> dict[str, str]:
    """Every file of the `rooms`, relative to `root` -> its room.

    Raises:
        FileNotFoundError: a pattern finds nothing; a file that moved would silently go without mutants.
    """
    found: dict[str, str] = {}
    for room in rooms:
        for pattern in ROOMS[room]:
            paths = sorted(root.glob(pattern))
            if not paths:
                raise FileNotFoundError(f"{pattern}: no such file; put its new name into {Path(__file__).name}")
            found.update({path.relative_to(root).as_posix(): room for path in paths})
    return found


def is_evaluated(source: str, line: int, column: int) -> bool:
    """Whether the place is code: no annotation, which no program evaluates here, and no star of a signature or of an
    unpacked dictionary, which multiplies nothing."""
    text = source.splitlines()[line - 1]
    if text[column:].startswith(("*,", "/,")) or re.fullmatch(r".*[{(,]\s*\*\*|\s*\*\*", text[: column + 2]):
        return False
    return not any(begin <= (line, column) < end for begin, end in _annotations(source))


@cache
def _annotations(source: str) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    places = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            if (of := getattr(node, name, None)) is not None:
                places.append(((of.lineno, of.col_offset), (of.end_lineno, of.end_col_offset)))
    return tuple(places)
