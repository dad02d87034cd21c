"""Runs of any method under Results: what a method does not give is said, and everything it gives is offered."""

from __future__ import annotations

import json

import module_tools as tools
import numpy as np
import pytest
import qt
import slicer
import slicer_scene
from host import gestures
from run_folder import LAYERS
from small_pair import makePair, makeRunFolder

pytestmark = pytest.mark.usefixtures("scene")
ENERGY = {"mac_pj": 4.6, "ac_pj": 0.9, "analog_macs": 1e9, "synaptic_ops": 2e9, "snn_mj": 6.4}


@pytest.fixture
def loadResult(opened, scene, tmp_path):
    """Loads a run of a method with these entries in its result.json, and gives the panel that shows it."""

    def load(layers=LAYERS, **entries):
        from SpikeRegSlicerLib import products
        from SpikeRegSlicerLib.scene.results import Outputs

        folder = makeRunFolder(tmp_path / "run", layers=layers)
        path = tmp_path / "run" / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
        products.replaceRun(folder, makePair(), Outputs(), "Run", {})
        slicer.app.processEvents()
        opened.panel.showRuns()
        return opened

    return load


def tableRows(panel, kind: str) -> list[str]:
    """The first column of a table of the run that is looked at."""
    (node,) = panel.panel.run.folder.nodes(f"table {kind}")
    return [node.GetTable().GetValue(row, 0).ToString() for row in range(node.GetTable().GetNumberOfRows())]


def test_a_run_without_a_spiking_network_says_so_and_offers_nothing_of_it(loadResult):
    panel = loadResult((), method="nephi", spikes=None, energy=None)
    word = "No spiking network took part in this run."
    for button in (panel.ui.energyButton, panel.ui.ratesButton):
        assert not button.enabled and button.toolTip == word
    assert panel.ui.layerLabel.text == word
    assert not panel.ui.showSpikesCheckBox.enabled and not panel.ui.layerSlider.enabled
    assert {"metrics", "provenance"} == {
        kind for kind in ("metrics", "energy", "rates", "provenance") if _has(panel, kind)
    }
    assert panel.ui.metricsButton.enabled and panel.ui.contourButton.enabled


def test_a_run_whose_only_network_names_structures_has_rates_and_says_why_it_has_no_energy(loadResult):
    layers = [{"name": name, "rate": 0.1} for name in LAYERS]
    panel = loadResult(method="optimize", spikes={"network": "structures", "layers": layers}, energy=None)
    assert panel.ui.ratesButton.enabled and panel.ui.showSpikesCheckBox.enabled
    assert not panel.ui.energyButton.enabled and "networks that register" in panel.ui.energyButton.toolTip


def test_a_method_unknown_here_has_overlay_chart_and_energy_where_its_result_does(loadResult):
    layers = [{"name": name, "rate": 0.1} for name in LAYERS]
    panel = loadResult(method="spiking-nephi", spikes={"timesteps": 4, "layers": layers}, energy=ENERGY)
    assert panel.ui.energyButton.enabled and "proxy" in panel.ui.energyButton.toolTip
    assert panel.ui.ratesButton.enabled and tableRows(panel, "rates") == list(LAYERS)
    assert tableRows(panel, "energy") == ["Spiking network"], "no row for a baseline that it has not"
    assert panel.ui.layerLabel.text == f"1 of {len(LAYERS)}: {LAYERS[0]}, mean rate 10.0 %"


@pytest.mark.parametrize("kind", ["metrics", "energy", "provenance", "rates"])
def test_without_views_a_button_of_figures_says_where_they_are(loadResult, kind):
    panel = loadResult(energy=ENERGY)
    getattr(panel.ui, f"{kind}Button").click()
    assert "is in the folder of the run" in tools.message(panel)


def test_energy_is_called_a_proxy(loadResult):
    panel = loadResult(energy=ENERGY)
    names = [node.GetName() for node in panel.panel.run.folder.nodes() if node.IsA("vtkMRMLTableNode")]
    assert [name for name in names if "Energy" in name and "proxy" in name]
    assert "proxy" in panel.ui.energyButton.text


def test_rates_without_maps_are_still_drawn(loadResult):
    layers = [{"name": "hidden 1", "rate": 0.1}]
    panel = loadResult((), spikes={"layers": layers})
    assert panel.ui.ratesButton.enabled and panel.ui.layerLabel.text == "This run has no spike maps."
    assert not panel.ui.showSpikesCheckBox.enabled


def test_worst_places_are_looked_for_when_they_are_asked_for(loadResult, monkeypatch):
    from SpikeRegSlicerLib.widgets import places_part

    calls, find = [], places_part.worstPlaces
    monkeypatch.setattr(places_part, "worstPlaces", lambda *nodes: calls.append(nodes) or find(*nodes))
    panel = loadResult()
    section, shown = panel.ui.placesCollapsibleButton, panel.ui.placesList
    assert section.collapsed and not calls and shown.count == 0
    section.collapsed = False
    assert len(calls) == 1 and shown.count > 0
    count = shown.count
    section.collapsed = True
    section.collapsed = False
    assert len(calls) == 1 and shown.count == count
    panel.panel.showRuns()  # as after a new run, with the section open
    assert len(calls) == 2 and shown.count == count


def test_a_scene_without_its_files_still_opens(loadResult):
    panel = loadResult()
    panel.ui.placesCollapsibleButton.collapsed = False
    panel.ui.checkerboardButton.click()
    tools.saveAndReload()  # no voxels are saved with it
    assert panel.panel.run is not None and panel.panel.run.images() is None
    assert panel.ui.placesList.count == 0 and not panel.ui.checkerboardButton.enabled


def test_the_display_of_the_transform_comes_back_with_the_scene(loadResult):
    panel = loadResult()
    panel.ui.contourButton.click()
    panel.ui.compareSlider.value = 3.5
    levels = np.array([float(text) for text in drawn().GetContourLevelsMmAsString().split()])
    assert len(levels) > 1
    np.testing.assert_allclose(levels, 3.5 * np.arange(1, len(levels) + 1))
    whole, shown = panel.panel.run.transform.GetTransformFromParent(), drawn().GetContourLevelsMmAsString()
    tools.saveAndReload()  # which keeps neither voxels nor the map: in Slicer they come in from their files
    panel.panel.run.transform.SetAndObserveTransformFromParent(whole)
    for volume in (slicer.util.getNode("Fixed"), panel.panel.run.warped):
        slicer.util.updateVolumeFromArray(volume, slicer_scene.blobs())
    panel.panel.showRuns()
    assert panel.ui.contourButton.checked and panel.ui.compareSlider.value == 3.5
    assert drawn().GetVisibility2D() and drawn().GetContourLevelsMmAsString() == shown
    panel.ui.contourButton.click()
    assert drawn() is None


def test_a_scene_saved_while_something_is_shown_holds_the_views_as_they_were(loadResult):
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    panel = loadResult()
    ui = panel.ui
    for widget in (ui.differenceButton, ui.contourButton, ui.showSpikesCheckBox):
        widget.click()
        shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
        assert any(shown)
        saved = savedScene()
        assert "ColorLegendDisplay" not in saved
        assert not [line for line in saved["SliceComposite"] if "VolumeID" in line]
        assert widget.checked and any((composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()))
        if widget is not ui.differenceButton:  # whose volume is made anew
            assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == shown
    ui.showSpikesCheckBox.click()
    assert composite.GetBackgroundVolumeID() is None and composite.GetForegroundVolumeID() is None


def savedScene() -> dict[str, list[str]]:
    """What File / Save writes as the scene, by kind of node; there the application announces it, as is done here."""
    scene, kinds = slicer.mrmlScene, {}
    scene.StartState(scene.SaveState)
    scene.SetSaveToXMLString(1)
    scene.Commit()
    scene.SetSaveToXMLString(0)
    scene.EndState(scene.SaveState)
    for element in scene.GetSceneXMLString().split("<")[1:]:
        kinds.setdefault(element.split(maxsplit=1)[0], []).append(element)
    return kinds


def drawn():
    """Display node of the transform that a comparison draws; None while none is drawn."""
    nodes = slicer.util.getNodesByClass("vtkMRMLTransformNode")  # linear ones, too, of the application's own
    found = [node for node in nodes if not node.IsLinear() and not node.GetSaveWithScene()]
    assert len(found) < 2
    return found[0].GetDisplayNode() if found else None


def _has(panel, kind: str) -> bool:
    return bool(panel.panel.run.folder.nodes(f"table {kind}"))


def test_after_apply_another_preset_can_be_run_into_the_same_nodes(opened, scene, tmp_path):
    from SpikeRegSlicerLib import products
    from SpikeRegSlicerLib.scene.results import Outputs

    pair = makePair()
    tools.choosePair(opened, pair.fixed, pair.moving)
    tools.useStandIn(opened, "hang")
    run = products.replaceRun(makeRunFolder(tmp_path / "run"), pair, Outputs(), "Run", {})
    slicer.app.processEvents()
    parameters = opened.panel.parameters
    parameters.result, parameters.outputTransform, parameters.outputVolume = run.transform, run.transform, run.warped
    opened.panel.showRuns()
    assert not run.transform.IsLinear()
    rows = [opened.ui.applyList.item(row) for row in range(opened.ui.applyList.count)]
    next(row for row in rows if row.text() == pair.moving.GetName()).setCheckState(qt.Qt.Checked)
    opened.ui.applyButton.click()
    slicer.app.processEvents()
    assert pair.moving.GetParentTransformNode() is run.transform
    gestures.chooseText(opened.ui.presetComboBox, "any-anatomy")
    assert opened.ui.runButton.enabled, opened.ui.runButton.toolTip
    opened.ui.runButton.click()
    assert opened.ui.runButton.text == "Cancel" and pair.moving.GetParentTransformNode() is run.transform
    opened.logic.close()
