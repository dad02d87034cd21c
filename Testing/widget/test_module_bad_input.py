"""Whatever cannot be registered is said in the panel, with what to do about it, and nothing is lost."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys

import module_tools as tools
import numpy as np
import pytest
import slicer
import slicer_scene
from host import dialogs, gestures

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def panel(opened, scene):
    """The panel on an empty scene, as after a start."""
    slicer.app.processEvents()
    opened.panel.say("")
    yield opened
    opened.logic.close()
    opened.logic.exchange.parent = None
    assert not tools.leftovers()
    assert not dialogs.shown  # everything was said in the panel, nothing in a window


@pytest.fixture
def ready(panel):
    """The panel with two volumes chosen, ready to run a worker that hangs."""
    fixed = slicer_scene.makeVolume(slicer_scene.blobs(), name="Fixed")
    moving = slicer_scene.makeVolume(slicer_scene.blobs(seed=1), name="Moving")
    tools.choosePair(panel, fixed, moving)
    tools.useStandIn(panel, "hang")
    assert panel.ui.runButton.enabled and not panel.ui.messageLabel.visible
    return panel


def refuses(panel, *words: str) -> None:
    """Run cannot be pressed, and both its tooltip and the panel hold all these words."""
    assert not panel.ui.runButton.enabled
    for word in words:
        assert word in panel.ui.runButton.toolTip
        assert word in tools.message(panel)


def parameters(panel):
    return panel.panel.parameters


def test_a_new_panel_asks_for_two_volumes(panel):
    assert not panel.ui.runButton.enabled
    assert "Choose a fixed and a moving volume" in tools.message(panel)
    assert "No fixed volume is chosen" in panel.ui.runButton.toolTip


def test_same_volume_twice(ready):
    ready.ui.movingSelector.setCurrentNode(ready.ui.fixedSelector.currentNode())
    refuses(ready, "both fixed and moving", "choose another volume")


def test_volume_without_data(ready):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    gestures.chooseNode(ready.ui.fixedSelector, empty)
    refuses(ready, "has no data", "load its image")


def test_colour_volume(ready):
    array = np.zeros((20, 20, 20, 3), np.uint8)
    colour = slicer.util.addVolumeFromArray(array, name="Photo", nodeClassName="vtkMRMLVectorVolumeNode")
    gestures.chooseNode(ready.ui.fixedSelector, colour)
    refuses(ready, "3 components", "Vector to Scalar Volume")


def test_volume_of_a_sequence(ready):
    volume = ready.ui.movingSelector.currentNode()
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Beating heart")
    sequence.SetDataNodeAtValue(volume, "0")
    browser.AddSynchronizedSequenceNode(sequence)
    browser.AddProxyNode(volume, sequence, False)
    ready.panel.update()
    refuses(ready, "Beating heart", "clone it")


def test_segmentation_of_another_subject(ready):
    far = slicer_scene.obliqueMatrix(origin=(900, 900, 900))
    other = slicer_scene.makeSegmentation(np.ones((18, 18, 18)), far, "Other subject")
    gestures.chooseNode(ready.ui.fixedSegmentationSelector, other)
    refuses(ready, "Other subject", "lies outside volume")


def test_landmark_lists_of_different_length(ready):
    grid = slicer_scene.obliqueMatrix()
    inside = np.array([grid[:3, :3] @ (9, 9, 9 + n) + grid[:3, 3] for n in range(3)])
    fixed, moving = (slicer_scene.makeFiducials(inside[:n], f"Points {n}") for n in (3, 2))
    gestures.chooseNode(ready.ui.fixedLandmarksSelector, fixed)
    gestures.chooseNode(ready.ui.movingLandmarksSelector, moving)
    refuses(ready, "has 3 points", "has 2")


def test_non_linear_parent_transform(ready):
    grid = slicer_scene.makeGridTransform(
        np.random.default_rng(0).random((5, 5, 5, 3)), np.diag([9.0, 9, 9, 1]), "Bend"
    )
    ready.ui.movingSelector.currentNode().SetAndObserveTransformNodeID(grid.GetID())
    ready.panel.update()
    refuses(ready, "non-linear transform", "Bend", "harden it")


def test_output_that_is_an_input(ready):
    parameters(ready).outputVolume = ready.ui.fixedSelector.currentNode()
    refuses(ready, "would overwrite the input")


def test_names_of_nodes_cannot_break_the_message(ready):
    ready.ui.fixedSelector.currentNode().SetName("<b>a & b")
    ready.ui.movingSelector.setCurrentNode(ready.ui.fixedSelector.currentNode())
    assert "&lt;b&gt;a &amp; b" in tools.message(ready)


def test_scene_closed_during_a_run(ready):
    ready.ui.runButton.click()
    pid = ready.logic.process.processId
    slicer.mrmlScene.Clear(False)
    assert not tools.isAlive(pid) and not ready.logic.jobs
    assert ready.ui.runButton.text == "Run" and not ready.ui.runButton.enabled
    assert "The scene was closed, so the run was cancelled" in tools.message(ready)


def test_node_deleted_during_a_run(ready):
    ready.ui.runButton.click()
    pid = ready.logic.process.processId
    slicer.mrmlScene.RemoveNode(ready.ui.movingSelector.currentNode())
    assert not tools.isAlive(pid)
    assert "Moving was removed from the scene" in tools.message(ready)
    assert ready.ui.runButton.text == "Run"


def test_worker_killed_from_outside(ready):
    ready.ui.runButton.click()
    gestures.waitUntil(lambda: ready.ui.stageLabel.text.startswith("Aligning"))
    os.kill(ready.logic.process.processId, signal.SIGKILL)
    gestures.waitUntil(lambda: ready.ui.runButton.text == "Run")
    assert "memory ran out" in tools.message(ready)
    assert ready.ui.runButton.enabled  # and can be run again


@pytest.mark.parametrize(
    ("error", "words"),
    [(errno.ENOSPC, "disk of the temporary folder"), (errno.EACCES, "cannot be written (Permission denied)")],
)
def test_disk_full_or_no_permission_in_the_temporary_folder(ready, monkeypatch, error, words):
    import tempfile

    def mkdtemp(*_arguments, **_keywords):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    ready.ui.runButton.click()
    assert words in tools.message(ready) and "run again" in tools.message(ready)
    assert ready.ui.runButton.text == "Run" and ready.logic.process.processId == 0


def test_disk_full_while_the_volumes_are_written(ready, monkeypatch):
    from SpikeRegSlicerLib.scene import files

    def writeImage(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "writeImage", writeImage)
    ready.ui.runButton.click()
    assert "No space left on device" in tools.message(ready) and "free some space" in tools.message(ready)
    assert ready.ui.runButton.text == "Run" and ready.logic.process.processId == 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_volume_that_the_disk_takes_only_half_of(ready):
    """A file that may not grow, as on a disk that fills up; the volume's own writer prints and goes on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # a volume takes twice that
    try:
        ready.ui.runButton.click()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "fixed.nrrd: cannot be written" in tools.message(ready) and "free some space" in tools.message(ready)
    assert ready.ui.runButton.text == "Run" and ready.logic.process.processId == 0
    assert tools.filesLeft() == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_result_that_the_disk_takes_only_half_of(ready):
    """The real worker, whose files may not grow."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))"
    start = "from SpikeRegLib.cli import main; main(['worker'])"
    process, nodes = ready.logic.process, slicer.mrmlScene.GetNumberOfNodes()
    process._program, process._arguments = sys.executable, ["-c", f"{limit}; {start}"]
    gestures.chooseText(ready.ui.presetComboBox, "any-anatomy")
    ready.ui.refineIterationsSpinBox.value = 0
    ready.ui.runButton.click()
    gestures.waitUntil(lambda: ready.ui.runButton.text == "Run")
    assert "cannot be written" in tools.message(ready) and "Not done" in tools.message(ready)
    assert sorted(os.path.basename(path) for path in tools.filesLeft()) == ["fixed.nrrd", "moving.nrrd"]  # kept warm
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes and ready.panel.run is None


def test_temporary_folder_that_is_a_file(ready, tmp_path):
    (tmp_path / "file").touch()
    ready.logic.exchange.parent = str(tmp_path / "file")
    ready.ui.runButton.click()
    assert str(tmp_path / "file") in tools.message(ready) and "Choose another one" in tools.message(ready)


def test_result_that_cannot_be_read(ready):
    tools.useStandIn(ready, "finish")
    ready.ui.runButton.click()
    gestures.waitUntil(lambda: ready.ui.runButton.text == "Run")
    assert "result.json: cannot be read" in tools.message(ready)
    assert "Traceback" in ready.ui.logTextEdit.plainText and "_readResult" in ready.ui.logTextEdit.plainText


def test_small_packages_that_are_missing_are_asked_for_by_run_alone(ready, tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("no-such-package-of-ours>=1\n")
    monkeypatch.setattr(ready.panel, "requirementsPath", str(tmp_path / "requirements.txt"))
    dialogs.answer("confirm", False)
    ready.ui.runButton.click()
    assert "few small packages" in tools.message(ready) and ready.ui.runButton.text == "Run"
    assert dialogs.texts("confirm") == ["no-such-package-of-ours>=1"]
    dialogs.reset()
