"""Syntax-tree rules for code that runs under PythonQt: what the desktop application refuses and the host lets pass.

    python Testing/widget/pythonqt_lint.py SpikeRegSlicer

Every rule is a function from a parsed file to the places that break it, registered in `RULES` under its name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pythonqt_lifetime import lettingGo
from pythonqt_syntax import (
    LIBRARY,
    QT_MODULES,
    File,
    assigned,
    dotted,
    imports,
    importsAtStart,
    importsTorch,
    isCpp,
    isEnum,
    isOf,
    libraryFile,
    madeHere,
    nodes,
    propertiesOf,
    uiClasses,
)

_heavy = """
SimpleITK sitkUtils torch torchvision monai snntorch safetensors scipy skimage sklearn pandas matplotlib nibabel
numba PyTorchUtils pip setuptools pkg_resources slicer.packaging packaging requests
"""
HEAVY = frozenset(_heavy.split())
"""Packages that may be absent, slow to import, or change the installation: imported where they are used."""
OTHER_BINDINGS = frozenset({"PySide6", "PySide2", "PyQt5", "PyQt6", "shiboken6", "qtpy", "PythonQt"})
_properties = """
text checked checkable value currentIndex currentText enabled visible toolTip minimum maximum plainText
windowTitle objectName currentPath collapsed decimals singleStep placeholderText currentRow rowCount columnCount
readOnly suffix prefix directory noneEnabled nodeTypes currentNodeID interval geometry icon
"""
PROPERTIES = frozenset(_properties.split())
"""Properties whose names no Python object's method without arguments shares."""
ITEM_METHODS = frozenset({"item", "currentItem", "takeItem", "topLevelItem", "horizontalHeaderItem", "action"})
"""Items of lists and tables are no QObjects: their `text()` is a method."""


@dataclass(frozen=True)
class Finding:
    path: Path
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


Rule = Callable[[File], Iterator[tuple[ast.AST, str]]]
RULES: dict[str, Rule] = {}


def _rule(function: Rule) -> Rule:
    RULES[function.__name__.replace("_", "-")] = function
    return function


def check(source: str, path: str | Path = "module.py") -> list[Finding]:
    """Every place of a source text that breaks a rule, in the order of lines."""
    file = File(Path(path), ast.parse(source, str(path)))
    found = [
        Finding(file.path, getattr(node, "lineno", 1), name, text)
        for name, rule in RULES.items()
        for node, text in rule(file)
    ]
    return sorted(found, key=lambda finding: finding.line)


def checkFolder(folder: Path) -> list[Finding]:
    """The rules over every Python file below a module's folder, and over what lies directly in it."""
    files = sorted(folder.rglob("*.py"))
    found = [finding for path in files for finding in check(path.read_text(encoding="utf-8"), path)]
    beside = [path for path in folder.glob("*.py") if path.stem != folder.name]
    return found + [
        Finding(path, 1, "beside-the-module", "Slicer takes it for a module of its own; put it into a sub-package")
        for path in beside
    ]


# --- calls -----------------------------------------------------------------------------------------------------------


@_rule
def keywords(file: File) -> Iterator[tuple[ast.AST, str]]:
    """Neither constructors nor functions of C++ classes take keywords."""
    for call in nodes(file, ast.Call):
        name = dotted(call.func)
        if call.keywords and isCpp(name):
            yield call, f"{name}(...) takes no keyword arguments; call setters"


@_rule
def called_property(file: File) -> Iterator[tuple[ast.AST, str]]:
    own = {node.name for node in nodes(file, ast.FunctionDef)}
    for call in nodes(file, ast.Call):
        function = call.func
        isPlainCall = isinstance(function, ast.Attribute) and not call.args and not call.keywords
        if isPlainCall and function.attr in PROPERTIES - own and not _isItem(function.value):
            yield call, f"{function.attr} is a property: write .{function.attr} without parentheses"


@_rule
def exec_without_underscore(file: File) -> Iterator[tuple[ast.AST, str]]:
    for call in nodes(file, ast.Call):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "exec":
            yield call, "PythonQt spells it exec_"


@_rule
def isinstance_of_a_qt_class(file: File) -> Iterator[tuple[ast.AST, str]]:
    for call in nodes(file, ast.Call):
        if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass") and len(call.args) == 2:
            classes = call.args[1].elts if isinstance(call.args[1], ast.Tuple) else [call.args[1]]
            for name in filter(isCpp, map(dotted, classes)):
                yield (
                    call,
                    f"{name} is not always a base of its subclasses' wrappers; ask className() or isWidgetType()",
                )


@_rule
def signal_without_signature(file: File) -> Iterator[tuple[ast.AST, str]]:
    for call in nodes(file, ast.Call):
        isConnect = isinstance(call.func, ast.Attribute) and call.func.attr in ("connect", "disconnect")
        signal = call.args[0] if isConnect and len(call.args) == 2 else None
        if isinstance(signal, ast.Constant) and isinstance(signal.value, str) and "(" not in signal.value:
            yield call, f'"{signal.value}" needs its signature, such as "{signal.value}()"'


@_rule
def let_go_in_a_signal(file: File) -> Iterator[tuple[ast.AST, str]]:
    yield from lettingGo(file)


# --- names and attributes --------------------------------------------------------------------------------------------


@_rule
def long_enum(file: File) -> Iterator[tuple[ast.AST, str]]:
    for node in nodes(file, ast.Attribute):
        parts = dotted(node).split(".")
        if len(parts) == 4 and parts[0] == "qt" and isEnum(*parts[1:3]):
            yield node, f"{'.'.join(parts)}: PythonQt knows qt.{parts[1]}.{parts[3]}"


@_rule
def new_attribute_of_a_widget(file: File) -> Iterator[tuple[ast.AST, str]]:
    """On what was made by a C++ constructor in the same file, and on children of `ui`."""
    made, inUi = madeHere(file), uiClasses(file.path.parent)
    for target in assigned(file):
        if not isinstance(target, ast.Attribute):
            continue
        owner = dotted(target.value)
        className = made.get(owner) or (inUi.get(owner.rpartition(".")[2], "") if _isOfUi(owner) else None)
        if className is not None and target.attr not in propertiesOf(className):
            yield (
                target,
                f"{owner} is a C++ object ({className or 'of the .ui file'}): it has no '{target.attr}' to set",
            )


@_rule
def unknown_ui_name(file: File) -> Iterator[tuple[ast.AST, str]]:
    known = uiClasses(file.path.parent)
    for node in nodes(file, ast.Attribute) if known else []:
        if _isOfUi(dotted(node)) and node.attr not in known:
            yield node, f"no widget of the .ui file is named {node.attr}"


def _isOfUi(name: str) -> bool:
    return name.rpartition(".")[0].split(".")[-1] == "ui"


# --- imports ---------------------------------------------------------------------------------------------------------


@_rule
def star_import(file: File) -> Iterator[tuple[ast.AST, str]]:
    for node in nodes(file, ast.ImportFrom):
        if any(name.name == "*" for name in node.names) and node.module != "slicer.ScriptedLoadableModule":
            yield node, f"from {node.module} import *: import the module"


@_rule
def other_binding(file: File) -> Iterator[tuple[ast.AST, str]]:
    for node, name in imports(file.tree):
        if isOf(name, OTHER_BINDINGS):
            yield node, f"{name} is not in Slicer: import qt"


@_rule
def heavy_import(file: File) -> Iterator[tuple[ast.AST, str]]:
    for node, name in importsAtStart(file.tree):
        if isOf(name, HEAVY):
            yield node, f"{name} at module level: import it in the function that needs it"


@_rule
def torch_import(file: File) -> Iterator[tuple[ast.AST, str]]:
    """Nothing in Slicer's process imports PyTorch, at whatever time."""
    for node, name in imports(file.tree):
        if isOf(name, {"torch"}) or (isOf(name, {LIBRARY.name}) and importsTorch(libraryFile(name))):
            yield node, f"{name} imports PyTorch into Slicer's process; run it in the worker"


@_rule
def simpleitk_import(file: File) -> Iterator[tuple[ast.AST, str]]:
    for node, name in imports(file.tree):
        if file.hasNoQt and isOf(name, {"SimpleITK", "sitkUtils"}):
            yield node, f"{name} in {file.folder}/: use the MRML nodes and VTK"


@_rule
def qt_import(file: File) -> Iterator[tuple[ast.AST, str]]:
    for node, name in imports(file.tree):
        if file.hasNoQt and isOf(name, QT_MODULES):
            yield node, f"{name} in {file.folder}/: it has to work without widgets"


@_rule
def upward_import(file: File) -> Iterator[tuple[ast.AST, str]]:
    """Imports go from widgets to logic to scene and display."""
    above = {f"SpikeRegSlicerLib.{name}" for name in ("widgets", "logic", "process", "registration", "jobs")}
    above.add("SpikeRegSlicer")
    for node, name in imports(file.tree):
        if file.hasNoQt and isOf(name, above):
            yield node, f"{name} lies above {file.folder}/"


def _isItem(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ITEM_METHODS
    return "item" in dotted(node).rpartition(".")[2].lower()


def main() -> int:
    import host

    host.start()
    found = [finding for folder in sys.argv[1:] for finding in checkFolder(Path(folder))]
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "scene"))
    sys.exit(main())
