"""One option: what it is called, what it may be, what it does, and what it is if nothing is said."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.text.ranges import Range, whole, within_all


@dataclass(frozen=True)
class Option:
    """An option of `register`, of the command and of a request to the worker.

    Attributes:
        name: the keyword of `register`.
        default: what it is where nothing is said.
        kind: of its value: "number", "switch", "word", "file" (or what was read from one), "path" (files alone).
        help: one sentence for the command's help and for the docstring of `register`.
        metavar: what stands for its value in the command's help.
        unit: of a number.
        limits: lowest and highest; whole numbers where both are.
        choices: words it may be; empty for any.
        annotation: its type, as written in the class that declares it.
        command_name: the option of the command; a request has the same with underscores.
    """

    name: str
    default: Any
    kind: str
    help: str
    metavar: str
    unit: str
    limits: Range | None
    choices: tuple[str, ...]
    annotation: str
    command_name: str

    @property
    def key(self) -> str:
        """Its key in a request to the worker, and its name among the parsed options of the command."""
        return self.command_name.removeprefix("--").replace("-", "_")

    @property
    def sentence(self) -> str:
        """Help with unit, range and default."""
        facts = [self.unit] if self.unit else []
        if self.limits is not None:
            facts.append("{:g} to {:g}".format(*self.limits))
        if self.default is not None and self.kind != "switch":
            facts.append(f"default {self.default:g}" if self.kind == "number" else f"default {self.default}")
        return self.help + (f" ({'; '.join(facts)})" if facts else "")

    def check(self, value: float | None) -> None:
        """Refuse a number out of range; None is not given, and what is no number is not looked at.

        Raises:
            InputError: names the option as the command has it.
        """
        if value is None or self.limits is None:
            return
        try:
            within_all(self.command_name, [value], self.limits, whole_numbers=whole(self.limits))
        except ValueError as error:
            raise InputError(str(error)) from error


def number(default: float | None, limits: Range, help: str, *, unit: str = "", metavar: str = "N") -> Any:
    """A field that is a number; a whole one where its limits are, None where something else decides."""
    return _field(default, kind="number", limits=limits, help=help, unit=unit, metavar=metavar)


def switch(help: str) -> Any:
    """A field that is off unless it is asked for."""
    return _field(False, kind="switch", help=help)


def word(default: str | None, help: str, *, choices: tuple[str, ...] = (), metavar: str = "") -> Any:
    """A field that is a word, one of `choices` where there are any."""
    return _field(default, kind="word", help=help, choices=choices, metavar=metavar)


def file(help: str, *, command_name: str = "", metavar: str = "F") -> Any:
    """A field that is a file, or in Python what was read from one."""
    return _field(None, kind="file", help=help, command_name=command_name, metavar=metavar)


def _field(default: Any, **about: Any) -> Any:
    return dataclasses.field(default=default, metadata=about)


def options_of(group: type) -> tuple[Option, ...]:
    """The options that a group declares, in its order."""
    found = []
    for field in dataclasses.fields(group):
        about = {"metavar": "", "unit": "", "limits": None, "choices": (), "command_name": "", **field.metadata}
        about["command_name"] = about["command_name"] or "--" + field.name.replace("_", "-")
        found.append(Option(name=field.name, default=field.default, annotation=str(field.type), **about))
    return tuple(found)
