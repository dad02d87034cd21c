"""Where a Python file lets go of a Qt object that it made, other than from the event loop.

PythonQt deletes such an object with its last reference, also inside one of its own signals, and Slicer crashes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pythonqt_syntax import File, dotted, isCpp, nodes

_REMOVING = frozenset({"pop", "popleft", "remove", "discard", "clear"})
_CONSTRUCTORS = ("__init__", "setup")


def lettingGo(file: File) -> Iterator[tuple[ast.AST, str]]:
    """The places, each with what is wrong.

    What counts are objects made here with signals connected here. A name that holds one (or a container that took it
    in) may be bound anew or emptied in a constructor, in what `QTimer.singleShot` is given, and in a function that
    hands the old one over to it.
    """
    made = _made(file)
    connected = {name for name in _connected(file) for name in made.get(name, ())}
    containers = {owner for owner, name in _takenIn(file) if name in connected}
    late = _fromTheEventLoop(file)
    for node, name in _released(file, containers):
        if name in connected | containers and node not in late:
            yield node, f"{name} is let go of: keep the old one and let go of it in qt.QTimer.singleShot(0, ...)"
    for call in nodes(file, ast.Call):
        owner, _, method = dotted(call.func).rpartition(".")
        if method == "deleteLater" and owner in made:
            yield call, f"{owner} belongs to Python, whose last reference deletes it before deleteLater does"
    for function in nodes(file, ast.FunctionDef):
        yield from _heldByAVariableAlone(function, made, connected)


def _made(file: File) -> dict[str, set[str]]:
    """Name of what is made with `a = b = qt.Class()` -> every name that the statement gives it."""
    found: dict[str, set[str]] = {}
    for node in nodes(file, ast.Assign):
        pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        for value in {id(value): value for _, value in pairs}.values():
            if _isConstructor(value):
                names = {dotted(target) for target, other in pairs if other is value} - {""}
                for name in names:
                    found.setdefault(name, set()).update(names)
    for node in nodes(file, ast.AnnAssign):
        if node.value is not None and _isConstructor(node.value):
            found.setdefault(dotted(node.target), {dotted(node.target)})
    return found


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, other)
    elif isinstance(target, ast.Tuple):
        for one in target.elts:
            yield one, value
    else:
        yield target, value


def _isConstructor(node: ast.AST) -> bool:
    name = dotted(node.func) if isinstance(node, ast.Call) else ""
    return isCpp(name) and name.count(".") == 1


def _connected(file: File) -> Iterator[str]:
    for call in nodes(file, ast.Call):
        owner, _, method = dotted(call.func).rpartition(".")
        if method == "connect":
            yield owner if call.args and isinstance(call.args[0], ast.Constant) else owner.rpartition(".")[0]


def _takenIn(file: File) -> Iterator[tuple[str, str]]:
    """Containers and what they take in: `container.append(name)`, `container[key] = name`."""
    for call in nodes(file, ast.Call):
        owner, _, method = dotted(call.func).rpartition(".")
        if method in ("append", "add", "insert", "appendleft", "extend", "setdefault"):
            yield from ((owner, dotted(argument)) for argument in call.args)
    for node in nodes(file, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                yield dotted(target.value), dotted(node.value)


def _released(file: File, containers: set[str]) -> Iterator[tuple[ast.AST, str]]:
    """What is bound anew, deleted or emptied, but for local variables, whose end is that of their function."""
    for node in ast.walk(file.tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
            targets = [target for target, value in pairs if not _isConstructor(value)]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call):
            owner, _, method = dotted(node.func).rpartition(".")
            if method in _REMOVING and owner in containers:
                yield node, owner
        for target in targets:
            name = dotted(target.value if isinstance(target, ast.Subscript) else target)
            if "." in name and not (isinstance(node, ast.Assign) and isinstance(target, ast.Subscript)):
                yield node, name


def _fromTheEventLoop(file: File) -> set[ast.AST]:
    """Everything inside constructors, what `singleShot` is given, and functions that call it."""
    inside: set[ast.AST] = set()
    given = set()
    for call in nodes(file, ast.Call):
        if dotted(call.func).endswith("QTimer.singleShot"):
            for argument in call.args:
                inside.update(ast.walk(argument))
                given.add(dotted(argument).rpartition(".")[2])
    for function in nodes(file, ast.FunctionDef):
        calls = [dotted(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
        if function.name in (*_CONSTRUCTORS, *given) or any(name.endswith("QTimer.singleShot") for name in calls):
            inside.update(ast.walk(function))
    return inside


def _heldByAVariableAlone(function: ast.FunctionDef, made: dict[str, set[str]], connected: set[str]):
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or not _isConstructor(node.value) or node.value.args:  # given a parent
            continue
        names = {dotted(target) for target in node.targets}
        isLocal = names <= connected and all(name and "." not in name for name in names)
        if isLocal and not any(name in _handedOn(function) for name in names):
            name = min(names)
            yield (
                node,
                f"{name} is held by a variable alone: it is deleted when {function.name} returns; keep it on self",
            )


def _handedOn(function: ast.FunctionDef) -> set[str]:
    """Names that are returned, stored in an attribute or container, or given to a call."""
    found: set[str] = set()
    for node in ast.walk(function):
        isStored = isinstance(node, ast.Assign) and not all(isinstance(target, ast.Name) for target in node.targets)
        values: list[ast.AST | None] = list(node.args) if isinstance(node, ast.Call) else []
        if isStored or isinstance(node, ast.Return | ast.Yield):
            values = [node.value]
        for value in values:
            if value is not None:
                found.update(dotted(part) for part in ast.walk(value))
    return found
