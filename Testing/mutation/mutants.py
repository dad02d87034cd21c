"""How many small mistakes in the library do the tests catch? Run by hand or at night: CONTRIBUTING has the command.

Cosmic Ray makes the mistakes, one at a time and only in a copy of the working tree; a seed draws which. Each mutant is
given to the tests that reach its line, cheapest first, until one fails. What is known stays in the scratch folder, so
that an interrupted run goes on where it stopped, and a changed test is the only one that is measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_item import MutationSpec
from findings import Finding, equivalents, report
from reach import QUIET, Reach, file_of, measure
from rooms import ALWAYS, OPERATORS, ROOMS, files_of_rooms, is_evaluated
from trial import failing

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("Testing/library", "Testing/spiking", "Testing/neural_field", "Testing/pipeline", "Testing/training")
# A mutant may make a loop endless: it counts as caught once a test computes for so much longer than it took before.
PATIENCE = 5.0
PATIENCE_S = 20.0


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    tree, store, known = options.scratch / "tree", options.scratch / "reach", options.scratch / "findings"
    for folder in (store, known):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(QUIET)  # before torch is loaded
    copy_tree(ROOT, tree)
    for pattern in options.tests:
        for tests in _files_of_tests(tree, pattern):
            measure(tree, tests, store)
    reach = Reach(store)
    files = files_of_rooms(tree, options.rooms)
    findings = []
    for number, (identity, spec) in enumerate(draw(tree, list(files), options.seed, options.count), 1):
        kept = known / f"{identity}.json"
        finding = Finding.read(kept)
        if finding is None or (options.retry and not finding.by):
            finding = judge(tree, spec, reach, options.budget)
            finding.write(kept)
        findings.append(finding)
        print(f"{number}/{options.count} {finding.line()}", flush=True)
    print(report(findings, files, equivalents(), f"seed {options.seed}"))
    return 0


def copy_tree(root: Path, tree: Path) -> None:
    """Make `tree` a copy of the working tree at `root`: what git knows or would add, as it lies there."""
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():  # a deleted file stays listed until the deletion is committed
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)


def draw(tree: Path, files: list[str], seed: int, count: int) -> list[tuple[str, MutationSpec]]:
    """`count` random mutants of `files`, each with a name of its own.

    A mutant's rank follows from the seed and from its own line alone, so that a change elsewhere leaves the draw, and
    what is known of the others, as it was.
    """
    drawn: dict[str, MutationSpec] = {}
    alike: Counter[str] = Counter()
    for file in files:
        source = (tree / file).read_text(encoding="utf-8")
        for spec in sorted(_mutants(tree / file), key=lambda spec: (spec.start_pos, spec.operator_name)):
            if is_evaluated(source, *spec.start_pos):
                key = f"{file}\n{source.splitlines()[spec.start_pos[0] - 1].strip()}\n{spec.operator_name}"
                alike[key] += 1
                drawn[hashlib.sha256(f"{seed}\n{key}\n{alike[key]}".encode()).hexdigest()[:16]] = spec
    return sorted(drawn.items(), key=lambda item: item[0])[:count]


def _mutants(path: Path) -> Iterator[MutationSpec]:
    nodes = list(ast_nodes(get_ast_from_path(path)))
    for name in filter(OPERATORS.fullmatch, operator_names()):
        places = [place for node in nodes for place in get_operator(name)().mutation_positions(node)]
        for occurrence, (start, end) in enumerate(places):
            yield MutationSpec(path, name, occurrence, start, end)


def judge(tree: Path, spec: MutationSpec, reach: Reach, budget_s: float) -> Finding:
    """Run the tests that reach the mutant until one fails that passes without it."""
    file, line = spec.module_path.relative_to(tree).as_posix(), spec.start_pos[0]
    operator = get_operator(spec.operator_name)()
    began, broken = time.monotonic(), set[str]()
    while True:
        with use_mutation(spec.module_path, operator, spec.occurrence) as (was, becomes):
            always = [test for test in ALWAYS if (tree / file_of(test)).is_file()]
            tests = [test for test in (*always, *reach.tests(file, was, line, budget_s)) if test not in broken]
            by = failing(tree, tests, _patience_s(reach, tests)) if tests else ""
        # A test may have broken since it was measured: then it says nothing of the mutant.
        named = [test for test in tests if by in (test, file_of(test))]  # a file, where it cannot be loaded
        if not named or _passes(tree, named[0], reach):
            return Finding.of(file, line, was, becomes, by, len(tests), time.monotonic() - began)
        print(f"{by} fails without a mutant and is left out", flush=True)
        broken.update(named)


@cache
def _passes(tree: Path, test: str, reach: Reach) -> bool:
    """Whether the test passes on the tree as it is, without a mutant."""
    return not failing(tree, [test], _patience_s(reach, [test]))


def _patience_s(reach: Reach, tests: list[str]) -> float:
    return PATIENCE_S + PATIENCE * reach.longest(tests)


def _files_of_tests(tree: Path, pattern: str) -> list[str]:
    place = tree / pattern
    paths = sorted(place.glob("test_*.py")) if place.is_dir() else [place]
    return [path.relative_to(tree).as_posix() for path in paths]


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1, help="which mutants are drawn (default 1)")
    parser.add_argument("--count", type=int, default=100, help="how many (default 100)")
    rooms = list(ROOMS)
    parser.add_argument("--rooms", nargs="+", choices=rooms, default=rooms, metavar="ROOM", help=", ".join(rooms))
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="files or folders of tests to use")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of tests for one mutant (default 120)")
    parser.add_argument("--retry", action="store_true", help="try the survivors again, after a test was added")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir()) / "spikereg-mutants",
        help="folder for the copy of the tree and all that is known (default: %(default)s)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
