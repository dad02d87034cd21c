"""`slicer.qMRMLNodeComboBox`: a list of the scene's nodes that follows the scene."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .observing import Observation
from .properties import exposeStandIn, native, stored
from .qt_module import qt
from .widgets_ctk import paintElided


class _ElidedComboBox(QtWidgets.QComboBox):
    """Long names are cut in the middle, as Slicer's node selectors do it."""

    def paintEvent(self, _event) -> None:
        paintElided(self, QtCore.Qt.ElideMiddle)


@exposeStandIn(slicer)
class qMRMLNodeComboBox(qt.QWidget):
    """A drop-down list of the scene's nodes of some classes; not a QComboBox, but it contains one."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeTypes = stored("QStringList", "nodeTypes", [], after="_refresh")
    showHidden = stored(bool, "showHidden", False, after="_refresh")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, after="_refresh")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], after="_refresh")
    baseName = stored(str, "baseName", "")
    noneEnabled = stored(bool, "noneEnabled", False, after="_refresh")
    noneDisplay = stored(str, "noneDisplay", "None", after="_refresh")
    addEnabled = stored(bool, "addEnabled", True, after="_refresh")
    removeEnabled = stored(bool, "removeEnabled", True, after="_refresh")
    editEnabled = stored(bool, "editEnabled", False, after="_refresh")
    renameEnabled = stored(bool, "renameEnabled", False, after="_refresh")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._current, self._requested, self._nodes, self._attributes = None, None, None, [], []
        self._observation: Observation | None = None
        self._names: dict[object, Observation] = {}
        self._shownNames: list[str] = []
        self._combo = _ElidedComboBox()
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._onActivated)
        QtWidgets.QWidget.setEnabled(self, False)
        self._refresh()

    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current else "", lambda self, to: self.setCurrentNode(to)
    )

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        if self._observation:
            self._observation.end()
        self._scene = scene
        if scene:
            whenChanged = dict.fromkeys((scene.NodeRemovedEvent, scene.EndBatchProcessEvent), "_onSceneChanged")
            withNode = {
                scene.NodeAddedEvent: "_onNodeAdded",
                scene.NodeAboutToBeRemovedEvent: "_onNodeAboutToBeRemoved",
            }
            self._observation = Observation(self, scene, whenChanged, withNode)
        self._refresh()
        first = self._nodes[0] if self._nodes and not native(self, "noneEnabled") else None
        self.setCurrentNode(self._requested or self._current or first)
        self._requested = None
        QtWidgets.QWidget.setEnabled(self, scene is not None)
        native(self, "mrmlSceneChanged").emit(scene)

    def currentNode(self):
        return self._current

    def setCurrentNode(self, node) -> None:
        """A node, or the identifier of one; None or a node that is not offered selects nothing.

        Without a scene the wish is kept until there is one.
        """
        if self._scene is None:
            self._requested = node
            return
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene and node else None
        if node is not None and node not in self._nodes:
            node = None
        if node is self._current:
            return
        self._current = node
        self._show()
        native(self, "currentNodeChanged").emit(node)
        native(self, "currentNodeIDChanged").emit(node.GetID() if node else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int):
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addAttribute(self, nodeType: str, name: str, value=None) -> None:
        """Offer nodes of this class only where they have the attribute (with this value)."""
        self._attributes.append((nodeType, name, value))
        self._refresh()

    def addNode(self, className: str = ""):
        """What the entry "Create new ..." does."""
        className = className or self.__dict__.get("_nodeTypes", [""])[0]
        node = self._scene.CreateNodeByClass(className)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self.__dict__.get("_baseName") or node.GetNodeTagName()))
        self._scene.AddNode(node)
        if native(self, "selectNodeUponCreation"):
            self.setCurrentNode(node)
        native(self, "nodeAddedByUser").emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self._current:
            self._scene.RemoveNode(self._current)

    def _offered(self) -> list:
        types = self.__dict__.get("_nodeTypes", [])
        nodes = _items(self._scene.GetNodes()) if self._scene else []
        return [node for node in nodes if any(node.IsA(kind) and self._accepts(node, kind) for kind in types)]

    def _accepts(self, node, className: str) -> bool:
        if node.GetHideFromEditors() and not native(self, "showHidden"):
            return False
        if not native(self, "showChildNodeTypes") and node.GetClassName() != className:
            return False
        if any(node.IsA(hidden) for hidden in native(self, "hideChildNodeTypes")):
            return False
        return all(
            node.GetAttribute(name) is not None and (value is None or node.GetAttribute(name) == str(value))
            for nodeType, name, value in self._attributes
            if node.IsA(nodeType)
        )

    def _refresh(self) -> None:
        """Follow the scene as a QComboBox follows its model.

        Where the chosen entry goes, the one above it is chosen. Of a list that was empty the first entry is chosen,
        but only if there is no entry for None and none to create or delete nodes.
        """
        if "_combo" not in self.__dict__:
            return
        before = [node for _, node in self._entries()]
        self._nodes = self._offered()
        self._watchNames()
        chosen = self._current
        if chosen is not None and chosen not in self._nodes:
            above = before[before.index(chosen) - 1] if before.index(chosen) else None
            chosen = above if above in self._nodes else None
        elif chosen is None and not before and self._nodes and not self._actions():
            chosen = self._nodes[0]
        if chosen is not self._current:
            self.setCurrentNode(chosen)
        self._show()

    def _watchNames(self) -> None:
        kept = {node: watch for node, watch in self._names.items() if node in self._nodes}
        for node, watch in self._names.items():
            if node not in kept:
                watch.end()
        new = [node for node in self._nodes if node not in kept]
        kept.update((node, Observation(self, node, {vtk.vtkCommand.ModifiedEvent: "_onNodeModified"})) for node in new)
        self._names = kept

    def _onNodeModified(self) -> None:
        if self._shownNames != [node.GetName() for node in self._nodes]:
            before = self._combo.currentText()
            self._show()
            if self._combo.currentText() != before:  # a new name of the chosen node counts as a change, as in Slicer
                native(self, "currentNodeChanged").emit(self._current)

    def _entries(self) -> list[tuple[str, object]]:
        entries = [(native(self, "noneDisplay"), None)] if native(self, "noneEnabled") else []
        return entries + [(node.GetName(), node) for node in self._nodes]

    def _show(self) -> None:
        self._shownNames = [node.GetName() for node in self._nodes]
        self._combo.blockSignals(True)
        self._combo.clear()
        entries = self._entries()
        for text, _ in entries:
            self._combo.addItem(text)
        actions = self._actions()
        if entries and actions:
            self._combo.insertSeparator(len(entries))
        for text, _ in actions:
            self._combo.addItem(text)
        chosen = [index for index, (_, node) in enumerate(entries) if node is self._current]
        self._combo.setCurrentIndex(chosen[0] if chosen else -1)
        if not chosen:
            self._combo.setPlaceholderText(f"Select a {self._label()}")
        self._combo.blockSignals(False)

    def _label(self) -> str:
        return _label(self.__dict__.get("_nodeTypes", [])[:1])

    def _actions(self) -> list[tuple[str, str]]:
        types = self.__dict__.get("_nodeTypes", [])
        label, actions = _label(types if len(types) == 1 else []), []
        if native(self, "renameEnabled"):
            actions.append((f"Rename current {label}", "rename"))
        if native(self, "addEnabled"):
            actions += [(f"Create new {_label([one])}", f"add {one}") for one in types]
        if native(self, "removeEnabled"):
            actions.append((f"Delete current {label}", "remove"))
        return actions

    def _onActivated(self, index: int) -> None:
        entries = self._entries()
        if index < len(entries):
            self.setCurrentNode(entries[index][1])
            native(self, "nodeActivated").emit(self._current)
            return
        action = dict(self._actions()).get(self._combo.itemText(index))
        self._show()
        if action is None:
            return
        if action.startswith("add"):
            self.addNode(action.removeprefix("add "))
        elif action == "remove":
            self.removeCurrentNode()
        elif self._current:
            self._current.SetName(qt.QInputDialog.getText(self, "Rename", "New name:"))
            native(self, "currentNodeRenamed").emit(self._current.GetName())

    def _onNodeAdded(self, node) -> None:
        if not self._scene.IsBatchProcessing():
            self._refresh()
            if node in self._nodes:
                native(self, "nodeAdded").emit(node)

    def _onNodeAboutToBeRemoved(self, node) -> None:
        if node in self._nodes:
            native(self, "nodeAboutToBeRemoved").emit(node)

    def _onSceneChanged(self) -> None:
        if not self._scene.IsBatchProcessing():
            self._refresh()


def _label(nodeTypes: list[str]) -> str:
    return nodeTypes[0].removeprefix("vtkMRML").removesuffix("Node") if nodeTypes else "node"


def _items(collection) -> list:
    return [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]
