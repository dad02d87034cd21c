"""A person's way through the panel on the bundled pair, with the real worker: choose, run, look, decide, apply.

One panel and one scene for the whole file: the tests follow each other as a person's steps do.
"""

from __future__ import annotations

import re
import types

import host
import module_tools as tools
import numpy as np
import pytest
import slicer
import slicer_scene
from host import dialogs, gestures

pytestmark = pytest.mark.usefixtures("application")


class Journey:
    """The open panel, what was seen during the run, and what the scene held before it."""

    def __init__(self) -> None:
        slicer_scene.emptyScene()
        self.composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
        self.fixed, self.moving = tools.loadPair()
        self.labels = self._label()
        self.panel = tools.openPanel()
        self.ui, self.logic = self.panel.ui, self.panel.logic
        self.before = _nodeIds()
        self.percents: list[int] = []
        self.stages: list[str] = []
        self.buttons: set[str] = set()

    def _label(self):
        from SpikeRegSlicerLib.sample import samplePath

        return slicer.util.loadLabelVolume(samplePath("moving_seg"), {"name": "Moving labels"})

    @property
    def run(self):
        return self.panel.panel.run

    def press(self, button) -> None:
        """Press Run and wait until it says Run again."""
        button.click()
        gestures.waitUntil(self._watched)

    def _watched(self) -> bool:
        if self.ui.runButton.text == "Run":
            return True
        self.percents.append(self.ui.progressBar.value)
        self.stages.append(self.ui.stageLabel.text.partition(":")[0])
        self.buttons.add(self.ui.runButton.text)
        return False


def _nodeIds() -> set[str]:
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return {node.GetID() for node in nodes if not node.IsA("vtkMRMLColorNode")}


@pytest.fixture(scope="module")
def journey():
    made = Journey()
    tools.choosePair(made.panel, made.fixed, made.moving)
    assert made.ui.runButton.enabled
    made.press(made.ui.runButton)
    yield made
    host.closeModule(made.panel)
    slicer_scene.emptyScene()
    assert not tools.leftovers()


def test_while_it_runs_the_panel_says_where_it_stands(journey):
    assert journey.buttons == {"Cancel"}
    assert journey.percents == sorted(journey.percents) and journey.percents[-1] > 50
    assert {"Starting", "Aligning", "Finishing"} <= set(journey.stages)
    assert "align: rigid alignment" in journey.ui.logTextEdit.plainText


def test_the_run_ends_with_a_verdict_and_no_window(journey):
    ui = journey.ui
    assert "Done" in tools.message(journey.panel) and not dialogs.shown
    assert "Good" in ui.verdictLabel.text and "nothing folds" in ui.verdictLabel.text
    figures = ui.figuresLabel.text.replace("\u00a0", " ")
    assert "LNCC 0.07 → 0.8" in figures and "folds 0.000 %" in figures
    assert ui.resultsCollapsibleButton.enabled and not ui.resultsCollapsibleButton.collapsed
    assert not ui.progressArea.visible and ui.runButton.enabled
    assert re.fullmatch(r"\d\d:\d\d fast-preview: Spike…ving → Spike…ixed", ui.resultComboBox.currentText)


def test_outputs_made_on_demand_are_chosen_for_the_next_run(journey):
    assert journey.ui.outputTransformSelector.currentNode() is journey.run.transform
    assert journey.ui.outputVolumeSelector.currentNode() is journey.run.warped


def test_everything_is_in_one_folder(journey):
    new = _nodeIds() - journey.before
    visible = {node.GetID() for node in journey.run.folder.nodes()}
    hidden = [slicer.mrmlScene.GetNodeByID(identity) for identity in new - visible]
    assert {node.GetClassName() for node in journey.run.folder.nodes()} >= {
        "vtkMRMLTransformNode",
        "vtkMRMLScalarVolumeNode",
        "vtkMRMLTableNode",
        "vtkMRMLPlotChartNode",
    }
    assert not [node.GetName() for node in hidden if node.IsA("vtkMRMLDisplayableNode")]


def test_a_comparison_is_one_click_and_a_slider(journey):
    ui, composite = journey.ui, journey.composite
    ui.blendButton.click()
    assert composite.GetBackgroundVolumeID() == journey.fixed.GetID()
    assert composite.GetForegroundVolumeID() == journey.run.warped.GetID()
    ui.compareSlider.value = 0.25
    assert composite.GetForegroundOpacity() == pytest.approx(0.25)
    ui.jacobianButton.click()
    assert not ui.blendButton.checked and ui.compareSliderLabel.text == "Opacity:"
    drawn = slicer.util.arrayFromVolume(slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID()))
    known = drawn > -100  # elsewhere there is no anatomy
    np.testing.assert_array_equal(drawn[known], slicer.util.arrayFromVolume(journey.run.jacobian)[known])
    assert 0.1 < known.mean() < 0.6
    ui.blendButton.click()
    assert ui.compareSlider.value == pytest.approx(0.25)
    ui.blendButton.click()
    assert composite.GetForegroundVolumeID() != journey.run.warped.GetID() and not ui.compareSlider.enabled


def test_every_comparison_leaves_the_scene_as_it_was(journey):
    ui, before = journey.ui, _nodeIds()
    names = ("checkerboard", "difference", "jacobian", "grid", "glyph", "contour", "surface", "flicker")
    buttons = [getattr(ui, f"{name}Button") for name in names]
    for button in buttons:
        button.click()
        assert [other.checked for other in buttons].count(True) == 1 and button.checked
    ui.flickerButton.click()
    assert _nodeIds() == before


def test_flicker_swaps_the_images_by_itself_and_stands_still_elsewhere(journey):
    composite, seen = journey.composite, set()
    journey.ui.flickerButton.click()
    journey.ui.compareSlider.value = 10
    gestures.waitUntil(lambda: seen.add(composite.GetForegroundOpacity()) or len(seen) == 2)
    journey.panel.exit()
    assert not tools.part(journey.panel, "ComparePart")._flicker.active
    journey.panel.enter()
    assert tools.part(journey.panel, "ComparePart")._flicker.active
    journey.ui.flickerButton.click()
    assert seen == {0.0, 1.0}


def test_the_layer_slider_walks_from_the_first_layer_to_the_last(journey):
    ui = journey.ui
    ui.blendButton.click()
    ui.showSpikesCheckBox.checked = True
    assert not ui.blendButton.checked  # one thing at a time
    rate = 100 * journey.run.result["spikes"]["layers"][0]["rate"]
    assert 1 < rate < 50
    assert ui.layerLabel.text == f"1 of 13: enc0.down, mean rate {rate:.1f} %"
    ui.layerSlider.value = ui.layerSlider.maximum
    assert ui.layerLabel.text.startswith("13 of 13: dec2.conv2")
    assert journey.composite.GetForegroundVolumeID() == journey.run.spikes[-1].GetID()
    ui.spikeOpacitySlider.value = 0.3
    assert journey.composite.GetForegroundOpacity() == pytest.approx(0.3)
    ui.showSpikesCheckBox.checked = False
    assert journey.composite.GetForegroundVolumeID() != journey.run.spikes[-1].GetID()


def test_a_click_on_a_place_jumps_there(journey):
    places, crosshair = journey.ui.placesList, slicer.util.getNodesByClass("vtkMRMLCrosshairNode")[0]
    assert places.count == 0 and tools.part(journey.panel, "PlacesPart")._places is None, (
        "not looked for before it is asked"
    )
    journey.ui.placesCollapsibleButton.collapsed = False
    assert places.count >= 5
    seen = set()
    for row in range(places.count):
        places.setCurrentRow(row)
        places.itemClicked.emit(places.item(row))
        seen.add(tuple(round(value, 3) for value in crosshair.GetCrosshairRAS()))
    assert len(seen) == places.count


def test_a_decision_is_kept_with_reviewer_and_note(journey):
    from SpikeRegSlicerLib.scene.review import review

    ui = journey.ui
    assert ui.reviewLabel.text == "Not reviewed yet."
    ui.reviewerLineEdit.text, ui.noteLineEdit.text = "A. B.", "ventricles fine"
    ui.acceptButton.click()
    kept = review(journey.run.transform)
    assert (kept["decision"], kept["reviewer"], kept["note"]) == ("accepted", "A. B.", "ventricles fine")
    assert ui.reviewLabel.text.startswith("Accepted by A. B.")
    ui.rejectButton.click()
    assert ui.reviewLabel.text.startswith("Rejected by A. B.")


def test_the_report_says_that_it_has_no_pictures(journey, tmp_path):
    dialogs.answer("file", str(tmp_path / "report.html"))
    journey.ui.reportButton.click()
    page = (tmp_path / "report.html").read_text()
    assert "ventricles fine" in page and "Rejected" in page
    assert "no pictures" in tools.message(journey.panel)


def test_the_report_has_the_slice_views_where_there_are_some(journey, tmp_path, monkeypatch):
    import qt

    class Layout:
        def sliceViewNames(self):
            return ["Red"]

        def sliceWidget(self, name):
            return self

        visible = True

        def sliceView(self):
            label = qt.QLabel(f"view {name}")
            return label

        def mrmlSliceNode(self):
            return sliceNode

        def sliceLogic(self):
            return types.SimpleNamespace(GetSliceCompositeNode=lambda: composite)

    name = "Red"
    sliceNode, composite = slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()
    composite.SetBackgroundVolumeID(journey.fixed.GetID())
    monkeypatch.setattr(type(slicer.app), "layoutManager", lambda self: Layout())
    dialogs.answer("file", str(tmp_path / "report.html"))
    journey.ui.reportButton.click()
    assert "data:image/png;base64," in (tmp_path / "report.html").read_text()
    assert "no pictures" not in tools.message(journey.panel)


def test_the_transform_is_applied_to_ticked_nodes(journey):
    import qt

    ui = journey.ui
    names = [ui.applyList.item(row).text() for row in range(ui.applyList.count)]
    assert names == ["SpikeReg moving", "Moving labels"] and not ui.applyButton.enabled
    ui.applyList.item(1).setCheckState(qt.Qt.Checked)
    assert ui.applyButton.enabled
    ui.applyButton.click()
    assert journey.labels.GetParentTransformNode() is journey.run.transform
    assert ui.applyLabel.text == "Applied to Moving labels."
    ui.applyButton.click()
    assert "already" in ui.applyLabel.text
    journey.labels.SetAndObserveTransformNodeID(None)
    ui.inverseCheckBox.checked = True
    assert "SpikeReg fixed" in [ui.applyList.item(row).text() for row in range(ui.applyList.count)]
    ui.inverseCheckBox.checked = False


def test_dragging_a_landmark_previews_and_undo_goes_back(journey):
    ui, transform = journey.ui, journey.run.transform
    pid, folder = journey.logic.process.processId, journey.run.folder.item
    bounds = [0.0] * 6
    journey.fixed.GetRASBounds(bounds)
    point = np.array([(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)])
    mapped = np.array(transform.GetTransformFromParent().TransformPoint(point))
    fixed = slicer_scene.makeFiducials(point[None], "Fixed points")
    moving = slicer_scene.makeFiducials(mapped[None], "Moving points")
    gestures.chooseNode(ui.fixedLandmarksSelector, fixed)
    gestures.chooseNode(ui.movingLandmarksSelector, moving)
    ui.landmarkWeightSlider.value = 1.0
    moving.SetNthControlPointPosition(0, *(mapped + (6, 0, 0)))
    moving.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    assert not tools.part(journey.panel, "LivePart")._timer.active  # only when asked for
    ui.liveUpdateCheckBox.checked = True
    moving.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    assert tools.part(journey.panel, "LivePart")._timer.active and ui.runButton.text == "Run"  # a moment after the drag
    gestures.waitUntil(lambda: ui.runButton.text == "Cancel")
    gestures.waitUntil(lambda: ui.runButton.text == "Run")
    ui.liveUpdateCheckBox.checked = False
    assert "Done" in tools.message(journey.panel) or "Please look" in tools.message(journey.panel)
    assert journey.logic.process.processId == pid  # the warm worker
    assert (
        journey.run.transform is transform and journey.run.folder.item != folder and len(journey.panel.panel.runs) == 1
    )
    pulled = np.array(transform.GetTransformFromParent().TransformPoint(point))
    assert np.linalg.norm(pulled - mapped - (6, 0, 0)) < 3
    assert ui.undoButton.enabled
    warped = slicer.util.arrayFromVolume(journey.run.warped).copy()
    ui.undoButton.click()
    back = np.array(transform.GetTransformFromParent().TransformPoint(point))
    assert np.linalg.norm(back - mapped) < 1e-3
    assert (slicer.util.arrayFromVolume(journey.run.warped) != warped).any()
    assert not ui.undoButton.enabled


def test_removing_the_run_leaves_what_was_there_before(journey):
    for name in ("fixedLandmarks", "movingLandmarks"):
        node = getattr(journey.panel.panel.parameters, name)
        setattr(journey.panel.panel.parameters, name, None)
        slicer.mrmlScene.RemoveNode(node)
    journey.ui.removeRunButton.click()
    slicer.app.processEvents()
    assert not journey.ui.resultsCollapsibleButton.enabled and journey.run is None
    left = [slicer.mrmlScene.GetNodeByID(identity) for identity in _nodeIds() - journey.before]
    assert [node.GetName() for node in left if node.IsA("vtkMRMLDisplayableNode")] == []
    assert journey.ui.outputTransformSelector.currentNode() is None
