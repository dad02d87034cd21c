"""slicer.parameterNodeWrapper: typed values in the node, in a saved scene, and in widgets."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated, Optional, Union

import ctk
import pytest
import qt
import slicer
import vtk
from host import gestures
from slicer.parameterNodeWrapper import (
    Choice,
    Decimals,
    Default,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

pytestmark = pytest.mark.usefixtures("scene")


class Method(enum.Enum):
    SPIKING = "spikereg"
    DENSE = "ann"

    def label(self) -> str:
        return self.value.upper()


@parameterNodeWrapper
class Toy:
    volume: slicer.vtkMRMLScalarVolumeNode
    labels: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    maybe: Optional[slicer.vtkMRMLModelNode]  # noqa: UP045
    name: str = "run"
    count: Annotated[int, Minimum(1)] = 4
    weight: Annotated[float, WithinRange(0, 10), Decimals(1), SingleStep(0.5)] = 1.5
    exact: bool = True
    preset: Annotated[str, Choice(["brain", "fast"])] = "fast"
    method: Method = Method.DENSE
    folder: pathlib.Path = pathlib.Path("/tmp/a")
    places: list[float]
    size: tuple[int, int]
    level: Annotated[int, Default(3), Maximum(9)]


def newToy(prefix: str | None = None) -> Toy:
    return Toy(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Toy"), prefix)


def volume(name: str = "Volume", className: str = "vtkMRMLScalarVolumeNode"):
    return slicer.mrmlScene.AddNewNodeByClass(className, name)


def test_defaults_are_in_the_node_at_once():
    toy = newToy()
    assert isParameterNodeWrapper(toy) and isParameterNodeWrapper(Toy)
    assert (toy.volume, toy.labels, toy.maybe, toy.name, toy.count) == (None, None, None, "run", 4)
    assert (toy.weight, toy.exact, toy.preset, toy.method, toy.level) == (1.5, True, "fast", Method.DENSE, 3)
    assert (toy.folder, toy.places, toy.size) == (pathlib.Path("/tmp/a"), [], (0, 0))
    assert toy.parameterNode.GetParameter("method") == "DENSE"
    assert toy.default("count").value == 4


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("count", 0, ValueError),
        ("count", 1.5, TypeError),
        ("count", None, ValueError),
        ("weight", 11, ValueError),
        ("exact", 1, TypeError),
        ("preset", "slow", ValueError),
        ("method", "ann", TypeError),
        ("level", 10, ValueError),
        ("name", 3, TypeError),
        ("folder", "/tmp", TypeError),
        ("places", [1.0, "x"], TypeError),
    ],
)
def test_value_that_does_not_fit_is_refused_and_the_old_one_stays(name, value, error):
    toy = newToy()
    before = toy.getValue(name)
    with pytest.raises(error):
        setattr(toy, name, value)
    assert toy.getValue(name) == before == Toy(toy.parameterNode).getValue(name)


def test_node_of_another_class_is_refused():
    toy = newToy()
    with pytest.raises(TypeError):
        toy.volume = volume(className="vtkMRMLModelNode")
    with pytest.raises(TypeError):
        toy.labels = volume(className="vtkMRMLModelNode")
    assert toy.volume is None and toy.labels is None


def test_list_writes_every_change_and_refuses_what_would_be_lost():
    toy = newToy()
    toy.places = [1, 2.5]
    toy.places.append(4.0)
    toy.places[0] = 0.5
    del toy.places[1]
    assert Toy(toy.parameterNode).places == [0.5, 4.0]
    with pytest.raises(TypeError):
        _ = toy.places + [1.0]


def test_everything_survives_saving_and_loading_the_scene(tmp_path):
    toy = newToy()
    image, labels = volume("Fixed"), volume("Labels", "vtkMRMLLabelMapVolumeNode")
    toy.volume, toy.labels, toy.name, toy.count, toy.weight = image, labels, 'ä <&> "x"; 1:2', 7, 0.1
    toy.exact, toy.preset, toy.method, toy.folder = False, "brain", Method.SPIKING, pathlib.Path("/data/my pairs")
    toy.places, toy.size = [1.25, -3.0], (3, 4)
    path = str(tmp_path / "scene.mrml")
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Commit(path)
    slicer.mrmlScene.Clear(False)
    volume("takes the first identifier")
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Import()
    loaded = Toy(slicer.util.getFirstNodeByClassByName("vtkMRMLScriptedModuleNode", "Toy"))
    assert loaded.parameterNode is not toy.parameterNode
    assert (loaded.volume.GetName(), loaded.labels.GetName(), loaded.maybe) == ("Fixed", "Labels", None)
    assert (loaded.name, loaded.count, loaded.weight) == ('ä <&> "x"; 1:2', 7, 0.1)
    assert (loaded.exact, loaded.preset, loaded.method) == (False, "brain", Method.SPIKING)
    assert (loaded.folder, loaded.places, loaded.size) == (pathlib.Path("/data/my pairs"), [1.25, -3.0], (3, 4))


def test_reference_follows_a_new_name_and_ends_with_its_node():
    toy = newToy()
    toy.volume = image = volume("before")
    image.SetName("after")
    assert toy.volume.GetName() == "after"
    slicer.mrmlScene.RemoveNode(image)
    assert toy.volume is None


def test_closed_scene_brings_the_defaults_back_to_a_singleton():
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetSingletonTag("Toy")
    toy = Toy(slicer.mrmlScene.AddNode(node))
    toy.weight, toy.volume = 9, volume()
    slicer.mrmlScene.Clear(False)
    assert (toy.weight, toy.volume, Toy(toy.parameterNode).weight) == (1.5, None, 1.5)


def test_two_sets_in_one_node_by_prefix():
    first = newToy("a.")
    second = Toy(first.parameterNode, "b.")
    first.count, second.count = 5, 6
    assert (first.count, second.count) == (5, 6)


def test_observer_hears_one_event_for_a_block_of_changes():
    toy, heard = newToy(), []
    tag = toy.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: heard.append((toy.count, toy.name)))
    with slicer.util.NodeModify(toy):
        toy.count, toy.name = 8, "b"
    assert heard == [(8, "b")]
    toy.RemoveObserver(tag)
    toy.count = 9
    assert len(heard) == 1


def test_unknown_types_and_names_are_errors():
    with pytest.raises(TypeError, match="cannot store"):

        @parameterNodeWrapper
        class _Bad:
            thing: complex

    with pytest.raises(ValueError, match="reserved name"):

        @parameterNodeWrapper
        class _Taken:
            default: int

    with pytest.raises(ValueError, match="Cannot find a param"):
        newToy().getValue("wieght")


# --- widgets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ui():
    top = slicer.qMRMLWidget()
    layout = qt.QVBoxLayout(top)
    kinds = {
        "volume": slicer.qMRMLNodeComboBox,
        "name": qt.QLineEdit,
        "count": qt.QSpinBox,
        "weight": ctk.ctkSliderWidget,
        "exact": qt.QCheckBox,
        "preset": qt.QComboBox,
        "method": ctk.ctkComboBox,
        "folder": ctk.ctkPathLineEdit,
    }
    for name, kind in kinds.items():
        widget = kind()
        widget.name = f"{name}Widget"
        widget.setProperty("SlicerParameterName", name)
        layout.addWidget(widget)
    top.volumeWidget.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    top.volumeWidget.noneEnabled = True
    top.volumeWidget.setMRMLScene(slicer.mrmlScene)
    made = slicer.util.childWidgetVariables(top)
    made.top = top
    return made


def connected(ui) -> tuple[Toy, int]:
    toy = newToy()
    return toy, toy.connectGui(ui.top)


def test_node_shows_in_the_widgets_with_limits_and_choices(ui):
    toy, _ = connected(ui)
    assert (ui.nameWidget.text, ui.countWidget.value, ui.weightWidget.value) == ("run", 4, 1.5)
    assert (ui.countWidget.minimum, ui.countWidget.maximum) == (1, 2**31 - 1)
    assert (ui.weightWidget.minimum, ui.weightWidget.maximum) == (0, 10)
    assert (ui.weightWidget.decimals, ui.weightWidget.singleStep) == (1, 0.5)
    assert [ui.presetWidget.itemText(index) for index in range(ui.presetWidget.count)] == ["brain", "fast"]
    assert (ui.presetWidget.currentText, ui.methodWidget.currentText) == ("fast", "ANN")
    toy.volume, toy.count, toy.exact, toy.method = volume(), 12, False, Method.SPIKING
    assert (ui.volumeWidget.currentNode(), ui.countWidget.value, ui.exactWidget.checked) == (toy.volume, 12, False)
    assert ui.methodWidget.currentText == "SPIKEREG"


def test_widgets_write_to_the_node(ui):
    toy, _ = connected(ui)
    image = volume()
    gestures.chooseNode(ui.volumeWidget, image)
    gestures.chooseText(ui.presetWidget, "brain")
    gestures.chooseText(ui.methodWidget, "SPIKEREG")
    ui.exactWidget.click()
    ui.nameWidget.text, ui.countWidget.value, ui.weightWidget.value = "b", 2, 3.5
    ui.folderWidget.currentPath = "/c"
    assert (toy.volume, toy.preset, toy.method, toy.exact) == (image, "brain", Method.SPIKING, False)
    assert (toy.name, toy.count, toy.weight, toy.folder) == ("b", 2, 3.5, pathlib.Path("/c"))
    slicer.mrmlScene.RemoveNode(image)
    assert toy.volume is None and ui.volumeWidget.currentNode() is None


def test_disconnected_widgets_and_node_go_their_own_ways(ui):
    toy, tag = connected(ui)
    toy.disconnectGui(tag)
    ui.countWidget.value = 30
    toy.name = "other"
    assert (toy.count, ui.nameWidget.text) == (4, "run")
    toy.disconnectGui(tag)


def test_child_widget_variables_connect_as_well():
    top, line = slicer.qMRMLWidget(), qt.QLineEdit()
    line.name = "line"
    line.setProperty("SlicerParameterName", "name")
    qt.QVBoxLayout(top).addWidget(line)
    toy = newToy()
    toy.connectGui(slicer.util.childWidgetVariables(top))
    line.text = "typed"
    assert toy.name == "typed"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(qt.QPlainTextEdit, "name"), (qt.QSpinBox, "weight"), (qt.QLineEdit, "count"), (qt.QSlider, "count")],
)
def test_pairs_that_slicer_does_not_connect_are_errors(kind, name):
    with pytest.raises(RuntimeError, match=r"Unable to create GUI connector|slider needs"):
        newToy().connectParametersToGui({name: kind()})
