"""Reading Python syntax trees for the rules of `pythonqt_lint`: names, imports, what Qt knows of a class."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

LIBRARY = Path(__file__).resolve().parents[2] / "SpikeRegLib"
QT_MODULES = frozenset({"qt", "ctk"})


@dataclass(frozen=True)
class File:
    """A parsed file; `folder` is the name of its own folder, which says what it may import."""

    path: Path
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.path.parent.name

    @property
    def hasNoQt(self) -> bool:
        return self.folder in ("scene", "display")


def nodes(file: File, kind: type) -> list:
    return [node for node in ast.walk(file.tree) if isinstance(node, kind)]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression of names; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def isCpp(name: str) -> bool:
    """Whether a dotted name is a C++ class of Qt, CTK or Slicer's widgets, or something of one."""
    first, _, rest = name.partition(".")
    return (first in QT_MODULES and bool(rest)) or (first == "slicer" and rest[:5] in ("qMRML", "qSlic"))


def imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Each import with the full name of what it imports (`from a import b` gives a.b)."""
    for node in ast.walk(tree):
        yield from _named(node)


def importsAtStart(node: ast.AST, package: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Those that run when the file is imported; relative ones are seen from `package`, or left out."""
    for child in ast.iter_child_nodes(node):
        yield from _named(child, package)
        isLater = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        isForTypes = isinstance(child, ast.If) and dotted(child.test).endswith("TYPE_CHECKING")
        if not isLater and not isForTypes:
            yield from importsAtStart(child, package)


def _named(node: ast.AST, package: str = "") -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Import):
        yield from ((node, name.name) for name in node.names)
    elif isinstance(node, ast.ImportFrom) and (node.level == 0 or package):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield from ((node, f"{module}.{name.name}") for name in node.names)


def libraryFile(name: str) -> Path:
    """The file of the library that an import of this full name runs last."""
    path = LIBRARY.parent.joinpath(*name.split("."))
    for candidate in (path, path.parent):
        for file in (candidate / "__init__.py", candidate.with_suffix(".py")):
            if file.is_file():
                return file
    raise FileNotFoundError(f"{name} is not in {LIBRARY}")


@cache
def importsTorch(file: Path) -> bool:
    """Whether a file of the library imports PyTorch when it is imported, itself or through other files.

    What a package's `__getattr__` imports counts: a name that is no file of the package comes from there.
    """
    todo, seen = [file], set()
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        package = ".".join(file.parent.relative_to(LIBRARY.parent).parts)
        lazily = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"]
        names = [name for part in (tree, *lazily) for _, name in importsAtStart(part, package)]
        if any(isOf(name, {"torch"}) for name in names):
            return True
        todo += [libraryFile(name) for name in names if isOf(name, {LIBRARY.name})]
    return False


def isOf(name: str, packages: frozenset[str] | set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def assigned(file: File) -> Iterator[ast.expr]:
    for node in ast.walk(file.tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            yield from target.elts if isinstance(target, ast.Tuple) else [target]


def madeHere(file: File) -> dict[str, str]:
    """Name -> C++ class of what this file makes with `name = qt.Class(...)`."""
    made: dict[str, str] = {}
    for node in nodes(file, ast.Assign):
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for target in node.targets:
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            for one, value in zip(targets, values, strict=False):
                name = dotted(value.func) if isinstance(value, ast.Call) else ""
                if isCpp(name) and name.count(".") == 1:
                    made[dotted(one)] = name
    return made


@cache
def uiClasses(folder: Path) -> dict[str, str]:
    """Name -> C++ class of every widget in the .ui files of the module that this folder is in."""
    for above in (folder, *folder.parents):
        files = sorted((above / "Resources" / "UI").glob("*.ui"))
        widgets = [widget for file in files for widget in ElementTree.parse(file).iter("widget")]
        if widgets:
            return {widget.get("name", ""): _inModule(widget.get("class", "")) for widget in widgets}
    return {}


def _inModule(className: str) -> str:
    module = "ctk" if className.startswith("ctk") else "slicer" if className.startswith(("qMRML", "qSlicer")) else "qt"
    return f"{module}.{className}"


@cache
def isEnum(className: str, member: str) -> bool:
    from PySide6 import QtCore, QtGui, QtWidgets

    owners = [getattr(module, className, None) for module in (QtCore, QtGui, QtWidgets)]
    return any(isinstance(getattr(owner, member, None), enum.EnumMeta) for owner in owners if owner)


@cache
def propertiesOf(className: str) -> frozenset[str]:
    """Properties of one C++ class (`qt.QTimer`); of all of them for ""."""
    import ctk
    import qt
    import slicer

    modules = {"qt": qt, "ctk": ctk, "slicer": slicer}
    if className:
        module, _, name = className.partition(".")
        classes = [getattr(modules[module], name, None)]
    else:
        classes = [one for module in modules.values() for one in vars(module).values()]
    return frozenset({"name"}.union(*(getattr(one, "_properties", ()) for one in classes if isinstance(one, type))))
