"""A scene from somebody else: its texts are texts, and never a path, a command or markup."""

from __future__ import annotations

import json
import re

import module_tools as tools
import pytest
import slicer
import slicer_scene
from host import dialogs, gestures
from PySide6.QtCore import Qt

from SpikeRegLib.presets.preset import PRESET_FOLDER

pytestmark = pytest.mark.usefixtures("scene")
TEXT = (PRESET_FOLDER / "any-anatomy.toml").read_text()
MARKUP = '<img src="x"><b>bold</b>&amp;'


@pytest.fixture
def panel(pairChosen):
    """The panel with two volumes chosen, and a worker that hangs."""
    tools.useStandIn(pairChosen, "hang")
    yield pairChosen
    dialogs.reset()


def choosePreset(panel, name: str, text: str = "") -> None:
    """As a scene that was opened has it."""
    with slicer.util.NodeModify(panel.panel.parameters):
        panel.panel.parameters.customPreset = text
        panel.panel.parameters.preset = name


@pytest.mark.parametrize("isInTheText", [False, True])
@pytest.mark.parametrize("name", ["{folder}/evil", "../../{folder}/evil", "C:\\evil"])
def test_the_name_of_a_preset_is_no_path(panel, tmp_path, name, isInTheText):
    name = name.format(folder=tmp_path)
    if isInTheText:
        choosePreset(panel, "mine", f"name = {json.dumps(name)}\n{TEXT}")
    else:
        choosePreset(panel, name, TEXT)
    assert "must be a name" in panel.ui.presetDescriptionLabel.text
    panel.ui.runButton.click()
    tools.part(panel, "LivePart").preview()
    assert panel.ui.runButton.text == "Run" and "must be a name" in tools.message(panel)
    assert list(tmp_path.iterdir()) == [] and not [path for path in tools.filesLeft() if "evil" in path]


def test_a_preset_that_is_only_named_is_one_of_the_librarys(panel, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace("description = ", "description = 'read from a file'\n# "))
    choosePreset(panel, str(path))
    assert "unknown here; choose another one" in panel.ui.presetDescriptionLabel.text
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Run" and "unknown here" in tools.message(panel)
    tools.part(panel, "LivePart").preview()
    assert "No preview" in tools.message(panel) and "unknown here" in tools.message(panel)


def test_files_that_a_preset_of_the_scene_wants_read_are_asked_about_once(panel, tmp_path):
    text = (PRESET_FOLDER / "brain-t1.toml").read_text()
    model = str(tmp_path / "weights.safetensors").replace("\\", "/")
    choosePreset(panel, "mine", text.replace('model = "brain-t1"', f'model = "{model}"', 1))
    tools.part(panel, "LivePart").preview()
    assert "No preview" in tools.message(panel) and not panel.logic.jobs
    dialogs.answer("confirm", False, True)
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Run"
    for _ in range(2):
        panel.ui.runButton.click()
        assert panel.ui.runButton.text == "Cancel"
        panel.ui.runButton.click()
    assert len(dialogs.texts("confirm")) == 2 and all(model in text for text in dialogs.texts("confirm"))


def test_no_label_guesses_whether_its_text_is_markup(panel):
    widgets = tools.MODULE.parent / "SpikeRegSlicerLib" / "widgets"
    sources = [path.read_text() for path in widgets.glob("*.py")]
    changing = {name for source in sources for name in re.findall(r"ui\.(\w+Label)\.text = ", source)}
    assert len(changing) > 7
    kinds = {name: getattr(panel.ui, name).textFormat for name in changing}
    assert [name for name, kind in kinds.items() if kind == Qt.TextFormat.AutoText] == ["compareSliderLabel"]


def test_markup_in_names_is_shown_as_it_stands(panel):
    choosePreset(panel, "mine", TEXT.replace("description = ", f"description = {json.dumps(MARKUP)}\n# "))
    label = panel.ui.presetDescriptionLabel
    assert label.text == MARKUP and label.textFormat == Qt.TextFormat.PlainText
    volume = panel.ui.fixedSelector.currentNode()
    volume.SetName(MARKUP)
    gestures.chooseNode(panel.ui.movingSelector, volume)
    for text in (panel.ui.runButton.toolTip, panel.ui.queueButton.toolTip, tools.message(panel)):
        assert "&lt;img src=" in text and "<img" not in text
    assert panel.ui.runButton.toolTip.startswith("<qt>")


def hostile(value):
    """The same JSON with markup in every text."""
    if isinstance(value, dict):
        return {key: hostile(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return MARKUP if isinstance(value, str) else value


RESULT = {
    "method": "spikereg", "preset": "p", "model": {"name": "m", "sha256": "s"}, "device": "cpu", "seed": 0,
    "versions": {"spikereg": "1", "torch": "2"}, "inputs": {"fixed": "f", "moving": "m"}, "schema": 1,
    "timing_s": {"prepare": 1.0, "align": 1.0, "predict": 1.0, "refine": 1.0, "finish": 1.0, "total": 5.0},
    "similarity": {"lncc_before": 0.1, "lncc_after": 0.8, "measure": "lncc"},
    "deformation": {"folding_percent": 0.0, "max_mm": 9.0},
    "dice": {"before_mean": 0.1, "after_mean": 0.7, "per_label": {"1": 0.7}}, "label_names": {"1": "hippocampus"},
    "spikes": {"timesteps": 4, "mean_rate": 0.1, "layers": [{"name": "enc0", "rate": 0.1, "count": 3}]},
    "energy": {"mac_pj": 4.6, "ac_pj": 0.9, "snn_mj": 1.0, "ann_mj": 2.0, "reduction_vs_twin": 2.0},
    "verdict": {"level": "good", "reasons": ["because"]}, "warnings": ["a warning"],
}  # fmt: skip


def storedRun(panel, result):
    """A run as it lies in a scene that was saved with this result."""
    from SpikeRegSlicerLib.scene.hierarchy import RunFolder

    folder = RunFolder("Run")
    transform = slicer_scene.makeLinearTransform(slicer_scene.translation(1, 2, 3), "T")
    folder.add(transform, "transform")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "result")
    node.SetText(result if isinstance(result, str) else json.dumps(result))
    folder.add(node, "result")
    panel.panel.showRuns()
    return transform


def test_no_text_of_a_result_is_markup_in_panel_or_report(panel, tmp_path):
    from SpikeRegSlicerLib.scene.review import setReview

    for result in (RESULT, hostile(RESULT)):
        transform = storedRun(panel, result)
        setReview(transform, "accepted", MARKUP, MARKUP)
        panel.panel.showRuns()
        assert "<img" not in panel.ui.verdictLabel.text
        assert panel.ui.reviewLabel.text.startswith("Accepted by")
        dialogs.answer("file", str(tmp_path / "report.html"))
        panel.ui.reportButton.click()
        page = (tmp_path / "report.html").read_text()
        assert '<img src="x"' not in page and "<b>bold" not in page
    assert "&lt;img" in page and "&lt;img" in panel.ui.verdictLabel.text


def test_a_result_of_another_shape_does_not_keep_the_panel_from_opening(panel):
    transform = storedRun(panel, RESULT)
    (node,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
    wrongs = [{**RESULT, name: wrong} for name in RESULT for wrong in ("a text", 7, ["a list"], None, {"a": "table"})]
    for text in [*map(json.dumps, wrongs), "[1, 2]", '"text"', "7", "{", "[" * 5000]:
        node.SetText(text)
        panel.panel.showRuns()
        assert panel.panel.run.transform is transform


def test_a_sound_result_is_read_back_as_it_was(panel):
    result = {**RESULT, "hd95_mm": None, "tre_mm": None}
    storedRun(panel, result)
    assert panel.panel.run.result == result


def test_neither_does_a_broken_review(panel):
    transform = storedRun(panel, RESULT)
    for broken in ("{", "%5B1%5D", "%7B%22decision%22%3A%22launched%22%7D", "null"):
        transform.SetAttribute("SpikeReg.Review", broken)
        panel.panel.showRuns()
        assert panel.ui.reviewLabel.text == "Not reviewed yet."
