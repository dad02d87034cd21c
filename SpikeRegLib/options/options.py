"""All options of one registration, checked; made from keywords, read by name."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any

from SpikeRegLib.errors import InputError
from SpikeRegLib.options import groups
from SpikeRegLib.options.option import Option, options_of
from SpikeRegLib.presets.preset import METHODS


@dataclass(frozen=True)
class Options:
    """What a person asks of one registration, in groups; `options["seed"]` finds an option by its name."""

    method: groups.Method = dataclasses.field(default_factory=groups.Method)
    start: groups.Start = dataclasses.field(default_factory=groups.Start)
    masks: groups.Masks = dataclasses.field(default_factory=groups.Masks)
    anatomy: groups.Anatomy = dataclasses.field(default_factory=groups.Anatomy)
    segmentations: groups.Segmentations = dataclasses.field(default_factory=groups.Segmentations)
    landmarks: groups.Landmarks = dataclasses.field(default_factory=groups.Landmarks)
    refinement: groups.Refinement = dataclasses.field(default_factory=groups.Refinement)
    neural_field: groups.Field = dataclasses.field(default_factory=groups.Field)
    network: groups.Network = dataclasses.field(default_factory=groups.Network)
    reading: groups.Reading = dataclasses.field(default_factory=groups.Reading)
    judging: groups.Judging = dataclasses.field(default_factory=groups.Judging)
    execution: groups.Execution = dataclasses.field(default_factory=groups.Execution)

    @classmethod
    def of(cls, **given: Any) -> Options:
        """The options that keywords give; everything else as if nothing was said.

        Raises:
            TypeError: a keyword that is no option.
            InputError: a value out of range, or options that do not go together.
        """
        for name in given:
            if name not in OPTIONS:
                raise TypeError(f"register() got an unexpected keyword argument {name!r}")
        made = cls(
            **{
                group: kind(**{option.name: given[option.name] for option in options_of(kind) if option.name in given})
                for group, kind in GROUPS.items()
            }
        )
        made._check()
        return made

    def __getitem__(self, name: str) -> Any:
        return getattr(getattr(self, _GROUP_OF[name]), name)

    def _check(self) -> None:
        if self["method"] is not None and self["method"] not in METHODS:
            raise InputError(f"--method {self['method']}: unknown; choose one of {', '.join(METHODS)}")
        for option in OPTIONS.values():
            option.check(self[option.name])
        points = self["fixed_points"], self["moving_points"]
        if self["landmark_weight"] and (points[0] is None or points[1] is None):
            raise InputError(
                "--landmark-weight: needs landmarks; give --fixed-points and --moving-points, or leave it out"
            )
        if self["align"] and (self["initial_transform"] is None or self["skip_affine"]):
            raise InputError("--align: goes on from a given transform; add --initial-transform, without --skip-affine")


GROUPS: dict[str, type] = {name: type(group) for name, group in vars(Options()).items()}
OPTIONS: dict[str, Option] = {option.name: option for kind in GROUPS.values() for option in options_of(kind)}
_GROUP_OF = {option.name: group for group, kind in GROUPS.items() for option in options_of(kind)}


def with_options(function: Any) -> Any:
    """A decorator: the options take the place of `**options` in the function's signature and of `{options}` in its
    docstring, so that `help()` and editors show them."""
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    first = [parameter for parameter in own if parameter.kind is not parameter.KEYWORD_ONLY]
    options = [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.annotation
        )
        for option in OPTIONS.values()
    ]
    function.__signature__ = signature.replace(parameters=[*first, *options, *(p for p in own if p not in first)])
    function.__doc__ = (function.__doc__ or "").replace("{options}", _described())
    return function


def _described() -> str:
    lines = (f"{option.name}: {option.sentence}." for option in OPTIONS.values())
    wrapped = (textwrap.wrap(line, 108, subsequent_indent="    ") for line in lines)
    return "\n        ".join(line for lines in wrapped for line in lines)
