"""Cancel at any moment: the process is gone within half a second, and nothing is left of the run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import host
import module_tools as tools
import pytest
import slicer
import slicer_scene
from host import gestures


@pytest.fixture
def panel(scene):
    """A panel with the bundled pair chosen."""
    fixed, moving = tools.loadPair()
    opened = tools.openPanel()
    tools.choosePair(opened, fixed, moving)
    yield opened
    host.closeModule(opened)
    assert not tools.leftovers()


def gone(processes: set[int]) -> None:
    """Each of them ends within half a second: Slicer's launcher, and the Python that is its child."""
    gestures.waitUntil(lambda: not any(map(tools.isAlive, processes)), 0.5)


def cancelAfter(panel, seconds: float = 0.0, percent: float = 0.0) -> None:
    """Press Run, and Cancel once so many seconds are over and so much of the run is done."""
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.runButton.click()
    launcher, end = panel.logic.process.processId, time.monotonic() + seconds

    def due() -> bool:
        return time.monotonic() > end and panel.ui.progressBar.value >= percent

    gestures.waitUntil(lambda: due() or panel.ui.runButton.text == "Run")
    if panel.ui.runButton.text == "Run":
        pytest.fail("the run was over before it could be cancelled")
    processes = tools.family(launcher)
    began = time.monotonic()
    panel.ui.runButton.click()
    assert time.monotonic() - began < 0.5
    assert panel.ui.runButton.text == "Run" and panel.ui.runButton.enabled
    assert panel.logic.process.processId == 0
    gone(processes)
    assert not panel.logic.jobs and slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert not [
        path for path in Path(slicer.app.temporaryPath).rglob("*") if path.name.startswith((".", "run-", "out"))
    ]
    assert "cancelled; nothing of it was kept" in tools.message(panel)


def test_cancel_with_the_real_worker_at_two_moments(panel):
    for seconds in (0.05, 1.0):
        cancelAfter(panel, seconds)


@pytest.mark.slow
def test_cancel_at_twenty_random_moments(panel):
    moments = random.Random(0)
    for number in range(20):  # some before the worker has reported anything
        cancelAfter(panel, seconds=moments.uniform(0, 0.5), percent=moments.uniform(0, 90) if number % 4 else 0)


@pytest.mark.parametrize("isToEmpty", [False, True])
def test_cancel_with_runs_in_the_queue_asks_whether_to_empty_it(panel, isToEmpty):
    tools.useStandIn(panel, "hang")
    ui = panel.ui
    ui.runButton.click()
    assert ui.queueButton.visible or ui.queueButton.isVisibleTo(panel.uiWidget)
    for _ in range(5):
        ui.queueButton.click()
    assert ui.queueButton.text == "Run next (5 waiting)" and len(panel.logic.jobs) == 6
    first = panel.logic.process.processId

    def answered(text: str, **_keywords) -> bool:
        assert "5 more runs wait" in text
        assert panel.logic.process.processId == 0, "the one that ran is gone, and no other starts before the answer"
        return isToEmpty

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slicer.util, "confirmYesNoDisplay", answered)
        ui.runButton.click()
    if isToEmpty:
        assert ui.runButton.text == "Run" and not panel.logic.jobs
        return
    assert ui.runButton.text == "Cancel" and panel.logic.process.processId not in (0, first)
    assert ui.queueButton.text == "Run next (4 waiting)" and len(panel.logic.jobs) == 5


@pytest.mark.parametrize("end", ["closing the scene", "closing the module"])
def test_an_end_during_a_run_ends_every_process(scene, end):
    fixed, moving = (slicer_scene.makeVolume(slicer_scene.blobs(seed=n), name=f"Volume {n}") for n in range(2))
    panel = tools.openPanel()
    tools.choosePair(panel, fixed, moving)
    tools.useStandIn(panel, "hang")
    panel.ui.runButton.click()
    panel.ui.queueButton.click()
    launcher = panel.logic.process.processId
    gestures.waitUntil(lambda: panel.ui.stageLabel.text.startswith("Aligning"))
    processes = tools.family(launcher)
    assert len(processes) == 2
    if end == "closing the scene":
        slicer.mrmlScene.Clear(False)
        gone(processes)
    host.closeModule(panel)
    gone(processes)
    assert not panel.logic.jobs and not tools.leftovers()


def test_the_panel_can_be_opened_and_closed_many_times_without_a_trace(scene):
    tools.module()
    panels = [tools.openPanel()]
    host.closeModule(panels.pop())
    before = slicer.mrmlScene.GetNumberOfNodes(), slicer.mrmlScene.HasObserver(slicer.vtkMRMLScene.NodeAddedEvent)
    for _ in range(5):
        host.closeModule(tools.openPanel())
    after = slicer.mrmlScene.GetNumberOfNodes(), slicer.mrmlScene.HasObserver(slicer.vtkMRMLScene.NodeAddedEvent)
    assert after == before
