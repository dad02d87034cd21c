"""Settings read from YAML: the part of YAML 1.2 that settings need, and nothing that two readers take differently.

Slicer's Python has no YAML reader, and settings are tables, lists, numbers, words and Booleans. Those are read here the
way YAML 1.2 says (1e-4 is a number), in block or flow style. Everything else is refused with its line: anchors, tags,
texts of several lines, several documents, keys that come twice, and the words and numbers that older readers take for
something else (yes, off, 012, 1_000, 12:30).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_DEEPEST = 32
_KEY = re.compile(r"""(?P<key>[A-Za-z_][\w.-]*|"[^"\\]*"|'[^']*')\s*:(?:\s+(?P<value>.*))?$""")
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)$")
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$")
_WORDS = {"true": True, "false": False, "null": None, "~": None}
_AMBIGUOUS = re.compile(r"(yes|no|on|off|y|n)$|[-+]?(0\d|0[xob]|\d[\d_]*_|\d+:\d|\.(inf|nan)$)", re.IGNORECASE)


class YamlError(ValueError):
    """Text that is no YAML, or beyond what is read here; the message names the line."""


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    text: str


def read_yaml_text(text: str) -> Any:
    """The value of a YAML document: tables as dictionaries, lists, strings, integers, floats, Booleans, None.

    Raises:
        YamlError: see above.
    """
    lines: list[_Line] = []
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        content = _without_comment(raw).rstrip()
        if not content or (content == "---" and not lines):
            continue
        if content in ("---", "...") or content.startswith("%"):
            raise YamlError(f"line {number}: only one document without directives is read")
        stripped = content.lstrip(" ")
        if stripped.startswith("\t"):
            raise YamlError(f"line {number}: a tab at its start; indent with spaces")
        lines.append(_Line(number, len(content) - len(stripped), stripped))
    if not lines:
        return {}
    reader = _Reader(lines)
    value = reader.block(lines[0].indent, 0)
    if reader.place < len(lines):
        raise YamlError(f"line {lines[reader.place].number}: its indentation fits nothing above")
    return value


def _without_comment(line: str) -> str:
    quote, before, escaped = "", " ", False
    for place, character in enumerate(line):
        if quote:
            closes = character == quote and not escaped
            escaped = quote == '"' and character == "\\" and not escaped
            quote = "" if closes else quote
        elif character in "\"'" and (before in " [{,:-" and _opens(line[:place])):
            quote = character
        elif character == "#" and before in " \t":
            return line[:place]
        before = character
    return line


def _opens(before: str) -> bool:
    """Whether a quote after this text begins a quoted one: an apostrophe inside words does not."""
    return before.strip() == "" or before.rstrip()[-1] in "[{,:-"


class _Reader:
    def __init__(self, lines: list[_Line]) -> None:
        self.lines, self.place = lines, 0

    def _next(self) -> _Line | None:
        return self.lines[self.place] if self.place < len(self.lines) else None

    def block(self, indent: int, depth: int) -> Any:
        """The table, list or single value whose lines stand at `indent`."""
        first = self.lines[self.place]
        if depth > _DEEPEST:
            raise YamlError(f"line {first.number}: nested more than {_DEEPEST} deep")
        if _is_item(first.text):
            return self._list(indent, depth)
        if _KEY.match(first.text):
            return self._table(indent, depth)
        self.place += 1
        return _Inline(first).whole()

    def _list(self, indent: int, depth: int) -> list[Any]:
        items = []
        while (line := self._next()) is not None and line.indent == indent and _is_item(line.text):
            rest = line.text[1:].lstrip(" ")
            if not rest:
                self.place += 1
                items.append(self._nested(indent + 1, depth))
            else:  # what stands behind the dash is a block of its own, further to the right
                inner = indent + len(line.text) - len(rest)
                self.lines[self.place] = _Line(line.number, inner, rest)
                items.append(self.block(inner, depth + 1))
        self._no_deeper(indent)
        return items

    def _table(self, indent: int, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        while (line := self._next()) is not None and line.indent == indent and not _is_item(line.text):
            match = _KEY.match(line.text)
            if match is None:
                raise YamlError(f"line {line.number}: needs `key: value`, got {line.text!r}")
            key, rest = match["key"].strip("\"'"), match["value"]
            if key in table:
                raise YamlError(f"line {line.number}: {key} comes twice")
            self.place += 1
            if rest:
                table[key] = _Inline(_Line(line.number, 0, rest)).whole()
            elif (following := self._next()) is not None and following.indent == indent and _is_item(following.text):
                table[key] = self._list(indent, depth + 1)
            else:
                table[key] = self._nested(indent + 1, depth)
        self._no_deeper(indent)
        return table

    def _nested(self, least: int, depth: int) -> Any:
        line = self._next()
        return None if line is None or line.indent < least else self.block(line.indent, depth + 1)

    def _no_deeper(self, indent: int) -> None:
        line = self._next()
        if line is not None and line.indent > indent:
            raise YamlError(f"line {line.number}: its indentation fits nothing above, or it belongs to a longer text")


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


class _Inline:
    """A value on one line: a list in brackets, a table in braces, or a scalar."""

    def __init__(self, line: _Line) -> None:
        self.text, self.number, self.place = line.text, line.number, 0

    def whole(self) -> Any:
        value = self._value("", 0)
        self._skip()
        if self.place < len(self.text):
            raise YamlError(f"line {self.number}: {self.text[self.place :]!r} is left over")
        return value

    def _skip(self) -> None:
        while self.text[self.place : self.place + 1] == " ":
            self.place += 1

    def _value(self, ends: str, depth: int) -> Any:
        """The value that begins here; a plain one ends before one of the characters `ends`."""
        self._skip()
        first = self.text[self.place : self.place + 1]
        if depth > _DEEPEST:
            raise YamlError(f"line {self.number}: nested more than {_DEEPEST} deep")
        if first == "[":
            return self._sequence(depth)
        if first == "{":
            return self._mapping(depth)
        if first in ("'", '"') and first:
            return self._quoted(first)
        begin = self.place
        while self.place < len(self.text) and self.text[self.place] not in ends:
            self.place += 1
        return _scalar(self.text[begin : self.place].strip(), self.number)

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.place += 1
        while not self._closed("]"):
            items.append(self._value(",]", depth + 1))
            self._comma("]")
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        self.place += 1
        while not self._closed("}"):
            key = self._value(":,}", depth + 1)
            self._skip()
            if not isinstance(key, str) or self.text[self.place : self.place + 2] != ": " or key in table:
                raise YamlError(f"line {self.number}: needs {{key: value}} with every key once")
            self.place += 1
            table[key] = self._value(",}", depth + 1)
            self._comma("}")
        return table

    def _closed(self, end: str) -> bool:
        self._skip()
        if self.text[self.place : self.place + 1] == end:
            self.place += 1
            return True
        if self.place >= len(self.text):
            raise YamlError(f"line {self.number}: {end} is missing; write the list or table on one line")
        return False

    def _comma(self, end: str) -> None:
        self._skip()
        here = self.text[self.place : self.place + 1]
        if here == ",":
            self.place += 1
        elif here != end:
            raise YamlError(f"line {self.number}: a comma or {end} is missing; write the list or table on one line")

    def _quoted(self, quote: str) -> str:
        pattern = r'"(?:[^"\\]|\\.)*"' if quote == '"' else r"'(?:[^']|'')*'"
        match = re.compile(pattern).match(self.text, self.place)
        if match is None:
            raise YamlError(f"line {self.number}: the text in quotes does not end on its line")
        self.place = match.end()
        if quote == "'":
            return match[0][1:-1].replace("''", "'")
        try:
            return json.loads(match[0])
        except ValueError as error:
            raise YamlError(f"line {self.number}: unknown escape in {match[0]}") from error


def _scalar(text: str, number: int) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text) and len(text) < 20:
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if not text or text[0] in "&*!|>%@`#?\"'[]{}," or _AMBIGUOUS.match(text) or text.lower() in _WORDS:
        raise YamlError(f"line {number}: {text!r} is not read; put a text in quotes, write numbers plainly")
    if ": " in text or text.endswith(":") or "\t" in text:
        raise YamlError(f"line {number}: {text!r} holds a colon; put a text in quotes")
    return text
