"""A stage of a registration as data: its name, the options it reads, the stages it follows, and what it makes.

A stage first turns the options that it declares into settings: what it is going to do. Then it makes its value from
those settings and from the values of the stages that it follows, and sees nothing else. So settings and followed
stages are all that a value depends on, and are what a later run compares to take the value over (see `recall`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.pipeline.recall import file_key
from SpikeRegLib.progress import Listener

# What is read from files; each is known by its file.
SOURCES = {"fixed", "moving", "network_file", "fine_network_file", "structures_file"} | {
    name for name, option in OPTIONS.items() if option.kind == "file"
}


class Undeclared(RuntimeError):
    """A stage looked at an option or a stage that it does not declare: a defect that would make results stale."""


@dataclass(frozen=True)
class Tracked:
    """A file, or what was read from one; equal to another if the file is the same and has not changed since."""

    given: Any = field(compare=False)
    key: Any


class Chosen:
    """The options and the fields of the preset that a stage declares, as attributes."""

    def __init__(self, values: Mapping[str, Any], stage: Stage) -> None:
        self._values, self._stage = values, stage

    def __getattr__(self, name: str) -> Any:
        if name == "preset":
            return _ChosenPreset(self)
        if name not in self._stage.reads:
            raise Undeclared(f"stage {self._stage.name!r} reads {name!r} and does not say so")
        value = self._values[name]
        return Tracked(value, file_key(value)) if name in SOURCES else value


class _ChosenPreset:
    """The declared fields of the preset."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chosen, f"preset.{name}")


@dataclass(frozen=True)
class Work:
    """What a stage finds when it starts: the values of the stages that it follows, by their names.

    Attributes:
        listener: hears the progress; raises Cancelled to stop the run.
    """

    values: Mapping[str, Any]
    listener: Listener
    stage: str
    follows: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        if name not in self.follows:
            raise Undeclared(f"stage {self.stage!r} uses {name!r} and does not say that it follows it")
        return self.values[name]


@dataclass(frozen=True)
class Stage:
    """One step of a registration.

    Attributes:
        name: of what it makes; `reused` in result.json lists these names.
        step: of the progress and of the times it belongs to: prepare, align, predict, refine or finish.
        make: (work, settings) -> its value; never changed afterwards.
        reads: options, and fields of the preset as "preset.NAME".
        follows: stages before it whose values it uses.
        settings: (chosen, work) -> what it is going to do; compared by ==. By default all that it reads, by name.
        kept: whether a later run takes the value over; else it is made in every run, at once, and only settings and
            stages that are not kept may use it.
        side: "fixed" or "moving" where its value depends on that image alone, and would be the same for that image on
            the other side; its settings are then a table, in whose names the side may stand.
    """

    name: str
    step: str
    make: Callable[[Work, Any], Any]
    reads: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    settings: Callable[[Chosen, Work], Any] | None = None
    kept: bool = True
    side: str = ""

    def choose(self, values: Mapping[str, Any], work: Work) -> Any:
        """The settings that the options `values` ask for."""
        chosen = Chosen(values, self)
        if self.settings is not None:
            return self.settings(chosen, work)
        return {name: getattr(chosen, name) for name in self.reads}
