"""The stand-ins for CTK's and Slicer's widgets: what they hold, hide, follow and draw."""

from __future__ import annotations

import ctk
import numpy as np
import pytest
import qt
import slicer
import slicer_scene
from host import dialogs, gestures

pytestmark = pytest.mark.usefixtures("scene")


def section(widget: qt.QWidget, *children: qt.QWidget) -> qt.QWidget:
    layout = qt.QVBoxLayout(widget)
    for child in children:
        layout.addWidget(child)
    return widget


def pixels(widget: qt.QWidget) -> np.ndarray:
    """[height, width] grey values of how the widget looks."""
    slicer.app.processEvents()
    image = widget.grab().toImage().convertToFormat(qt.QImage.Format_Grayscale8)
    values = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return values[:, : image.width()].copy()


@pytest.mark.parametrize("kind", [ctk.ctkCollapsibleButton, ctk.ctkCollapsibleGroupBox])
def test_collapsing_hides_the_children_and_shrinks_the_section(kind):
    button, hidden = qt.QPushButton("Run"), qt.QLabel("never shown")
    hidden.visible = False
    box = section(kind(), button, hidden)
    box.show()
    slicer.app.processEvents()
    tall = box.sizeHint.height()
    box.collapsed = True
    assert not button.visible and box.maximumHeight < tall
    box.collapsed = False
    assert button.visible and not hidden.visible and box.maximumHeight > tall


def test_child_added_to_a_collapsed_section_is_hidden_until_it_opens():
    box = section(ctk.ctkCollapsibleButton("Advanced"))
    box.collapsed = True
    box.show()
    spin = qt.QSpinBox()
    box.layout().addWidget(spin)
    slicer.app.processEvents()
    assert not spin.visible
    box.collapsed = False
    slicer.app.processEvents()
    assert spin.visible


def test_click_on_the_title_opens_and_closes_and_tells():
    box, seen = section(ctk.ctkCollapsibleButton("Advanced"), qt.QLabel("x")), []
    box.connect("contentsCollapsed(bool)", seen.append)
    box.click()
    box.click()
    assert seen == [True, False]
    assert box.checked


def test_title_and_arrow_are_drawn():
    box = section(ctk.ctkCollapsibleButton("Inputs"), qt.QLabel(""))
    box.resize(200, 80)
    box.show()
    opened = pixels(box)
    box.text = "Advanced"
    renamed = pixels(box)
    assert np.count_nonzero(opened != renamed) > 50, "the title is not drawn"
    box.collapsed = True
    arrow = (slice(0, 26), slice(0, 24))
    assert np.count_nonzero(pixels(box)[arrow] != renamed[arrow]) > 10, "the arrow does not turn"


def test_slider_with_spin_box_rounds_limits_and_tells_once():
    slider, seen = ctk.ctkSliderWidget(), []
    slider.decimals, slider.minimum, slider.maximum, slider.singleStep = 1, -2, 4, 0.5
    slider.valueChanged.connect(seen.append)
    slider.value = 1.26
    slider.value = 1.3
    slider.value = 9
    assert (seen, slider.value) == ([1.3, 4.0], 4.0)
    assert slider._slider.value() == slider._slider.maximum() == 12
    slider._slider.setValue(3)
    assert slider.value == -0.5


def test_path_line_tells_its_path_and_its_button_asks():
    line, seen = ctk.ctkPathLineEdit(), []
    line.connect("currentPathChanged(QString)", seen.append)
    line.currentPath = "/a"
    dialogs.answer("file", "/b/c.toml", "")
    line.browse()
    line.browse()
    assert (seen, line.currentPath) == (["/a", "/b/c.toml"], "/b/c.toml")


# --- node selector ---------------------------------------------------------------------------------------------------


def selector(*nodeTypes: str, **properties) -> slicer.qMRMLNodeComboBox:
    made = slicer.qMRMLNodeComboBox()
    made.nodeTypes = list(nodeTypes)
    for name, value in properties.items():
        setattr(made, name, value)
    made.setMRMLScene(slicer.mrmlScene)
    return made


def newNode(className: str, name: str):
    return slicer.mrmlScene.AddNewNodeByClass(className, name)


def test_selector_that_offers_nodes_alone_takes_the_first_that_comes():
    box, seen = selector("vtkMRMLModelNode", addEnabled=False, removeEnabled=False), []
    box.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    first, second = newNode("vtkMRMLModelNode", "first"), newNode("vtkMRMLModelNode", "second")
    box.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    slicer.mrmlScene.RemoveNode(first)
    assert seen == [first, second, first, None]


def test_selector_that_also_makes_nodes_waits_for_a_choice():
    box = selector("vtkMRMLModelNode")
    node = newNode("vtkMRMLModelNode", "model")
    assert box.currentNode() is None
    assert selector("vtkMRMLModelNode").currentNode() is node, "a scene with nodes shows its first one"


def test_entry_above_is_chosen_where_the_chosen_node_goes():
    """As a QComboBox does: with "None" at the top, deleting the second of two nodes chooses the first."""
    box = selector("vtkMRMLModelNode", noneEnabled=True)
    first, second = newNode("vtkMRMLModelNode", "first"), newNode("vtkMRMLModelNode", "second")
    box.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert box.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert box.currentNode() is None


def test_choice_before_there_is_a_scene_is_kept_for_it():
    node, box = newNode("vtkMRMLModelNode", "model"), slicer.qMRMLNodeComboBox()
    box.nodeTypes, box.noneEnabled = ["vtkMRMLModelNode"], True
    box.setCurrentNode(node)
    assert box.currentNode() is None and not box.enabled
    box.setMRMLScene(slicer.mrmlScene)
    assert box.currentNode() is node and box.enabled


def test_selector_with_none_waits_for_a_choice():
    box = selector("vtkMRMLModelNode", noneEnabled=True)
    node = newNode("vtkMRMLModelNode", "model")
    assert (box.currentNode(), box.currentNodeID) == (None, "")
    gestures.chooseNode(box, node)
    assert (box.currentNode(), box.currentNodeID) == (node, node.GetID())
    gestures.chooseNode(box, None)
    assert box.currentNode() is None
    box.setCurrentNodeID(node.GetID())
    slicer.mrmlScene.Clear(False)
    assert box.currentNode() is None


def test_selector_offers_only_what_fits():
    volume = slicer_scene.makeVolume(np.zeros((2, 2, 2)), name="image")
    labels = slicer_scene.makeVolume(np.zeros((2, 2, 2), np.int16), name="labels", labels=True)
    hidden = newNode("vtkMRMLScalarVolumeNode", "hidden")
    hidden.SetHideFromEditors(True)
    marked = newNode("vtkMRMLScalarVolumeNode", "marked")
    marked.SetAttribute("SpikeReg", "1")
    box = selector("vtkMRMLScalarVolumeNode")
    assert [box.nodeFromIndex(index) for index in range(box.nodeCount())] == [volume, labels, marked]
    box.showChildNodeTypes = False
    assert [box.nodeFromIndex(index) for index in range(box.nodeCount())] == [volume, marked]
    box.addAttribute("vtkMRMLScalarVolumeNode", "SpikeReg", "1")
    assert [box.nodeFromIndex(index) for index in range(box.nodeCount())] == [marked]
    box.setCurrentNode(volume)
    assert box.currentNode() is None


def test_selector_makes_renames_and_deletes_nodes():
    box, added = selector("vtkMRMLTransformNode", baseName="Result", renameEnabled=True), []
    box.nodeAddedByUser.connect(added.append)
    menu = [box._combo.itemText(index) for index in range(box._combo.count())]
    box._onActivated(menu.index("Create new Transform"))
    node = box.currentNode()
    assert added == [node] and node.GetName() == "Result"
    dialogs.answer("text", "Final")
    menu = [box._combo.itemText(index) for index in range(box._combo.count())]
    box._onActivated(menu.index("Rename current Transform"))
    assert node.GetName() == "Final"
    menu = [box._combo.itemText(index) for index in range(box._combo.count())]
    box._onActivated(menu.index("Delete current Transform"))
    assert box.currentNode() is None and node.GetScene() is None
    box.addEnabled = box.removeEnabled = box.renameEnabled = False
    assert box._combo.count() == 0


def test_selector_shows_a_new_name_and_tells_of_it():
    box, told = selector("vtkMRMLModelNode"), []
    box.setCurrentNode(newNode("vtkMRMLModelNode", "before"))
    box.currentNodeChanged.connect(lambda node: told.append(node.GetName()))
    box.currentNode().SetName("after")
    assert (box._combo.currentText(), told) == ("after", ["after"])


def test_checkable_selector_keeps_what_is_ticked():
    box = slicer.qMRMLCheckableNodeComboBox()
    box.nodeTypes = ["vtkMRMLModelNode"]
    box.setMRMLScene(slicer.mrmlScene)
    changes = []
    box.checkedNodesChanged.connect(lambda: changes.append(len(box.checkedNodes())))
    first, second = newNode("vtkMRMLModelNode", "a"), newNode("vtkMRMLModelNode", "b")
    assert box.noneChecked()
    box.setCheckState(first, qt.Qt.Checked)
    gestures.chooseNode(box, second)
    assert box.allChecked() and changes == [1, 2]
    slicer.mrmlScene.RemoveNode(first)
    assert (box.checkedNodes(), box.uncheckedNodes(), box.checkState(second)) == ([second], [], qt.Qt.Checked)


def test_deleted_selector_observes_the_scene_no_more():
    parent = qt.QWidget()
    box = slicer.qMRMLNodeComboBox(parent)
    box.nodeTypes = ["vtkMRMLModelNode"]
    box.setMRMLScene(slicer.mrmlScene)
    scene = slicer.mrmlScene
    assert scene.HasObserver(scene.NodeAddedEvent)
    parent.deleteLater()
    slicer.app.sendPostedEvents(None, qt.QEvent.DeferredDelete)
    newNode("vtkMRMLModelNode", "late")


def test_table_view_shows_the_table_and_follows_it():
    table = newNode("vtkMRMLTableNode", "Metrics")
    slicer.util.updateTableFromArray(table, [np.array([1.5, 2.5])], ["Dice"])
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(table)
    assert (view.rowCount, view.columnCount, view.horizontalHeaderItem(0).text()) == (2, 1, "Dice")
    slicer.util.updateTableFromArray(table, [np.array([7.0])], ["Dice"])
    assert (view.rowCount, view.item(0, 0).text()) == (1, "7")
