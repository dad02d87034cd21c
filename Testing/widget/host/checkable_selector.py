"""`slicer.qMRMLCheckableNodeComboBox`: a list of nodes of which several are ticked."""

from __future__ import annotations

import slicer
from PySide6 import QtCore
from PySide6.QtCore import Signal

from .node_selectors import qMRMLNodeComboBox
from .properties import exposeStandIn, native


@exposeStandIn(slicer)
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Several nodes can be ticked; unticked at first."""

    checkedNodesChanged = Signal()

    def checkState(self, node) -> QtCore.Qt.CheckState:
        return QtCore.Qt.Checked if node in self._ticked() else QtCore.Qt.Unchecked

    def setCheckState(self, node, state: QtCore.Qt.CheckState) -> None:
        ticked = self._ticked()
        if node not in self._nodes or (node in ticked) == (state == QtCore.Qt.Checked):
            return
        if state == QtCore.Qt.Checked:
            ticked.append(node)
        else:
            ticked.remove(node)
        self._show()
        native(self, "checkedNodesChanged").emit()

    def checkedNodes(self) -> list:
        return [node for node in self._nodes if node in self._ticked()]

    def uncheckedNodes(self) -> list:
        return [node for node in self._nodes if node not in self._ticked()]

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def _ticked(self) -> list:
        return self.__dict__.setdefault("_checked", [])

    def _entries(self) -> list[tuple[str, object]]:
        return [(("☑ " if node in self._ticked() else "☐ ") + node.GetName(), node) for node in self._nodes]

    def _onActivated(self, index: int) -> None:
        node = self.nodeFromIndex(index)
        if node:
            ticked = node in self._ticked()
            self.setCheckState(node, QtCore.Qt.Unchecked if ticked else QtCore.Qt.Checked)
