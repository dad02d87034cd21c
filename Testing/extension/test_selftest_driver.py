"""The driver of the self-test in Slicer tells a pass from a failure, a skip and a test that is not there."""

from __future__ import annotations

import io
import runpy
import sys
import types
from pathlib import Path

import pytest

DRIVER = runpy.run_path(str(Path(__file__).resolve().parents[1] / "selftest_in_slicer.py"), run_name="driver")


CASES = """
import unittest
class Passes(unittest.TestCase):
    def runTest(self): self.assertEqual(1, 1)
class Fails(unittest.TestCase):
    def runTest(self): self.assertEqual(1, 2)
class Raises(Passes):
    def setUp(self): raise OSError("no scene")
class Skips(unittest.TestCase):
    def runTest(self): self.skipTest("PyTorch is missing")
class Empty(unittest.TestCase):
    pass
"""


@pytest.fixture
def module(monkeypatch, tmp_path) -> str:
    (tmp_path / "module_of_the_driver.py").write_text(CASES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "module_of_the_driver", raising=False)
    return "module_of_the_driver"


@pytest.mark.parametrize(
    ("test", "status"), [("Passes", 0), ("Fails", 1), ("Raises", 1), ("Skips", 2), ("Empty", 1), ("Missing", 1)]
)
def test_exit_status(module, test, status):
    assert DRIVER["run_tests"](module, test, io.StringIO()) == status


def test_a_skip_is_said_with_its_reason(module):
    stream = io.StringIO()
    DRIVER["run_tests"](module, "Skips", stream)
    assert "PyTorch is missing" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize(("test", "status"), [("Passes", 0), ("Fails", 1)])
def test_slicer_ends_with_the_status(module, test, status, monkeypatch, capsys):
    """`slicer.util.exit` and `selectModule` are the application's; everything between them is the driver's."""
    called = []
    slicer = types.ModuleType("slicer")
    slicer.util = types.SimpleNamespace(
        selectModule=lambda name: called.append(("select", name)), exit=lambda status: called.append(("exit", status))
    )
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    main = DRIVER["main"]
    monkeypatch.setitem(main.__globals__, "MODULE", module)
    monkeypatch.setitem(main.__globals__, "TEST", test)
    main()
    assert called == [("select", module), ("exit", status)]
    assert ("passed" if status == 0 else "FAILED") in capsys.readouterr().out


def test_a_module_that_does_not_load_is_a_failure(monkeypatch, capsys):
    def select(name):
        raise RuntimeError(f"no module {name}")

    called = []
    slicer = types.ModuleType("slicer")
    slicer.util = types.SimpleNamespace(selectModule=select, exit=called.append)
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    DRIVER["main"]()
    assert called == [1] and "no module SpikeRegSlicer" in capsys.readouterr().err
