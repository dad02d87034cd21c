"""Options of commands for argparse, made from where they are declared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from SpikeRegLib.options.numbers import NUMBERS
from SpikeRegLib.options.option import Option
from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.text.ranges import whole, within


def number(name: str) -> Callable[[str], float]:
    """A type for argparse: a number inside its range, a whole one where its limits are."""
    limits = NUMBERS[name]
    kind = int if whole(limits) else float

    def parse(text: str) -> float:
        value = kind(text)
        try:
            within("", value, *limits)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from error
        return value

    parse.__name__ = "whole number" if kind is int else "number"  # argparse: "invalid whole number value: 'x'"
    return parse


def add_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup, names: Iterable[str]) -> None:
    """Options of a registration, by their names."""
    for name in names:
        option = OPTIONS[name]
        parser.add_argument(option.command_name, **_how(option))


def _how(option: Option) -> dict[str, Any]:
    if option.kind == "switch":
        return {"action": "store_true", "help": option.help}
    how: dict[str, Any] = {"default": option.default, "help": _help(option)}
    if option.choices:
        how["choices"] = option.choices
    if option.metavar:
        how["metavar"] = option.metavar
    if option.kind == "number":
        how["type"] = number(option.name)
    elif option.kind == "file":
        how["type"] = Path
    return how


def _help(option: Option) -> str:
    said = option.help + (f" [{option.unit}]" if option.unit else "")
    return said if option.default is None else f"{said} (default: {option.default})"


def add_background_option(parser: argparse.ArgumentParser, output: str) -> None:
    """The option of all commands that resample an image."""
    parser.add_argument(
        "--background", type=number("background"), metavar="VALUE",
        help=f"of {output} beyond the edges of the image resampled (default: that image's own, from its corners)",
    )  # fmt: skip


def add_threads_option(parser: argparse.ArgumentParser, what: str = "CPU threads") -> None:
    """The option of all commands that compute."""
    parser.add_argument("--threads", type=number("threads"), metavar="N", help=f"{what} (default: all cores)")


def add_progress_option(parser: argparse.ArgumentParser) -> None:
    """The option of commands that tell how far they are."""
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="bar on stderr, one JSON event a line on stdout, or nothing (default: bar)",
    )
