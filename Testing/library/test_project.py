"""The project itself: what README, packaging and the integration script say about each other stays true."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from SpikeRegLib.cli import build_parser
from SpikeRegLib.commands import COMMANDS
from SpikeRegLib.presets.preset import preset_names, read_toml

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "SpikeRegLib"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = read_toml(ROOT / "pyproject.toml")


def code_lines(text: str) -> list[str]:
    """Lines inside the plain code blocks of a Markdown text."""
    return [line for block in re.findall(r"^```\n(.*?)^```$", text, re.S | re.M) for line in block.splitlines()]


def set_up_command(last_word: str) -> str:
    (command,) = [
        line for line in code_lines(README) if line.startswith("python3 -m venv") and line.endswith(last_word)
    ]
    return command


def test_the_integration_script_runs_the_test_command_of_the_readme_and_the_checks_before_the_tests():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = [line for line in script.splitlines() if line.startswith(("python", ".venv"))]
    checks = [".venv/bin/ruff check .", ".venv/bin/ruff format --check .", ".venv/bin/mypy"]
    *set_up, tests = set_up_command("loadfile").split(" && ")
    assert steps == [*set_up, *checks, tests]
    assert script.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_both_set_up_commands_pin_the_same_torch_first():
    for last_word in ("demo", "loadfile"):
        packages = shlex.split(set_up_command(last_word).split("pip install ")[1].split(" &&")[0])
        assert packages[0] == "torch==2.13.0"
        assert packages[1].startswith(".")


def test_every_command_line_of_the_readme_is_understood():
    lines = [line for line in code_lines(README) if line.startswith("spikereg ")]
    assert len(lines) >= 8
    for line in lines:
        arguments = shlex.split(line)[1:]
        options = build_parser(arguments).parse_args(arguments)
        assert options.command in COMMANDS


def test_the_readme_knows_every_preset():
    assert all(f"| `{name}`" in README for name in preset_names())


def test_every_package_is_found_and_every_data_file_is_packed():
    """A folder without __init__.py or a file no pattern names is missing after installation, without any error."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["SpikeRegLib"]
    for path in LIBRARY.rglob("*"):
        relative = path.relative_to(LIBRARY)
        if "__pycache__" in relative.parts or path.is_dir() or path.name == "CMakeLists.txt":  # Slicer's own list
            continue
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").is_file(), f"{relative.parent} is no package"
        else:
            assert any(fnmatch.fnmatch(relative.as_posix(), pattern) for pattern in patterns), (
                f"{relative} is not packed"
            )


def test_dependencies_and_extras():
    project = PROJECT["project"]
    assert set(project["optional-dependencies"]) >= {"formats", "train", "test"}
    assert {"slicer-core==5.12.4.0", "PySide6-Essentials==6.8.3"} <= set(project["optional-dependencies"]["test"])
    assert project["requires-python"] == ">=3.10" and project["license"] == "Apache-2.0"
    assert project["scripts"] == {"spikereg": "SpikeRegLib.cli:entry"}
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence


def imported_at_file_scope(path: Path) -> set[str]:
    """Top-level packages a module imports when it is loaded; what only a type checker sees does not count."""
    found: set[str] = set()

    def visit(statements: list[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Import):
                found.update(alias.name.split(".")[0] for alias in statement.names)
            elif isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
                found.add(statement.module.split(".")[0])
            elif isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.unparse(statement.test):
                visit(statement.body + statement.orelse)
            elif isinstance(statement, ast.Try):
                visit(statement.body + statement.orelse + statement.finalbody)

    visit(ast.parse(path.read_text(encoding="utf-8")).body)
    return found


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_library_modules_load_only_what_is_always_installed(path):
    """No Slicer, Qt or VTK ever; and nothing from an extra where the module is merely imported."""
    declared = {re.split(r"[<>=; ]", requirement)[0] for requirement in PROJECT["project"]["dependencies"]}
    always = declared | set(sys.stdlib_module_names) | {"SpikeRegLib"}
    assert imported_at_file_scope(path) - always == set()


def test_records_cannot_be_changed_once_they_are_made():
    """A frame, a transform or a finding is shared by many; only results, which are filled in turn, are open."""
    open_records = set()
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else []:
                text = ast.unparse(decorator)
                if text.startswith("dataclass") and "frozen=True" not in text:
                    open_records.add(node.name)
    assert open_records == {"Registration", "Group"}


def test_the_first_lines_a_newcomer_reads_import_nothing_heavy():
    light = "__init__ cli presets/preset errors system/interrupt outputs/folder progress models"
    for name in light.split():
        assert imported_at_file_scope(LIBRARY / f"{name}.py") & {"torch", "SimpleITK", "numpy"} == set(), name
