"""The API reference: the command of CONTRIBUTING makes it without a warning, with a text for every public name."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import SpikeRegLib

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The page of the public names."""
    if importlib.util.find_spec("pdoc") is None:
        pytest.skip("API REFERENCE NOT CHECKED: pdoc is missing; pip install -e '.[docs]'")
    (line,) = re.findall(r"^.*-m pdoc .*$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    arguments = shlex.split(line.split(" -m pdoc ")[1])
    site = tmp_path_factory.mktemp("site")
    arguments[arguments.index("--output-directory") + 1] = str(site)
    command = [sys.executable, "-m", "pdoc", *arguments]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0 and made.stderr == "", made.stderr
    return (site / "SpikeRegLib.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in SpikeRegLib.__all__ if name != "__version__"])
def test_every_public_name_has_its_text(page, name):
    (entry,) = re.findall(rf'<section id="{name}">(.*?)</section>', page, re.S)
    assert 'class="docstring"' in entry
