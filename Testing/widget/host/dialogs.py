"""Windows that would wait for a person: recorded, and answered from what the test said beforehand.

A question nobody answered is an error, as a test must not hang and must not pass by accident.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shown:
    """One window: `kind` is info, warning, error, confirm, file, text, dialog, menu, url or module."""

    kind: str
    text: str
    title: str = ""
    details: str = ""


shown: list[Shown] = []
_answers: dict[str, deque] = defaultdict(deque)


def answer(kind: str, *values: Any) -> None:
    """What the next windows of this kind return: a path for `file` ("" = cancelled), a bool for `confirm`, ..."""
    _answers[kind].extend(values)


def tell(kind: str, text: str, title: str = "", details: str = "") -> None:
    """Record a window that needs no answer."""
    shown.append(Shown(kind, str(text), str(title or ""), str(details or "")))


def ask(kind: str, text: str, title: str = "") -> Any:
    """Record a window and return the answer prepared for it."""
    tell(kind, text, title)
    if not _answers[kind]:
        raise AssertionError(f"a {kind} window waits for a person ({text!r}): prepare it with dialogs.answer")
    return _answers[kind].popleft()


def texts(kind: str) -> list[str]:
    return [one.text for one in shown if one.kind == kind]


def reset() -> None:
    shown.clear()
    _answers.clear()
