"""The mutation tool finds what it mutates, chooses the tests that reach it, and counts honestly."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from findings import Finding, equivalents, report
from rooms import ROOMS, files_of_rooms, is_evaluated

ROOT = Path(__file__).parents[2]

LIBRARY = """from __future__ import annotations


def half(value: int | None = 4) -> float:
    return value / 2


def never_called(value):
    return value + 1
"""
TESTS = """from SpikeRegLib.room import half


def test_half():
    assert half(8) == 4
"""


def test_every_room_has_its_files():
    files = files_of_rooms(ROOT, ROOMS)
    assert set(files.values()) == set(ROOMS)
    assert all((ROOT / file).is_file() for file in files)


def test_every_equivalent_mutant_still_has_its_line():
    for file, was, _ in equivalents():
        lines = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        assert was in lines or was in " ".join(lines), f"{file}: {was}"


def test_equivalent_mutants_count_neither_as_caught_nor_as_missed():
    findings = [
        Finding("a.py", 1, "x = 1", "x = 2", "Testing/test_a.py::test_x", 3, 0.5),
        Finding("a.py", 2, "y = 1", "y = 2", "", 3, 0.5),
        Finding("a.py", 3, "z = 1", "z = 2", "", 3, 0.5),
    ]
    text = report(findings, {"a.py": "geometry"}, {("a.py", "z = 1", "z = 2"): "nobody reads z"}, "seed 1")
    assert "all             1 of    2 caught  50.0 %" in text and "equivalent      1" in text
    assert "survived a.py:2" in text and "equivalent a.py:3" in text and "nobody reads z" in text


@pytest.mark.parametrize(
    ("text", "place", "code"),
    [
        ("x: int | None = 4", "|", False),
        ("x: int | None = 4", "4", True),
        ("def f(a: int, *, b: float) -> None: ...", "*,", False),
        ("f(1, **more)", "**", False),
        ("y = {**more, 2: 3**4}", "**more", False),
        ("y = {**more, 2: 3**4}", "**4", True),
        ("y = a * b", "*", True),
        ("def f(a=2) -> tuple[int, ...]: return a", "2", True),
    ],
)
def test_what_is_no_code_is_not_mutated(text, place, code):
    assert is_evaluated(text, 1, text.index(place)) is code


def test_a_finding_names_the_changed_line_alone():
    finding = Finding.of("a.py", 5, LIBRARY, LIBRARY.replace("value / 2", "value * 2"), "", 1, 0.123)
    assert (finding.was, finding.becomes, finding.seconds) == ("return value / 2", "return value * 2", 0.1)


@pytest.fixture(scope="module")
def judge_all(tmp_path_factory):
    """Function: every mutant of a library of two functions, one of which no test calls, as the tool judges it."""
    pytest.importorskip("cosmic_ray", reason="the mutation tool runs where the extra `mutation` is installed")
    import mutants
    from reach import Reach, measure

    def run(tests, meanwhile=lambda tree: None, line=None):
        source, tree, store = (tmp_path_factory.mktemp(name) for name in ("source", "tree", "store"))
        files = {"SpikeRegLib/__init__.py": "", "SpikeRegLib/room.py": LIBRARY, "Testing/test_room.py": tests}
        for name, text in files.items():
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_text(text, encoding="utf-8")
        subprocess.run(["git", "init", "-q"], cwd=source, check=True)
        mutants.copy_tree(source, tree)
        measure(tree, "Testing/test_room.py", store)
        meanwhile(tree)
        drawn = mutants.draw(tree, ["SpikeRegLib/room.py"], seed=1, count=100)
        findings = [
            mutants.judge(tree, spec, Reach(store), 60.0) for _, spec in drawn if line in (None, spec.start_pos[0])
        ]
        assert (tree / "SpikeRegLib/room.py").read_text(encoding="utf-8") == LIBRARY
        return findings

    return run


@pytest.fixture(scope="module")
def judged(judge_all):
    return judge_all(TESTS)


@pytest.mark.slow
def test_a_mutant_is_caught_exactly_where_a_test_sees_it(judged):
    caught = {(finding.was, finding.becomes): bool(finding.by) for finding in judged}
    assert caught["return value / 2", "return value * 2"]
    assert caught["return value / 2", "return value / 3"]
    assert not caught["return value + 1", "return value - 1"]
    default = "def half(value: int | None = 4) -> float:"
    assert not caught[default, default.replace("4", "5")]


@pytest.mark.slow
def test_the_test_that_failed_is_named(judged):
    assert {finding.by for finding in judged if finding.by} == {"Testing/test_room.py::test_half"}


@pytest.mark.slow
def test_a_test_that_fails_without_a_mutant_catches_none(judge_all, capsys):
    """It was measured when it passed; then something else broke it."""
    broken = "\n\ndef test_broken():\n    assert half(8) == 4 and not (ROOT / 'broken').exists()\n"
    tests = f"from pathlib import Path\nROOT = Path(__file__).parent\n{TESTS}{broken}"
    findings = judge_all(tests, lambda tree: (tree / "Testing/broken").touch(), line=4)
    assert len(findings) > 1 and all(finding.tests and not finding.by for finding in findings)
    assert "test_broken fails without a mutant and is left out" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("text", ["import time; time.sleep(99)", "import os; os._exit(3)"])
def test_a_file_of_tests_without_a_result_is_named_and_left_out_and_the_others_go_on(tmp_path, capsys, text):
    pytest.importorskip("coverage", reason="the mutation tool runs where the extra `mutation` is installed")
    from reach import Reach, measure

    for name, content in {
        "SpikeRegLib/room.py": LIBRARY,
        "Testing/test_room.py": TESTS,
        "Testing/test_not.py": text,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "SpikeRegLib/__init__.py").touch()
    store = tmp_path / "store"
    store.mkdir()
    measure(tmp_path, "Testing/test_not.py", store, longest_s=4.0)
    measure(tmp_path, "Testing/test_room.py", store)
    assert "Testing/test_not.py gave no result in 4 s and is left out" in capsys.readouterr().out
    assert Reach(store).tests("SpikeRegLib/room.py", LIBRARY, 5, 60.0) == ["Testing/test_room.py::test_half"]
    measure(tmp_path, "Testing/test_not.py", store, longest_s=4.0)
    assert capsys.readouterr().out == ""  # it is not tried again until it changes


@pytest.mark.slow
def test_an_endless_test_counts_as_caught_and_what_was_given_passes(tmp_path):
    pytest.importorskip("cosmic_ray", reason="the mutation tool runs where the extra `mutation` is installed")
    from trial import failing

    (tmp_path / "Testing").mkdir()
    text = "import time\n\ndef test_a(): pass\ndef test_b():\n    while True: pass\ndef test_c(): time.sleep(60)\n"
    (tmp_path / "Testing" / "test_ends.py").write_text(text, encoding="utf-8")
    found = [failing(tmp_path, [f"Testing/test_ends.py::test_{name}"], 1.0) for name in "abc"]
    assert found == ["", "no end", "no end"]


def test_a_seed_draws_the_same_mutants_when_other_lines_change(tmp_path):
    pytest.importorskip("cosmic_ray", reason="the mutation tool runs where the extra `mutation` is installed")
    from mutants import draw

    names = []
    for text in (LIBRARY, LIBRARY.replace("\n\n\ndef never", "\n\n\nALSO = 3\n\n\ndef never")):
        (tmp_path / "room.py").write_text(text, encoding="utf-8")
        names.append({name for name, _ in draw(tmp_path, ["room.py"], seed=1, count=100)})
    assert names[0] < names[1]
    assert json.dumps(sorted(names[0])) != json.dumps(
        sorted(name for name, _ in draw(tmp_path, ["room.py"], seed=2, count=100))
    )
