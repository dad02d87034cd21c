"""Everything a person chooses is in the scene and comes back with it; presets go to files and come from them."""

from __future__ import annotations

from pathlib import Path

import module_tools as tools
import pytest
import slicer
import slicer_scene
from host import dialogs, gestures

from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import OUTPUT_NAMES
from SpikeRegLib.presets.preset import FIELD_METHODS, METHODS, load_preset, preset_for, preset_names

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def panel(pairChosen):
    return pairChosen


@pytest.fixture
def parameters(panel):
    return panel.panel.parameters


def anotherValue(name: str, parameters):
    """A valid value that is not the default, of a parameter that holds no node."""
    import enum

    value = getattr(parameters, name)
    if isinstance(value, enum.Enum):
        return list(type(value))[-1]
    if isinstance(value, bool):
        return not value
    if name == "compareMode":
        return "checkerboard"
    if isinstance(value, str):
        return 'some "text" with\nlines = 3 & <more>; %20 é'
    return value + 1 if isinstance(value, int) else value * 0.75


def test_every_parameter_survives_saving_and_loading_the_scene(panel, parameters):
    from SpikeRegSlicerLib.parameters import Parameters

    nodes = {
        "outputTransform": slicer_scene.makeLinearTransform(slicer_scene.translation(1, 2, 3), "Out"),
        "outputVolume": slicer_scene.makeVolume(slicer_scene.blobs(), name="Warped"),
        "initialTransform": slicer_scene.makeLinearTransform(slicer_scene.translation(1, 0, 0), "Start"),
        "fixedMask": slicer_scene.makeSegmentation(slicer_scene.blobs() > 100, name="Fixed mask"),
        "movingMask": slicer_scene.makeVolume((slicer_scene.blobs() > 100).astype("i2"), name="Mask", labels=True),
        "fixedLeaveOut": slicer_scene.makeSegmentation(slicer_scene.blobs() > 150, name="Fixed lesion"),
        "movingLeaveOut": slicer_scene.makeSegmentation(slicer_scene.blobs() > 250, name="Moving lesion"),
        "fixedSegmentation": slicer_scene.makeSegmentation(slicer_scene.blobs() > 200, name="Fixed labels"),
        "movingSegmentation": slicer_scene.makeSegmentation(slicer_scene.blobs() > 300, name="Moving labels"),
        "fixedLandmarks": slicer_scene.makeFiducials([[0, 0, 0]], "Fixed points"),
        "movingLandmarks": slicer_scene.makeFiducials([[0, 0, 0]], "Moving points"),
        "region": slicer_scene.makeRoi((0, 0, 0), (30, 30, 30)),
        "structuresVolume": slicer_scene.makeVolume(slicer_scene.blobs(seed=2), name="Head"),
        "result": slicer_scene.makeLinearTransform(slicer_scene.translation(0, 0, 1), "Result"),
    }
    for name, node in nodes.items():
        setattr(parameters, name, node)
    wanted = {name: node.GetName() for name, node in {**nodes, "fixed": parameters.fixed}.items()}
    wanted["moving"] = "Moving"
    plain = [name for name in Parameters.allParameters if name not in wanted]
    for name in plain:
        setattr(parameters, name, anotherValue(name, parameters))
        wanted[name] = getattr(parameters, name)
    tools.saveAndReload()
    found = panel.panel.parameters
    assert found is not parameters and set(wanted) == set(Parameters.allParameters)
    for name, value in wanted.items():
        now = getattr(found, name)
        assert (now.GetName() if name not in plain else now) == value, name
    assert panel.ui.fixedSelector.currentNode().GetName() == "Fixed"
    assert panel.ui.refineIterationsSpinBox.value == found.refineIterations


def test_every_widget_with_a_parameter_changes_it_and_follows_it(panel, parameters):
    panel.ui.regularisationSlider.value = 2.0
    panel.ui.seedSpinBox.value = 7
    panel.ui.spikeMapsCheckBox.checked = False
    gestures.chooseText(panel.ui.deviceComboBox, "Processor (CPU)")
    gestures.chooseText(panel.ui.methodComboBox, "Optimisation only")
    from SpikeRegSlicerLib.parameters import Device, Method

    assert (parameters.regularisation, parameters.seed, parameters.spikeMaps) == (2.0, 7, False)
    assert (parameters.device, parameters.method) == (Device.CPU, Method.OPTIMIZE)
    panel.ui.restoreDefaultsButton.click()
    assert (parameters.regularisation, parameters.seed, parameters.spikeMaps) == (1.0, 0, True)
    assert panel.ui.methodComboBox.currentText == "as the preset"
    assert parameters.fixed.GetName() == "Fixed" and parameters.preset == "fast-preview"


def test_what_the_worker_is_asked(panel, parameters):
    from SpikeRegSlicerLib.parameters import Method, optionsOf

    parameters.threads = 0
    assert optionsOf(parameters) == {
        "preset": "fast-preview",
        "align": True,
        "regularisation": 1.0,
        "device": "auto",
        "seed": 0,
        "spike_maps": True,
    }
    parameters.method, parameters.timesteps, parameters.refineIterations, parameters.threads = Method.ANN, 8, 0, 3
    parameters.fixedLandmarks = parameters.movingLandmarks = slicer_scene.makeFiducials([[0, 0, 0]])
    asked = optionsOf(parameters)
    assert {key: asked[key] for key in ("method", "timesteps", "refine_iterations", "threads", "landmark_weight")} == {
        "method": "ann",
        "timesteps": 8,
        "refine_iterations": 0,
        "threads": 3,
        "landmark_weight": 0.1,
    }


def test_every_method_of_the_library_can_be_chosen(panel, parameters):
    from SpikeRegSlicerLib.parameters import Method, optionsOf

    combo = panel.ui.methodComboBox
    assert [method.value for method in Method] == ["", *METHODS] and combo.count == len(METHODS) + 1
    for row, method in enumerate(METHODS, 1):
        combo.currentIndex = row
        assert optionsOf(parameters)["method"] == method


def test_a_method_that_the_library_gets_later_is_called_by_its_name():
    from SpikeRegSlicerLib.parameters import _Methods

    assert _Methods("Method", {"LATER": "later"}).LATER.label() == "later"


def test_a_preview_takes_the_network_where_one_fits_and_else_a_few_steps(panel, parameters):
    from SpikeRegSlicerLib.parameters import Method
    from SpikeRegSlicerLib.widgets.live_part import previewOptions

    for preset, method, expected in (
        ("brain-t1", Method.PRESET, ("fast-preview", None, None)),
        ("brain-t1", Method.ANN, ("fast-preview", None, None)),
        ("brain-t1", Method.OPTIMIZE, ("brain-t1", "optimize", 5)),
        ("any-anatomy", Method.PRESET, ("any-anatomy", None, 5)),
        ("brain", Method.PRESET, ("brain", None, 5)),
        ("nephi", Method.PRESET, ("fast-preview", None, None)),
        ("nephi-any-anatomy", Method.PRESET, ("any-anatomy", None, 5)),
        ("brain-multicontrast", Method.PRESET, ("brain-multicontrast", None, 5)),
        ("brain-multicontrast", Method.OPTIMIZE, ("brain-multicontrast", "optimize", 5)),
    ):
        parameters.preset, parameters.method = preset, method
        options = previewOptions(parameters)
        assert (options["preset"], options.get("method"), options.get("refine_iterations")) == expected


def test_a_preview_asks_for_nothing_that_it_has_no_network_for(panel, parameters):
    from SpikeRegSlicerLib.widgets.live_part import previewOptions

    parameters.preset, parameters.timesteps = "nephi-any-anatomy", 3
    assert "timesteps" not in previewOptions(parameters)
    parameters.preset = "brain-t1"
    assert previewOptions(parameters)["timesteps"] == 3


def test_a_preview_reads_structures_as_the_run_before_it_did(panel, parameters):
    """Else the worker would look for them anew."""
    from SpikeRegSlicerLib.widgets.live_part import previewOptions

    for preset, maps, expected in (("brain", True, True), ("brain", False, False), ("brain-t1", True, False)):
        parameters.preset, parameters.spikeMaps = preset, maps
        assert previewOptions(parameters)["spike_maps"] is expected


def test_a_new_scene_has_the_librarys_default_preset():
    from SpikeRegSlicerLib.parameters import Parameters
    from SpikeRegSlicerLib.presets import DEFAULT

    parameters = Parameters(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    assert parameters.preset == DEFAULT == preset_for(None)


@pytest.mark.parametrize(
    ("preset", "method", "structures", "expected"),
    [
        ("brain", "PRESET", True, True),
        ("brain", "PRESET", False, False),
        ("brain", "SPIKEREG", False, True),
        ("brain-t1", "PRESET", True, True),
        ("brain-t1", "ANN", True, False),
        ("any-anatomy", "PRESET", True, False),
        ("spiking-nephi", "PRESET", True, True),
        ("nephi", "PRESET", True, False),
    ],
)
def test_spike_maps_are_asked_for_where_a_network_fires(panel, parameters, preset, method, structures, expected):
    from SpikeRegSlicerLib.parameters import Method

    tools.useStandIn(panel, "hang")
    parameters.preset, parameters.method, parameters.useStructures = preset, Method[method], structures
    panel.ui.runButton.click()
    (job,) = panel.logic.jobs
    assert job.options["spike_maps"] is expected
    panel.ui.runButton.click()


@pytest.mark.parametrize("preset", preset_names())
def test_a_preview_compares_images_as_the_chosen_preset_does(panel, parameters, preset):
    from SpikeRegSlicerLib.widgets.live_part import previewOptions

    parameters.preset = preset
    assert load_preset(previewOptions(parameters)["preset"]).similarity == load_preset(preset).similarity


def test_a_preview_with_a_network_of_ones_own_uses_that(panel, parameters):
    from SpikeRegSlicerLib.widgets.live_part import previewOptions

    from SpikeRegLib.presets.preset import PRESET_FOLDER

    text = (PRESET_FOLDER / "brain-t1.toml").read_text().replace('model = "brain-t1"', 'model = "liver.safetensors"', 1)
    parameters.preset, parameters.customPreset = "liver", text
    options = previewOptions(parameters)
    assert (options["preset"], options["preset_text"], options["refine_iterations"]) == ("liver", text, 5)


@pytest.mark.parametrize("kind", ["Linear", "BSpline", "Grid", ""])
def test_every_kind_of_transform_that_slicer_makes_can_be_chosen_to_start_from_and_to_fill(panel, parameters, kind):
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}TransformNode", "Loaded")
    gestures.chooseNode(panel.ui.initialTransformSelector, node)
    assert parameters.initialTransform is node and panel.ui.runButton.enabled
    gestures.chooseNode(panel.ui.initialTransformSelector, None)
    gestures.chooseNode(panel.ui.outputTransformSelector, node)
    assert parameters.outputTransform is node and panel.ui.runButton.enabled


@pytest.mark.parametrize(
    ("align", "initial", "expected"),
    [
        (True, False, {}),
        (False, False, {"skip_affine": True}),
        (True, True, {"align": True}),
        (False, True, {"align": False}),
    ],
)
def test_how_the_alignment_starts(panel, parameters, align, initial, expected):
    parameters.align = align
    if initial:
        parameters.initialTransform = slicer_scene.makeLinearTransform(slicer_scene.translation(5, 0, 0))
    tools.useStandIn(panel, "hang")
    panel.ui.runButton.click()
    (job,) = panel.logic.jobs
    keys = panel.logic._prepare(job)
    assert {key: keys[key] for key in ("align", "skip_affine") if key in keys} == expected
    assert ("initial_transform" in keys) == initial
    assert set(keys["outputs"]) < set(OUTPUT_NAMES)
    assert not {"inverse_transform.h5", "displacement.nii.gz", "report.html"} & set(keys["outputs"])
    panel.ui.runButton.click()


def test_presets_are_described_where_they_are_chosen(panel):
    combo = panel.ui.presetComboBox
    assert sorted(combo.itemText(row) for row in range(combo.count)) == preset_names()
    for name in preset_names():
        gestures.chooseText(panel.ui.presetComboBox, name)
        assert panel.ui.presetDescriptionLabel.text == load_preset(name).description


def test_a_preset_is_saved_with_the_choices_and_loaded_into_the_scene(panel, parameters, tmp_path):
    gestures.chooseText(panel.ui.presetComboBox, "any-anatomy")
    panel.ui.refineIterationsSpinBox.value = 3
    panel.ui.regularisationSlider.value = 2.0
    path = tmp_path / "hippocampus.toml"
    dialogs.answer("file", str(path.with_suffix("")), str(path))
    panel.ui.savePresetButton.click()
    saved = load_preset(path)
    assert [level.iterations for level in saved.refine.levels] == [3, 3, 3] and saved.regularisation == 2
    panel.ui.loadPresetButton.click()
    assert panel.ui.presetComboBox.currentText == "hippocampus (in this scene)"
    path.unlink()
    tools.saveAndReload()
    from SpikeRegSlicerLib.presets import presetOf

    assert presetOf(panel.panel.parameters) == saved
    assert panel.ui.presetComboBox.currentText == "hippocampus (in this scene)"
    gestures.chooseText(panel.ui.presetComboBox, "brain-t1")
    assert panel.panel.parameters.customPreset == "" and panel.ui.presetComboBox.count == len(preset_names())


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("method", METHODS)
def test_any_preset_can_be_saved_with_any_method_and_keeps_a_network_that_fits(parameters, tmp_path, name, method):
    from SpikeRegSlicerLib.parameters import Method
    from SpikeRegSlicerLib.presets import save

    parameters.preset, parameters.method = name, Method(method)
    shipped = load_preset(name)
    try:
        saved = load_preset(save(parameters, str(tmp_path / "mine.toml")))
    except InputError as error:  # a preset without a network says so
        assert "needs a model" in str(error) and not shipped.model
        return
    assert saved.method == method
    fields = {method, shipped.method} & set(FIELD_METHODS)
    suits = load_preset(preset_for(method)) if fields and method != shipped.method else shipped
    assert (saved.model, saved.field) == (suits.model, suits.field)


def test_a_preset_from_the_scene_reaches_the_worker_whole_in_a_file_of_the_runs_folder(panel, parameters):
    from SpikeRegLib.presets.preset import PRESET_FOLDER, parse_preset

    parameters.customPreset = (PRESET_FOLDER / "nephi.toml").read_text()
    tools.useStandIn(panel, "hang")
    parameters.preset = "mine, and others' too"
    panel.ui.runButton.click()
    (job,) = panel.logic.jobs
    path = panel.logic._prepare(job)["preset"]
    assert path == str(Path(panel.logic.exchange.inputsFolder()) / "preset.toml")
    assert load_preset(path) == parse_preset(parameters.customPreset, "mine, and others' too")
    panel.ui.runButton.click()


@pytest.mark.parametrize(
    ("text", "words"),
    [("method = 3", "mine.toml"), ("not toml", "not a valid TOML file")],
)
def test_a_bad_preset_file_is_named_and_changes_nothing(panel, parameters, tmp_path, text, words):
    (tmp_path / "mine.toml").write_text(text)
    dialogs.answer("file", str(tmp_path / "mine.toml"))
    panel.ui.loadPresetButton.click()
    assert words in tools.message(panel) and parameters.preset == "fast-preview" and not parameters.customPreset


def test_a_preset_whose_name_was_completed_replaces_nothing_that_nobody_was_asked_about(panel, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("a person's own")
    dialogs.answer("file", str(path.with_suffix("")), str(path))  # the dialog asks about the name that was given
    panel.ui.savePresetButton.click()
    assert "is there already" in tools.message(panel) and path.read_text() == "a person's own"
    panel.ui.savePresetButton.click()
    assert load_preset(path)


def test_a_preset_that_cannot_be_written_is_said(panel, tmp_path):
    dialogs.answer("file", str(tmp_path / "no" / "such" / "folder.toml"))
    panel.ui.savePresetButton.click()
    assert "folder.toml" in tools.message(panel) and "cannot be written" in tools.message(panel)
