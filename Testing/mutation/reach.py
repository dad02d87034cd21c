"""Which tests reach a line of the library, measured under coverage, one file of tests after the other."""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import coverage
from measured import SETUP

# A file of tests that takes longer than this under coverage is left out, and named: the others go on without it.
LONGEST_S = 900.0
# One core and no waiting in circles: a mutation run is a guest on its machine.
QUIET = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def measure(root: Path, tests: str, store: Path, longest_s: float = LONGEST_S) -> None:
    """Run the file `tests` of the tree at `root` and keep in `store` what it reaches; nothing to do if that is known.

    Tests marked `slow` are left out, and a file that takes longer than `longest_s`. The library may have changed since:
    `Reach` finds the lines again.
    """
    kept = store / (tests.replace("/", ".") + ".json")
    stamp = _digest(root / tests)
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8"))["stamp"] == stamp:
        return
    with tempfile.TemporaryDirectory() as folder:
        data, seconds, options = (Path(folder) / name for name in ("coverage", "seconds.json", "options"))
        options.write_text(
            f"[run]\nsource = SpikeRegLib\nrelative_files = true\ndata_file = {data}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={options}", "-m", "pytest", "-p", "measured"]
        command += ["-q", "-p", "no:cacheprovider", "-m", "not slow", tests]
        try:
            subprocess.run(
                command,
                cwd=root,
                env=environment(root, SPIKEREG_MEASURED=str(seconds)),
                timeout=longest_s,
                check=False,
            )
            passed = json.loads(seconds.read_text(encoding="utf-8"))
        except (subprocess.TimeoutExpired, FileNotFoundError):  # too slow, or pytest did not come to its end
            print(f"{tests} gave no result in {longest_s:.0f} s and is left out until it changes", flush=True)
            passed = {}
        found = coverage.CoverageData(basename=str(data))
        found.read()
        lines = {file: _tests_of_lines(found, file) for file in sorted(found.measured_files())} if passed else {}
        what = {"stamp": stamp, "seconds": passed, "lines": lines}
    what["sources"] = {file: _keep_source(root / file, store) for file in lines}
    kept.write_text(json.dumps(what), encoding="utf-8")


def environment(root: Path, **more: str) -> dict[str, str]:
    """The variables a run of tests needs to take the library, and the plugin, from the tree at `root`."""
    path = os.pathsep.join((str(root), str(Path(__file__).parent)))
    return {**os.environ, **QUIET, "PYTHONPATH": path, **more}


class Reach:
    """The tests that reach a line, from everything that `measure` kept in `store`."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._measured = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob("*.json"))]
        self._seconds: dict[str, float] = {}
        self._of_file: dict[str, set[str]] = defaultdict(set)
        for measured in self._measured:
            self._seconds.update(measured["seconds"])
        for test in self._seconds:
            self._of_file[file_of(test)].add(test)

    def tests(self, file: str, source: str, line: int, budget_s: float) -> list[str]:
        """Tests that run `line` of `file`, whose text is `source`: no more than `budget_s` of them, by measured time.

        For a line that runs at import: tests that run any line of the file. The cheapest tests are taken; of those,
        the cheapest files come first, and inside each the cheapest test.
        """
        reached: set[str] = set()
        for measured in self._measured:
            lines = measured["lines"].get(file, {})
            before = self._source(measured, file)
            then = _line_then(before, source, line)
            if _in_function(before, then):
                for number in _statement(before, then):
                    reached.update(lines.get(str(number), ()))
            else:
                reached.update(*lines.values())
        groups: dict[str, list[str]] = defaultdict(list)
        left = budget_s
        for test in sorted(self._named(reached), key=lambda test: (self._seconds[test], test)):
            left -= self._seconds[test]
            if left >= 0:
                groups[file_of(test)].append(test)
        return list(chain.from_iterable(sorted(groups.values(), key=self._together)))

    def longest(self, tests: list[str]) -> float:
        """Seconds that the dearest of `tests` took when it was measured; nothing for one that was not."""
        return max((self._seconds.get(test, 0.0) for test in tests), default=0.0)

    def _source(self, measured: dict[str, Any], file: str) -> str:
        digest = measured["sources"].get(file)
        return (self._store / digest).read_text(encoding="utf-8") if digest else ""

    def _together(self, tests: list[str]) -> float:
        return sum(self._seconds[test] for test in tests)

    def _named(self, contexts: set[str]) -> set[str]:
        """Passing tests among `contexts`; what one test's setup reached may serve every test of its file."""
        named = {test for test in contexts if test in self._seconds}
        for context in contexts:
            if context.startswith(SETUP):
                named |= self._of_file[file_of(context.removeprefix(SETUP))]
        return named


def file_of(test: str) -> str:
    return test.split("::", 1)[0]


def _tests_of_lines(found: coverage.CoverageData, file: str) -> dict[str, list[str]]:
    """Line -> what ran it; a line that only importing the file ran has nobody."""
    return {str(line): sorted(set(tests) - {""}) for line, tests in found.contexts_by_lineno(file).items()}


def _keep_source(path: Path, store: Path) -> str:
    digest = _digest(path)
    (store / digest).write_bytes(path.read_bytes())
    return digest


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _line_then(before: str, now: str, line: int) -> int:
    """The line of `before` that `line` of `now` was; of a new line, the last one above it that was there."""
    if before == now:
        return line
    matcher = difflib.SequenceMatcher(None, before.splitlines(), now.splitlines(), autojunk=False)
    then = 1
    for block in matcher.get_matching_blocks():
        if block.b < line and block.size:
            then = block.a + min(line - block.b, block.size)
    return then


@cache
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def _in_function(source: str, line: int) -> bool:
    """Whether a call runs the line; else importing the file does: constants, defaults, classes."""
    return any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body[0].lineno <= line <= (node.end_lineno or node.lineno)
        for node in ast.walk(_tree(source))
    )


def _statement(source: str, line: int) -> range:
    """Lines of the innermost statement around `line`, of a compound one those of its head; not each is reported."""
    lines = range(line, line + 1)
    for node in ast.walk(_tree(source)):  # breadth first: the innermost comes last
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            lines = range(node.lineno, max(end, line) + 1)
    return lines
