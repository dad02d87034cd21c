"""The list of benchmark scripts: every one is there, with options it has and markers that something fills."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))

import tables
from scripts_table import SCRIPTS, cpu_seconds

BENCHMARKS = Path(tables.__file__).parent
TEXT = (BENCHMARKS / "README.md").read_text(encoding="utf-8")


def source(name: str) -> str:
    return (BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")


def test_every_script_with_a_main_is_listed():
    runnable = {path.stem for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in source(path.stem)}
    assert runnable == SCRIPTS.keys()
    assert all(f"`python Benchmarks/{name}.py" in TEXT for name in runnable)


def test_every_table_names_the_script_that_fills_it():
    filled = {marker for script in SCRIPTS.values() for marker in script.fills}
    assert filled == tables.FILLERS.keys() - {"scripts"}
    for script in SCRIPTS.values():
        for marker in script.fills:
            assert set(tables.FILLERS[marker][1]) & set(script.results), marker


@pytest.mark.parametrize("name", SCRIPTS)
def test_listed_options_are_options_of_the_script(name):
    known = source(name) + source("evaluation")
    assert all(f'"{option}"' in known for one in SCRIPTS[name].arguments for option in re.findall(r"--[\w-]+", one))


@pytest.mark.parametrize("name", SCRIPTS)
def test_result_files_are_named_in_the_script_or_its_command(name):
    said = source(name) + " ".join(SCRIPTS[name].arguments)
    assert all(f"{result}.json" in said for result in SCRIPTS[name].results)


def test_result_files_all_belong_to_a_script():
    written = {result for script in SCRIPTS.values() for result in script.results}
    assert {path.stem for path in (BENCHMARKS / "results").glob("*.json")} <= written


def test_cpu_seconds_are_summed_once_and_only_where_they_are_numbers():
    rows = [{"cpu_s": 2.0, "stages": {"cpu_s": {"align": 9.0}}}, {"cpu_s": None, "parts": [{"cpu_s": 0.5}]}]
    assert cpu_seconds({"rows": rows}) == 2.5
