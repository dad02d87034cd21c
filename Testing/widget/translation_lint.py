"""Syntax-tree rules for what a person reads: every text goes through `_()`, and can be translated.

    python Testing/widget/translation_lint.py SpikeRegSlicer

Every rule is a function from a parsed file to the places that break it, registered in `RULES` under its name.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SHOWN_ATTRIBUTES = frozenset(
    ["text", "toolTip", "title", "placeholderText", "windowTitle", "helpText", "acknowledgementText"]
)
_calls = """
setText setToolTip setTitle setWindowTitle setPlaceholderText setStatusTip setLabelText addItem addItems insertItem
setHorizontalHeaderLabels setVerticalHeaderLabels setHeaderLabels appendPlainText showMessage showStatusMessage
SetTitle SetXAxisTitle SetYAxisTitle SetDescription SetColumnDescription SetName
_table _textTable section say tip plain coloured listed delayDisplay skipTest getOpenFileName getSaveFileName
errorDisplay warningDisplay infoDisplay messageBox confirmOkCancelDisplay confirmYesNoDisplay confirmRetryCloseDisplay
"""
SHOWN_CALLS = frozenset(_calls.split())
"""Functions whose texts a person reads."""
OF_PROGRAMMERS = frozenset({"ValueError", "IndexError", "TypeError", "TransitionError"})
"""Errors that no choice of a person causes."""
UNTRANSLATED = frozenset(
    {
        "SpikeReg",
        "good", "check", "poor",  # kinds of message, not their words
        "ImageScalars",  # the array of a volume's voxels
        "Fatal Python error",  # what Python writes
        "SpikeReg fixed", "SpikeReg moving", "SpikeReg fixed labels", "SpikeReg moving labels",  # names of the sample
        "TOML (*.toml)", "HTML (*.html)", "SpikeReg.html",  # kinds and names of files
        "both fixed and moving", "No moving volume", "No volume",  # what the self-test looks for
    }
)  # fmt: skip
_WORD = re.compile(r"[^\W\d_]{2,}")
_SENTENCE = re.compile(r"[^\W\d_]{2,}[,;:.)]? [^\W\d_(]")
_MARKUP = re.compile(r"<[^>]*>?|&\w+;|\{[^}]*\}")  # tags, also unfinished ones, entities, rules of style sheets
_STYLE_SHEET = re.compile(r"\{\s*[\w-]+:")

Rule = Callable[[ast.AST], Iterator[tuple[ast.AST, str]]]
RULES: dict[str, Rule] = {}


def _rule(function: Rule) -> Rule:
    RULES[function.__name__.replace("_", "-")] = function
    return function


def check(source: str, path: str | Path = "module.py") -> list[str]:
    """Every place of a source text that breaks a rule: "path:line: rule: text", in the order of lines."""
    tree = ast.parse(source, str(path))
    found = [(node.lineno, name, text) for name, rule in RULES.items() for node, text in rule(tree)]
    return [f"{path}:{line}: {name}: {text}" for line, name, text in sorted(found)]


def checkFolder(folder: Path) -> list[str]:
    """The rules over every Python file below a folder."""
    files = sorted(folder.rglob("*.py"))
    return [finding for path in files for finding in check(path.read_text(encoding="utf-8"), path)]


@_rule
def shown_as_it_is(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """A text with a word in it, given to something that shows it."""
    for node in ast.walk(tree):
        values: list[ast.AST] = []
        if isinstance(node, ast.Assign) and any(map(_isShown, node.targets)):
            values = [node.value]
        elif isinstance(node, ast.Call) and _nameOf(node) in SHOWN_CALLS:
            named = [word.value for word in node.keywords if word.arg in SHOWN_ATTRIBUTES]
            values = [*node.args, *named]
        elif isinstance(node, ast.Call):
            values = [word.value for word in node.keywords if word.arg in SHOWN_ATTRIBUTES]
        parts = [part for value in values for part in _parts(value)]
        for text, where in (pair for part in parts for pair in _texts(part)):
            if _WORD.search(text) and not _isExempt(text):
                yield where, f"{text!r} is shown; put it into _()"


@_rule
def sentence_outside(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Two words in a row, wherever they go from there; documentation and errors of programmers aside."""
    for text, where in _texts(tree):
        if _SENTENCE.search(text) and not _isExempt(text):
            yield where, f"{text!r} is a sentence; put it into _()"


@_rule
def no_plain_text(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """What `_()` is given is looked up as it stands in the source."""
    for call in _translations(tree):
        if not (len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)):
            yield call, '_() takes a plain text; write _("...{name}...").format(name=...)'


@_rule
def translated_too_early(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """While a file is imported no language may be loaded yet."""
    later = {id(node) for function in ast.walk(tree) if _isFunction(function) for node in ast.walk(function)}
    for call in _translations(tree):
        if id(call) not in later:
            yield call, "_() while the file is imported; call it where the text is shown"


def _isFunction(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _translations(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _nameOf(node) == "_"]


def _nameOf(call: ast.Call) -> str:
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def _isShown(target: ast.AST) -> bool:
    if isinstance(target, ast.Name):
        return target.id == "head"  # of a table
    return isinstance(target, ast.Attribute) and target.attr in SHOWN_ATTRIBUTES


def _isExempt(text: str) -> bool:
    return text in UNTRANSLATED


def _parts(node: ast.AST) -> list[ast.AST]:
    """The literals that a value can be, or begin or end with: not the keys by which it is looked up."""
    if isinstance(node, ast.IfExp):
        inner = [node.body, node.orelse]
    elif isinstance(node, ast.BinOp):
        inner = [node.left, node.right]
    elif isinstance(node, ast.BoolOp):
        inner = node.values
    elif isinstance(node, ast.List | ast.Tuple):
        inner = node.elts
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _nameOf(node) in ("format", "join"):
        inner = [node.func.value]
    else:
        return [node] if isinstance(node, ast.Constant | ast.JoinedStr) else []
    return [part for each in inner for part in _parts(each)]


def _texts(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The literals below a node that are not translated, without markup; those of an f-string as one, with "…"."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield "" if _STYLE_SHEET.search(node.value) else _MARKUP.sub(" ", node.value), node
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        yield _MARKUP.sub(" ", "".join(parts)), node
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _texts(part.value)
    elif not _isTranslated(node) and not _isOfProgrammers(node) and not _isDocumentation(node):
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def _isTranslated(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _nameOf(node) in ("_", "translate")


def _isOfProgrammers(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _nameOf(node.exc) in OF_PROGRAMMERS


def _isDocumentation(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def main() -> int:
    found = [finding for folder in sys.argv[1:] for finding in checkFolder(Path(folder))]
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
