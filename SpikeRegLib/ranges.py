"""Checks of settings: a value out of range is a ValueError that begins with the field's name."""

from __future__ import annotations

# Coordinates of points in mm; no scanner reaches farther from its centre.
COORDINATE_MM = (-1e5, 1e5)


def within(field: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high], and NaN.

    Raises:
        ValueError: names the field, the range and the value.
    """
    if not low <= value <= high:
        raise ValueError(f"{field}: must be between {low} and {high}, got {value}")


def one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices.

    Raises:
        ValueError: names the field, the choices and the word.
    """
    if value not in choices:
        raise ValueError(f"{field}: must be one of {', '.join(choices)}; got {value!r}")
