"""Keys of the panel, the predicted error's buttons, and that both work with what a run has."""

from __future__ import annotations

import module_tools as tools
import numpy as np
import pytest
import slicer
from run_folder import LAYERS
from small_pair import makePair, makeRunFolder

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def loaded(opened, tmp_path):
    """The panel with a run of the small pair."""
    from SpikeRegSlicerLib import products
    from SpikeRegSlicerLib.scene.results import Outputs

    products.replaceRun(makeRunFolder(tmp_path / "run", layers=LAYERS), makePair(), Outputs(), "Run", {})
    slicer.app.processEvents()
    opened.panel.showRuns()
    return opened


def press(part, shortcut: str) -> None:
    getattr(part, shortcut).activated.emit()


def test_a_key_swaps_the_images_by_hand_and_stands_still(loaded):
    compare = tools.part(loaded, "ComparePart")
    assert compare._key.key.toString() == "Ctrl+Shift+F"
    swaps = []
    press(compare, "_key")
    comparison = compare._comparison
    assert loaded.panel.parameters.compareMode == "flicker" and loaded.ui.flickerButton.checked
    assert not compare._flicker.isActive()
    for _ in range(3):
        swaps.append(comparison._warpedShown)
        press(compare, "_key")
    assert swaps in ([True, False, True], [False, True, False])


def test_a_key_goes_from_one_worst_place_to_the_next_and_round(loaded):
    places = tools.part(loaded, "PlacesPart")
    assert places._next.key.toString() == "Ctrl+Shift+N"
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    seen = []
    for _ in range(len(places.places()) + 1):
        press(places, "_next")
        seen.append(tuple(np.round(crosshair.GetCrosshairRAS(), 3)))
        assert tools.message(loaded) == places.places()[loaded.ui.placesList.currentRow].text
    assert seen == [tuple(np.round(place.ras, 3)) for place in (*places.places(), places.places()[0])]
    assert len(set(seen)) > 1


def test_keys_without_a_run_do_nothing(opened):
    press(tools.part(opened, "ComparePart"), "_key")
    press(tools.part(opened, "PlacesPart"), "_next")
    assert opened.panel.parameters.compareMode == ""


def test_a_run_without_a_predicted_error_says_so_and_one_with_it_shows_it(loaded):
    ui = loaded.ui
    for button in (ui.errorButton, ui.errorSurfaceButton):
        assert not button.enabled and button.toolTip == "No error was predicted for this run."
    run = loaded.panel.run
    node = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, run.jacobian, "error")
    run.folder.add(node, "predictedError")
    loaded.panel.showRuns()
    assert ui.errorButton.enabled and "5 mm" in ui.errorButton.toolTip
    ui.errorButton.click()
    assert loaded.panel.parameters.compareMode == "error"
    assert "3-D" in ui.errorSurfaceButton.text
    ui.surfaceButton.click()
    assert loaded.panel.parameters.compareMode == "surface" and not ui.errorButton.checked


def test_layers_share_one_scale_until_a_person_asks_for_their_own(loaded):
    ui, (first, second, *_) = loaded.ui, loaded.panel.run.spikes
    ui.showSpikesCheckBox.checked = True
    shared = first.GetDisplayNode().GetWindowLevelMax()
    ui.layerSlider.value = 1
    assert second.GetDisplayNode().GetWindowLevelMax() == shared
    slicer.util.updateVolumeFromArray(second, 0.01 * slicer.util.arrayFromVolume(second))
    ui.ownSpikeScaleCheckBox.checked = True
    assert second.GetDisplayNode().GetWindowLevelMax() < 0.1 * shared
