"""The module's self-test, its cases and its logic from a script, with the real worker on the bundled pair."""

from __future__ import annotations

import io
import unittest

import module_tools as tools
import pytest
import slicer
import slicer_scene
from host import signals

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture(scope="module")
def logic():
    """One logic for all cases, as in `runTest`: its worker stays warm."""
    made = tools.module().SpikeRegSlicerLogic()
    yield made
    made.close()


CASES = ["caseRegistersTheSamplePair", "caseNamesTheStructuresOfTheSample", "caseSaysWhatIsMissing"]


@pytest.mark.parametrize("name", CASES)
def test_case(name, logic):
    getattr(tools.module().SpikeRegSlicerTest(), name)(logic)


def test_every_case_is_run_by_the_self_test(monkeypatch):
    ran = []
    test = tools.module().SpikeRegSlicerTest
    assert test.cases() == CASES
    for name in test.cases():
        monkeypatch.setattr(test, name, lambda self, logic, name=name: ran.append(name))
    slicer.selfTests["SpikeRegSlicer"]()
    assert ran == test.cases()


def test_without_pytorch_it_runs_what_it_can_and_skips_the_rest_with_a_message(monkeypatch):
    ran, test = [], tools.module().SpikeRegSlicerTest
    monkeypatch.setattr(tools.module(), "torchIsInstalled", lambda: False)
    monkeypatch.setattr(test, "caseRegistersTheSamplePair", lambda self, logic: ran.append(self))
    result = unittest.TextTestRunner(stream=io.StringIO()).run(unittest.TestLoader().loadTestsFromTestCase(test))
    ((_, reason),) = result.skipped
    assert result.wasSuccessful() and result.testsRun == 1 and not ran
    assert "PyTorch is not installed" in reason


def test_a_script_need_not_wait(logic):
    fixed, moving = tools.loadPair()
    ended, stages = [], []
    job = logic.register(
        fixed,
        moving,
        "fast-preview",
        wait=False,
        threads=1,
        onDone=ended.append,
        onProgress=lambda stage, fraction, message: stages.append(stage),
    )
    assert job.isPending and job.run is None
    run = logic.wait(job)
    assert ended == [job] and job.state == "done" and run.warped.GetScene() is slicer.mrmlScene
    assert stages[0] == "start" and stages[-1] == "finish"
    assert not logic.jobs and not logic.hasObserver(
        slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, logic._onSceneClosing
    )
    assert not signals.errors
    slicer_scene.emptyScene()
