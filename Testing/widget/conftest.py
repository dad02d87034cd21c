"""The host that stands in for Slicer's application, for the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core (pip install -e .[test])")
pytest.importorskip("PySide6", reason="needs PySide6 (pip install -e .[test])")
sys.path.insert(0, str(Path(__file__).parents[1] / "scene"))
sys.path.insert(0, str(Path(__file__).parent))

import host
import slicer
import slicer_scene
from host import dialogs, services, signals

host.start()  # before the tests are imported, which import qt, ctk and Slicer's Python modules


@pytest.fixture
def application(monkeypatch):
    """`slicer.app`; an error in a slot, an observer or a timer, which Slicer would only print, fails the test."""
    dialogs.reset()
    signals.errors.clear()
    services.installRequests.clear()
    monkeypatch.setattr(sys, "excepthook", signals.keep)
    yield slicer.app
    slicer.app.setTesting(False)
    raised, signals.errors[:] = list(signals.errors), []
    if raised:
        pytest.fail(f"a slot or an observer raised {raised[0]!r}")


@pytest.fixture
def scene(application):
    """The application's scene, empty; what a test leaves in it is gone before the next one."""
    yield slicer_scene.emptyScene()
    slicer_scene.emptyScene()


@pytest.fixture(scope="module")
def opened():
    """A panel that stays open while scenes come and go."""
    import module_tools

    made = module_tools.openPanel()
    yield made
    host.closeModule(made)


@pytest.fixture
def pairChosen(opened, scene):
    """The panel with two volumes chosen."""
    import module_tools

    slicer.app.processEvents()
    fixed = slicer_scene.makeVolume(slicer_scene.blobs(), name="Fixed")
    moving = slicer_scene.makeVolume(slicer_scene.blobs(seed=1), name="Moving")
    module_tools.choosePair(opened, fixed, moving)
    yield opened
    opened.logic.close()
