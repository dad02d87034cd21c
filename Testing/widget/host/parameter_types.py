"""Annotations of `slicer.parameterNodeWrapper`: default, limits, and how a widget shows the value."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any

import slicer

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "Validator",
    "WithinRange",
    "findFirstAnnotation",
    "splitAnnotations",
    "unannotatedType",
]


class Validator:
    """Raises where a value must not be stored."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass(frozen=True, eq=False)
class Minimum(Validator):
    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass(frozen=True, eq=False)
class Maximum(Validator):
    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass(frozen=True, eq=False)
class Choice(Validator):
    choices: Any

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


@dataclass(frozen=True, eq=False)
class Exclude(Validator):
    excludedValues: Any

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value {value} is excluded")


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


@dataclass(frozen=True, eq=False)
class IsInstance(Validator):
    classtype: Any

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, is {type(value)}: {value!r}")


@dataclass(frozen=True, eq=False)
class Decimals:
    value: int


@dataclass(frozen=True, eq=False)
class SingleStep:
    value: float


class Default:
    """The value of a parameter that was never set; `generator` makes a new one each time."""

    def __init__(self, value: Any = None, *, generator: Any = None):
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Default)
        return same and (self._value, self._generator) == (other._value, other._generator)

    __hash__ = None  # type: ignore[assignment]


def splitAnnotations(kind: Any) -> tuple[Any, tuple]:
    """The bare type and its annotations; `A | B` becomes Union[A, B]."""
    bare, *annotations = typing.get_args(Annotated[kind, None])
    if isinstance(bare, types.UnionType):
        bare = typing.Union[typing.get_args(bare)]  # noqa: UP007
    return bare, tuple(annotations[:-1])


def unannotatedType(kind: Any) -> Any:
    return splitAnnotations(kind)[0]


def findFirstAnnotation(annotations: typing.Iterable, kind: type) -> Any:
    return next((one for one in annotations if isinstance(one, kind)), None)


def nodeClasses(kind: Any) -> list[type]:
    """The node classes of a node type or of a union of node types (with or without None); else []."""
    bare = unannotatedType(kind)
    members = typing.get_args(bare) if typing.get_origin(bare) is typing.Union else (bare,)
    members = [unannotatedType(member) for member in members if member is not type(None)]
    areNodes = all(isinstance(member, type) and issubclass(member, slicer.vtkMRMLNode) for member in members)
    return members if areNodes else []
