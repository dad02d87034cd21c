"""One button names the structures of a volume: with the real worker around a drawn head, so without weights."""

from __future__ import annotations

import sys
from pathlib import Path

import module_tools as tools
import numpy as np
import pytest
import slicer
import slicer_scene
from host import dialogs, gestures

pytestmark = pytest.mark.usefixtures("scene")
PIPELINE = Path(__file__).parents[1] / "pipeline"
_WORKER = """
import sys
sys.path.insert(0, {folder!r})
import drawn_head
drawn_head.install(slow_s={slow}, shuffled={shuffled})
upright = drawn_head.pose.orientations()[:1]
drawn_head.pose.orientations = lambda: upright  # 24 looks at what is no head take long
from SpikeRegLib.cli import entry
sys.argv[1:] = ["worker", "--end-with-stdin"]
entry()
"""


def useDrawnHead(panel, slow: float = 0.0, shuffled: bool = False) -> None:
    """Let the panel's logic use the real worker, which sees the drawn head wherever an image lies."""
    arguments = ["-c", _WORKER.format(folder=str(PIPELINE), slow=slow, shuffled=shuffled)]
    if arguments != panel.logic.process._arguments:  # else the one of the test before is still warm
        panel.logic.process.close()
        panel.logic.process._arguments = arguments


@pytest.fixture(scope="module")
def head():
    """[K, J, I] of the drawn head, and its 4x4 to RAS."""
    sys.path.insert(0, str(PIPELINE))
    import drawn_head

    frame = drawn_head.STRAIGHT
    matrix = np.diag([-1.0, -1, 1, 1]) @ np.diag([drawn_head.SPACING_MM] * 3 + [1])
    matrix[:3, 3] = np.array(frame.origin) * (-1, -1, 1)
    return drawn_head.image().data.numpy(), matrix


@pytest.fixture
def panel(opened, scene, head):
    """The panel with the section open and the drawn head as fixed volume."""
    slicer.app.processEvents()
    dialogs.reset()
    useDrawnHead(opened)
    opened.panel.say("")
    opened.ui.structuresCollapsibleButton.collapsed = False
    gestures.chooseNode(opened.ui.fixedSelector, slicer_scene.makeVolume(*head, "T1"))
    opened.ui.threadsSpinBox.value = 1
    yield opened
    for job in reversed(opened.logic.jobs):
        opened.logic.cancel(job)
    opened.logic.exchange.close()
    assert not tools.leftovers() and not dialogs.shown


def press(panel) -> None:
    """Press the button and wait until it can be pressed again."""
    panel.ui.segmentButton.click()
    assert panel.ui.segmentButton.text == "Cancel"
    gestures.waitUntil(lambda: panel.ui.segmentButton.text == "Segment structures")


def segmentations():
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def labelsOf(node, volume) -> np.ndarray:
    """[K, J, I] of the label values, on the volume's grid."""
    from SpikeRegSlicerLib.scene.labelmaps import segmentsOf

    found = np.zeros(slicer.util.arrayFromVolume(volume).shape, int)
    for key, segment in segmentsOf(node).items():
        if segment.GetName() != "brain":
            found[slicer.util.arrayFromSegmentBinaryLabelmap(node, key, volume) > 0] = segment.GetLabelValue()
    return found


def test_one_press_makes_a_segmentation_with_the_librarys_names_where_the_structures_are(panel):
    import drawn_head

    volume, stages = panel.ui.fixedSelector.currentNode(), set()
    panel.ui.segmentButton.click()

    def isDone() -> bool:
        stages.add(panel.ui.stageLabel.text.partition(":")[0])
        return panel.ui.segmentButton.text == "Segment structures"

    gestures.waitUntil(isDone)
    (node,) = segmentations()
    assert node.GetName() == "T1 structures" and {"Reading", "Finishing"} <= stages
    truth = drawn_head.truth(drawn_head.STRAIGHT)
    found = labelsOf(node, volume)
    assert (found == truth)[truth > 0].mean() > 0.97  # on the surfaces of balls it may differ
    left = np.argwhere(found == 17).mean(0)[::-1]
    ras = (slicer.util.arrayFromVTKMatrix(_ijkToRas(volume)) @ [*left, 1])[:3]
    assert ras[0] < 0  # the left of the patient
    np.testing.assert_allclose(ras * (-1, -1, 1), drawn_head.MIDDLE + drawn_head.BALLS[17], atol=0.5)
    assert "Done" in tools.message(panel) and "T1 structures is in the scene" in tools.message(panel)
    brain = f"brain with CSF {drawn_head.BRAIN_ML:,.0f} ml"[:-6]
    assert "32 structures" in panel.ui.structuresLabel.text and brain in panel.ui.structuresLabel.text
    assert panel.ui.runButton.text == "Run" and not panel.ui.progressArea.visible


def _ijkToRas(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_a_second_press_updates_the_segmentation_and_its_table(panel):
    press(panel)
    (node,), (table,) = segmentations(), slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert table.GetName() == "T1 structures table" and table.GetNumberOfRows() == 33
    parent = slicer_scene.makeLinearTransform(slicer_scene.translation(1, 2, 3))
    panel.ui.fixedSelector.currentNode().SetAndObserveTransformNodeID(parent.GetID())
    count = slicer.mrmlScene.GetNumberOfNodes()
    press(panel)
    assert segmentations() == [node] and slicer.mrmlScene.GetNumberOfNodes() == count
    assert node.GetParentTransformNode() is parent


def test_cancel_ends_every_process_and_leaves_nothing(panel):
    useDrawnHead(panel, slow=60)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    for button in (panel.ui.segmentButton, panel.ui.runButton):
        panel.ui.segmentButton.click()
        assert panel.ui.runButton.text == "Cancel"
        gestures.waitUntil(lambda: panel.ui.stageLabel.text.startswith("Reading"))
        processes = tools.family(panel.logic.process.processId)
        button.click()
        gestures.waitUntil(lambda alive=processes: not any(map(tools.isAlive, alive)), 0.5)
        assert panel.ui.segmentButton.text == "Segment structures" and panel.ui.runButton.text == "Run"
        assert not panel.logic.jobs and panel.logic.process.processId == 0
        assert slicer.mrmlScene.GetNumberOfNodes() == nodes
        assert not [path for path in tools.filesLeft() if "run-" in path]
        assert "segmentation was cancelled; nothing of it was kept" in tools.message(panel)


def test_a_registration_and_a_segmentation_never_run_at_once(panel, head):
    panel.logic.process.close()
    tools.useStandIn(panel, "hang")
    tools.choosePair(panel, panel.ui.fixedSelector.currentNode(), slicer_scene.makeVolume(*head, "Other"))
    panel.ui.runButton.click()
    panel.ui.segmentButton.click()
    registration, segmentation = panel.logic.jobs
    assert (registration.state, segmentation.state) == ("starting", "waiting")
    assert panel.ui.queueButton.text == "Run next (1 waiting)" and panel.ui.segmentButton.text == "Cancel"
    panel.ui.segmentButton.click()
    assert segmentation.state == "cancelled" and panel.logic.jobs == [registration]
    assert panel.ui.segmentButton.text == "Segment structures" and panel.ui.runButton.text == "Cancel"
    panel.ui.segmentButton.click()
    panel.logic.cancel(registration)
    (segmentation,) = panel.logic.jobs
    assert panel.logic.process.running is segmentation


@pytest.mark.parametrize("end", ["volume", "scene"])
def test_it_is_cancelled_with_its_volume_and_with_the_scene(panel, end):
    panel.logic.process.close()
    tools.useStandIn(panel, "hang")
    panel.ui.segmentButton.click()
    pid = panel.logic.process.processId
    if end == "volume":
        slicer.mrmlScene.RemoveNode(panel.ui.fixedSelector.currentNode())
        said = "T1 was removed from the scene"
    else:
        slicer.mrmlScene.Clear(False)
        said = "The scene was closed"
    assert not tools.isAlive(pid) and not panel.logic.jobs and said in tools.message(panel)
    slicer.app.processEvents()
    assert panel.ui.segmentButton.text == "Segment structures" and not panel.ui.segmentButton.enabled


def test_what_is_no_head_is_said_in_one_line_with_the_volumes_name(panel):
    useDrawnHead(panel, shuffled=True)
    press(panel)
    said = tools.message(panel)
    assert "&quot;T1&quot;: does not look like a human head (" in said and "give an image of a whole head" in said
    assert ".nrrd" not in said and "<br>" not in said and "Traceback" not in said
    assert segmentations() == [] and slicer.util.getNodesByClass("vtkMRMLTableNode") == []


def test_warnings_are_shown_as_notes(panel, head):
    array, matrix = head
    cut = slicer_scene.makeVolume(array[:40], matrix, "Cut <b>T1")
    gestures.chooseNode(panel.ui.structuresSelector, cut)
    press(panel)
    assert segmentations()[0].GetName() == "Cut <b>T1 structures"
    for shown in (panel.ui.structuresLabel.text, tools.message(panel)):
        assert "the field of view cuts the brain" in shown and "<b>T1" not in shown
    assert "Note" in panel.ui.structuresLabel.text and "Please look" in tools.message(panel)


def test_the_volume_is_the_fixed_one_unless_another_is_chosen(panel, head):
    part = tools.part(panel, "StructuresPart")
    other = slicer_scene.makeVolume(*head, "Other")
    assert part._volume().GetName() == "T1"
    gestures.chooseNode(panel.ui.structuresSelector, other)
    assert part._volume() is other
    tools.saveAndReload()
    assert part._volume().GetName() == "Other"


def test_the_button_says_what_is_missing(panel, head):
    for name, words in (
        ("labels", ("is a label map",)),
        ("constant", ("has the same value everywhere",)),
        ("sheared", ("not perpendicular",)),
    ):
        array, matrix = head
        if name == "sheared":
            matrix = matrix @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        array = np.zeros_like(array) if name == "constant" else array
        array = (array > 60).astype("i2") if name == "labels" else array
        volume = slicer_scene.makeVolume(array, matrix, name, labels=name == "labels")
        panel.panel.parameters.structuresVolume = volume
        assert not panel.ui.segmentButton.enabled, name
        assert all(word in panel.ui.segmentButton.toolTip for word in words)
    panel.panel.parameters.structuresVolume = None
    assert panel.ui.segmentButton.enabled and "32 structures" in panel.ui.segmentButton.toolTip


def test_the_figures_stay_with_the_segmentation_and_the_table_is_shown(panel, monkeypatch):
    press(panel)
    shown = panel.ui.structuresLabel.text
    panel.ui.structuresTableButton.click()
    assert "T1 structures table is in the scene" in tools.message(panel)  # no window here
    tools.saveAndReload()
    assert panel.ui.structuresLabel.text == shown
    gestures.chooseNode(panel.ui.fixedSelector, None)
    assert not panel.ui.structuresLabel.text and not panel.ui.structuresTableButton.enabled


def test_a_script_need_not_wait_and_is_told_of_a_wrong_option(panel):
    from SpikeRegSlicerLib.segmentation import SegmentationError

    volume, ended, stages = panel.ui.fixedSelector.currentNode(), [], []
    told = {"onDone": ended.append, "onProgress": lambda stage, fraction, message: stages.append(stage)}
    job = panel.logic.segment(volume, wait=False, threads=1, **told)
    assert job.isPending and job.node is None
    assert panel.logic.wait(job) is job.node and ended == [job] and job.state == "done"
    assert list(dict.fromkeys(stages)) == ["start", "prepare", "read", "finish"]
    with pytest.raises(SegmentationError, match="contrast: unknown; choose among threads"):
        panel.logic.segment(volume, contrast="T2")
    useDrawnHead(panel, shuffled=True)
    with pytest.raises(SegmentationError, match="does not look like a human head"):
        panel.logic.segment(volume, threads=1)
