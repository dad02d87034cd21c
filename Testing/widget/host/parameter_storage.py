"""How `slicer.parameterNodeWrapper` keeps values in a vtkMRMLScriptedModuleNode, hence in a saved scene.

Names and texts are those of Slicer, so that a scene saved by one is read by the other: a value is a parameter of its
own name, a node is a node reference, item i of a list or tuple is `<name>_<i>` with `<name>_len`, member i of a union
is `<name>_<i>`.
"""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable, MutableSequence
from typing import Any

import slicer

from .parameter_types import IsInstance, NotNone, Validator, splitAnnotations


class Storage:
    """Values of one type under one name in a node; `kind` is the type without annotations."""

    kind: Any = None

    def __init__(self, default: Any, validators: list[Validator]):
        self.default, self.validators = default, validators

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            (validator() if isinstance(validator, type) else validator).validate(value)

    def isIn(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        with slicer.util.NodeModify(node):
            self._write(node, name, value)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)

    def read(self, node: Any, name: str) -> Any:
        raise NotImplementedError

    def _write(self, node: Any, name: str, value: Any) -> None:
        raise NotImplementedError


class TextStorage(Storage):
    """One text, with the functions from and to it."""

    def __init__(self, default: Any, validators: list[Validator], toText: Callable, fromText: Callable):
        super().__init__(default, validators)
        self._toText, self._fromText = toText, fromText

    def read(self, node: Any, name: str) -> Any:
        return self._fromText(node.GetParameter(name))

    def _write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self._toText(value))


class NodeStorage(Storage):
    """A node reference of the parameter's name; the empty parameter beside it says that it was set."""

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        super().remove(node, name)
        node.RemoveNodeReferenceIDs(name)

    def _write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)


class NoneStorage(TextStorage):
    def __init__(self):
        super().__init__(None, [IsInstance(type(None))], lambda _: "True", lambda _: None)


class ListStorage(Storage):
    def __init__(self, element: Storage):
        super().__init__([], [])
        self._element, self._length = element, storageOf(int)

    def isIn(self, node: Any, name: str) -> bool:
        return self._length.isIn(node, f"{name}_len")

    def read(self, node: Any, name: str) -> StoredList:
        return StoredList(self, node, name, self._values(node, name))

    def remove(self, node: Any, name: str) -> None:
        for index in range(self._count(node, name)):
            self._element.remove(node, f"{name}_{index}")
        self._length.remove(node, f"{name}_len")

    def _count(self, node: Any, name: str) -> int:
        return self._length.read(node, f"{name}_len") if self.isIn(node, name) else 0

    def _values(self, node: Any, name: str) -> list:
        return [self._element.read(node, f"{name}_{index}") for index in range(self._count(node, name))]

    def _write(self, node: Any, name: str, value: Any) -> None:
        values, before = list(value), self._count(node, name)
        for one in values:
            self._element.validate(one)
        for index, one in enumerate(values):
            self._element.write(node, f"{name}_{index}", one)
        self._length.write(node, f"{name}_len", len(values))
        for index in range(len(values), before):
            self._element.remove(node, f"{name}_{index}")


class StoredList(MutableSequence):
    """A list whose every change is written to the node; `+` and `*` are refused, as nothing would be written."""

    def __init__(self, storage: ListStorage, node: Any, name: str, values: list):
        self._storage, self._node, self._name, self._values = storage, node, name, values

    def _change(self, change: Callable[[list], Any]) -> Any:
        changed = list(self._values)
        result = change(changed)
        self._storage.write(self._node, self._name, changed)
        self._values = self._storage._values(self._node, self._name)  # inner lists write themselves from now on
        return result

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value) -> None:
        self._change(lambda values: values.__setitem__(index, value))

    def __delitem__(self, index) -> None:
        self._change(lambda values: values.__delitem__(index))

    def insert(self, index: int, value: Any) -> None:
        self._change(lambda values: values.insert(index, value))

    def extend(self, values: Any) -> None:
        self._change(lambda own: own.extend(values))

    def __iadd__(self, values: Any) -> StoredList:
        self.extend(values)
        return self

    def pop(self, index: int = -1) -> Any:
        return self._change(lambda values: values.pop(index))

    def clear(self) -> None:
        self._change(list.clear)

    def reverse(self) -> None:
        self._change(list.reverse)

    def sort(self, **how: Any) -> None:
        self._change(lambda values: values.sort(**how))

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, StoredList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StoredList({self._values})"


class TupleStorage(Storage):
    def __init__(self, elements: list[Storage]):
        super().__init__(tuple(element.default for element in elements), [])
        self._elements = elements

    def isIn(self, node: Any, name: str) -> bool:
        return self._elements[0].isIn(node, f"{name}_0")

    def read(self, node: Any, name: str) -> tuple:
        return tuple(element.read(node, f"{name}_{index}") for index, element in enumerate(self._elements))

    def remove(self, node: Any, name: str) -> None:
        for index, element in enumerate(self._elements):
            element.remove(node, f"{name}_{index}")

    def _write(self, node: Any, name: str, value: Any) -> None:
        for index, (element, one) in enumerate(zip(self._elements, value, strict=True)):
            element.write(node, f"{name}_{index}", one)


class UnionStorage(Storage):
    def __init__(self, members: list[Storage]):
        optional = len(members) == 2 and isinstance(members[1], NoneStorage)
        super().__init__(None if optional else members[0].default, [])
        self._members = members

    def isIn(self, node: Any, name: str) -> bool:
        return self._stored(node, name) is not None

    def read(self, node: Any, name: str) -> Any:
        index = self._stored(node, name)
        return self._members[index].read(node, f"{name}_{index}")

    def remove(self, node: Any, name: str) -> None:
        for index, member in enumerate(self._members):
            member.remove(node, f"{name}_{index}")

    def _stored(self, node: Any, name: str) -> int | None:
        isIn = (index for index, member in enumerate(self._members) if member.isIn(node, f"{name}_{index}"))
        return next(isIn, None)

    def _write(self, node: Any, name: str, value: Any) -> None:
        index = self._memberFor(value)
        for other, member in enumerate(self._members):
            if other != index:
                member.remove(node, f"{name}_{other}")
        self._members[index].write(node, f"{name}_{index}", value)

    def _memberFor(self, value: Any) -> int:
        refusal: Exception = TypeError(f"No member of the union takes {value!r}")
        for index, member in enumerate(self._members):
            isOfKind = (value is None) == isinstance(member, NoneStorage) and (member.kind is bool) == isinstance(
                value, bool
            )
            if isOfKind:
                try:
                    member.validate(value)
                    return index
                except TypeError:
                    continue
                except ValueError as error:
                    refusal = error
        raise refusal


def storageOf(kind: Any) -> Storage:
    """The storage of a possibly annotated type.

    Raises:
        TypeError: nothing stores that type.
    """
    bare, annotations = splitAnnotations(kind)
    storage = _bareStorage(bare)
    validators = [one for one in annotations if isinstance(one, Validator | type) and _isValidator(one)]
    storage.validators, storage.kind = storage.validators + validators, bare
    return storage


def _isValidator(one: Any) -> bool:
    return issubclass(one if isinstance(one, type) else type(one), Validator)


def _bareStorage(bare: Any) -> Storage:
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin is list:
        return ListStorage(storageOf(arguments[0]))
    if origin is tuple:
        return TupleStorage([storageOf(one) for one in arguments])
    if origin is typing.Union:
        return UnionStorage([storageOf(one) for one in arguments])
    if bare is type(None):
        return NoneStorage()
    if bare is bool:
        return TextStorage(False, [NotNone(), IsInstance(bool)], str, "True".__eq__)
    if bare is int:
        return TextStorage(0, [NotNone(), IsInstance(int)], str, int)
    if bare is float:
        return TextStorage(0.0, [NotNone(), IsInstance((int, float))], str, float)
    if bare is str:
        return TextStorage("", [NotNone(), IsInstance(str)], str, str)
    if isinstance(bare, type) and issubclass(bare, pathlib.PurePath):
        return TextStorage(bare(), [NotNone(), IsInstance(bare)], str, bare)
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return TextStorage(next(iter(bare)), [NotNone(), IsInstance(bare)], lambda one: one.name, bare.__getitem__)
    if isinstance(bare, type) and issubclass(bare, slicer.vtkMRMLNode):
        return NodeStorage(None, [IsInstance(bare)])
    raise TypeError(f"slicer.parameterNodeWrapper cannot store {bare}")
