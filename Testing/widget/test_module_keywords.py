"""One name for each option: that of the library's `register`; what a scene holds keeps the names it was saved with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import module_tools as tools
import numpy as np
import pytest
import slicer
import slicer_scene
from host import gestures

pytestmark = pytest.mark.usefixtures("scene")
SAVED = Path(__file__).with_name("saved_scene.mrml")  # by an earlier panel, which lacked what `NEW` names
NODES = {
    "fixed": "Fixed",
    "moving": "Moving",
    "fixedMask": "Fixed mask",
    "movingMask": "Moving mask",
    "fixedLeaveOut": "Fixed lesion",
    "movingLeaveOut": "Moving lesion",
    "fixedSegmentation": "Fixed labels",
    "movingSegmentation": "Moving labels",
    "initialTransform": "Start",
    "fixedLandmarks": "Fixed points",
    "movingLandmarks": "Moving points",
    "region": "Region",
    "outputTransform": "Out",
    "outputVolume": "Warped",
    "result": "Result",
}
OTHERS = {
    "preset": "mine", "timesteps": 8, "refineIterations": 3, "regularisation": 2.0, "align": False,
    "landmarkWeight": 0.25, "liveUpdate": True, "threads": 3, "seed": 7, "spikeMaps": False,
    "compareMode": "checkerboard", "blendOpacity": 0.25, "flickerRate": 4.0, "checkerSize": 30.0,
    "differenceWindow": 0.75, "jacobianOpacity": 0.25, "gridSpacing": 12.0, "glyphSpacing": 12.0, "contourStep": 4.0,
    "showSpikes": True, "spikeLayer": 2, "spikeOpacity": 0.25, "reviewer": "A. B.", "applyInverse": True,
    "applyHarden": True,
}  # fmt: skip
NEW = {
    "allowFewValues": False,
    "useStructures": True,
    "setBackground": False,
    "background": 0.0,
    "structuresVolume": None,
    "errorOpacity": 0.6,
    "surfaceOpacity": 1.0,
    "errorSurfaceOpacity": 1.0,
    "ownSpikeScale": False,
}


@pytest.fixture
def panel(pairChosen):
    """The panel with two volumes chosen, and a worker that hangs."""
    tools.useStandIn(pairChosen, "hang")
    return pairChosen


def test_a_scene_that_was_saved_before_opens_with_every_choice(opened):
    from SpikeRegSlicerLib.parameters import Device, Method, Parameters, TransformType
    from SpikeRegSlicerLib.presets import presetOf

    tools.loadScene(SAVED.read_text(encoding="utf-8"))
    parameters, ui = opened.panel.parameters, opened.ui
    assert {name: getattr(parameters, name).GetName() for name in NODES} == NODES
    assert {name: getattr(parameters, name) for name in OTHERS} == OTHERS
    assert (parameters.method, parameters.device) == (Method.OPTIMIZE, Device.CPU)
    assert presetOf(parameters).method == "optimize" and "no network" in parameters.customPreset
    assert {name: getattr(parameters, name) for name in NEW} == NEW
    known = {*NODES, *OTHERS, *NEW, "method", "device", "customPreset", "transformType"}
    assert parameters.transformType is TransformType.DEFORMABLE, "as every scene meant before there was a choice"
    assert known == set(Parameters.allParameters), "a new parameter: say here what a scene without it means"
    assert ui.fixedSegmentationSelector.currentNode().GetName() == "Fixed labels" and ui.seedSpinBox.value == 7
    assert ui.presetComboBox.currentText == "mine (in this scene)" and not ui.alignCheckBox.checked


def test_what_is_asked_for_a_scene_that_was_saved_before(opened):
    from SpikeRegSlicerLib.parameters import inputsOf, optionsOf

    tools.loadScene(SAVED.read_text(encoding="utf-8"))
    inputs = inputsOf(opened.panel.parameters)
    assert [getattr(inputs, item.name).GetName() for item in fields(inputs)] == list(NODES.values())[:12]
    assert optionsOf(opened.panel.parameters) == {
        "preset": "mine", "method": "optimize", "timesteps": 8, "refine_iterations": 3, "regularisation": 2.0,
        "align": False, "skip_affine": True, "landmark_weight": 0.25, "device": "cpu", "threads": 3, "seed": 7,
        "spike_maps": False,
    }  # fmt: skip


def test_every_node_and_option_is_named_as_the_library_names_it(panel):
    from SpikeRegSlicerLib.parameters import Method, inputsOf, optionsOf

    from SpikeRegLib.options.options import OPTIONS

    parameters = panel.panel.parameters
    parameters.method, parameters.timesteps, parameters.refineIterations, parameters.threads = Method.ANN, 8, 0, 3
    parameters.fixedLandmarks = parameters.movingLandmarks = slicer_scene.makeFiducials([[0, 0, 0]])
    parameters.align, parameters.allowFewValues, parameters.setBackground = False, True, True
    parameters.useStructures = False
    names = [item.name for item in fields(inputsOf(parameters))]
    assert {*names, *optionsOf(parameters)} - {"fixed", "moving"} <= OPTIONS.keys()


@pytest.mark.parametrize("name", ["fixedMask", "refine_iteration"])
def test_an_option_by_another_name_is_refused_before_anything_is_started(panel, name):
    from SpikeRegSlicerLib.registration import RegistrationError

    fixed, moving = panel.panel.parameters.fixed, panel.panel.parameters.moving
    with pytest.raises(RegistrationError, match=f"{name}: unknown; choose among .*fixed_mask.*refine_iterations"):
        panel.logic.register(fixed, moving, **{name: slicer_scene.makeSegmentation(slicer_scene.blobs() > 100)})
    assert not panel.logic.jobs


@pytest.mark.parametrize(
    ("given", "isMoved", "expected"),
    [
        ({}, False, {}),
        ({}, True, {"align": True}),
        ({"skip_affine": True}, False, {"skip_affine": True}),
        ({"skip_affine": True}, True, {"align": False}),
        ({"align": False}, True, {"align": False}),
        ({"align": False}, False, {}),
    ],
)
def test_align_and_skip_affine_mean_what_they_mean_in_the_library(panel, given, isMoved, expected):
    """A parent transform of the moving volume is an initial transform, from which to go on unless told otherwise."""
    fixed, moving = panel.panel.parameters.fixed, panel.panel.parameters.moving
    if isMoved:
        parent = slicer_scene.makeLinearTransform(slicer_scene.translation(5, 0, 0))
        moving.SetAndObserveTransformNodeID(parent.GetID())
    job = panel.logic.register(fixed, moving, wait=False, **given)
    keys = panel.logic._prepare(job)
    assert {key: keys[key] for key in ("align", "skip_affine") if key in keys} == expected
    assert ("initial_transform" in keys) == isMoved


def test_few_values_and_background_are_chosen_kept_and_asked_for(panel):
    from SpikeRegSlicerLib.parameters import optionsOf

    ui = panel.ui
    assert not ui.backgroundSpinBox.enabled
    assert not {"background", "allow_few_values"} & optionsOf(panel.panel.parameters).keys()
    ui.allowFewValuesCheckBox.checked = ui.setBackgroundCheckBox.checked = True
    assert ui.backgroundSpinBox.enabled
    ui.backgroundSpinBox.value = -1024.5
    tools.saveAndReload()
    assert ui.allowFewValuesCheckBox.checked and ui.backgroundSpinBox.enabled and ui.backgroundSpinBox.value == -1024.5
    asked = optionsOf(panel.panel.parameters)
    assert (asked["allow_few_values"], asked["background"]) == (True, -1024.5)
    panel.ui.restoreDefaultsButton.click()
    assert not {"background", "allow_few_values"} & optionsOf(panel.panel.parameters).keys()
    assert not ui.backgroundSpinBox.enabled


def test_structures_are_used_unless_a_person_says_no(panel):
    from SpikeRegSlicerLib.parameters import optionsOf

    ui = panel.ui
    assert ui.useStructuresCheckBox.checked and "structures" not in optionsOf(panel.panel.parameters)
    ui.useStructuresCheckBox.checked = False
    tools.saveAndReload()
    assert not ui.useStructuresCheckBox.checked
    assert optionsOf(panel.panel.parameters)["structures"] == "none"
    ui.restoreDefaultsButton.click()
    assert ui.useStructuresCheckBox.checked and "structures" not in optionsOf(panel.panel.parameters)


@pytest.mark.parametrize(("text", "kind"), [("Rigid only", "rigid"), ("Affine only", "affine")])
def test_a_registration_without_deformation_is_chosen_kept_and_asked_for(panel, text, kind):
    from SpikeRegSlicerLib.parameters import Method, inputsOf, optionsOf
    from SpikeRegSlicerLib.presets import wantsSpikeMaps

    parameters = panel.panel.parameters
    parameters.method, parameters.timesteps, parameters.refineIterations = Method.OPTIMIZE, 8, 3
    parameters.regularisation = 2.0
    parameters.fixedLandmarks = parameters.movingLandmarks = slicer_scene.makeFiducials([[0, 0, 0]])
    assert "transform_type" not in optionsOf(parameters) and "landmark_weight" in optionsOf(parameters)
    gestures.chooseText(panel.ui.transformTypeComboBox, text)
    tools.saveAndReload()
    parameters = panel.panel.parameters
    assert panel.ui.transformTypeComboBox.currentText == text
    asked = optionsOf(parameters)
    assert asked["transform_type"] == kind
    of_a_deformation = {"method", "timesteps", "refine_iterations", "regularisation", "landmark_weight"}
    assert not of_a_deformation & asked.keys() and inputsOf(parameters).region is None
    parameters.useStructures, parameters.preset = False, "brain-t1"
    assert not wantsSpikeMaps(parameters), "the network that fires does not run"
    tools.part(panel, "LivePart").preview()
    assert "choose Deformable" in tools.message(panel)


def test_the_background_may_be_what_the_library_takes(panel):
    from SpikeRegLib.options.options import OPTIONS

    spinBox = panel.ui.backgroundSpinBox
    assert (spinBox.minimum, spinBox.maximum) == OPTIONS["background"].limits


def test_a_phantom_is_registered_once_it_is_allowed_and_its_background_stays_through_undo(scene):
    """With the real worker, without alignment and refinement: the warped volume is the moving one on the fixed grid."""
    import host

    panel = tools.openPanel()
    ui = panel.ui
    values = (slicer_scene.blobs() > 300) * np.where(np.arange(36) < 18, 100, 200).astype("i2")  # two halves of a body
    grids = [slicer_scene.translation(shift, 0, 0) for shift in (0, 6)]
    fixed, moving = (slicer_scene.makeVolume(values, grid, name=f"Phantom {n}") for n, grid in enumerate(grids))
    tools.choosePair(panel, fixed, moving, "any-anatomy")
    ui.alignCheckBox.checked = False
    ui.refineIterationsSpinBox.value = 0
    ui.runButton.click()
    gestures.waitUntil(lambda: ui.runButton.text == "Run")
    assert "looks like a label map" in tools.message(panel)
    ui.allowFewValuesCheckBox.checked = ui.setBackgroundCheckBox.checked = True
    ui.backgroundSpinBox.value = -7
    for _ in range(2):  # the second one can be undone
        ui.runButton.click()
        gestures.waitUntil(lambda: ui.runButton.text == "Run")
        warped = slicer.util.arrayFromVolume(panel.panel.run.warped)
        assert (warped[..., :6] == -7).all() and set(np.round(warped[..., 6:]).ravel().tolist()) == {0, 100, 200}
    ui.undoButton.click()
    assert np.abs(slicer.util.arrayFromVolume(panel.panel.run.warped) - warped).max() < 0.01
    host.closeModule(panel)
