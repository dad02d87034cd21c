"""The transform of a run, applied to whatever else belongs to the same subject."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.scene.apply import applyTo
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.scene.transforms import fixedOf, movingOf
from SpikeRegSlicerLib.widgets import text
from SpikeRegSlicerLib.widgets.part import Part

CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode", "vtkMRMLModelNode")


class ApplyPart(Part):
    """In charge of the list of nodes and the Apply button."""

    def setUp(self) -> None:
        self._offered: list[tuple[str, str]] = []
        self.ui.applyButton.clicked.connect(self._onApply)
        self.ui.applyList.itemChanged.connect(lambda _item: self._updateButton())

    def showRun(self, run: Run | None) -> None:
        """Apply this run's transform from now on."""
        self.enable("applyCollapsibleButton", run is not None)
        self.ui.applyLabel.text = ""

    def update(self) -> None:
        """List the nodes of the scene that a transform can move and that no run made; ticks stay."""
        offered = [(node.GetID(), node.GetName()) for node in self._nodes()] if self.panel.run else []
        if offered != self._offered:
            ticked = self.checked()
            widget = self.ui.applyList
            blocked = widget.blockSignals(True)
            widget.clear()
            for identity, name in offered:
                item = qt.QListWidgetItem(name)
                item.setData(qt.Qt.UserRole, identity)
                item.setCheckState(qt.Qt.Checked if identity in ticked else qt.Qt.Unchecked)
                widget.addItem(item)
            widget.blockSignals(blocked)
            self._offered = offered
        self._updateButton()

    def checked(self) -> list[str]:
        """Identifiers of the nodes that are ticked."""
        widget = self.ui.applyList
        items = [widget.item(row) for row in range(widget.count)]
        return [item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Checked]

    def _nodes(self) -> list[Any]:
        """What one would bring along: not what a run or a comparison made, nor the volume to whose space it goes."""
        left = [node for run in self.panel.runs for node in run.folder.nodes()]
        left.append(self._goal())
        found = [node for name in CLASSES for node in slicer.util.getNodesByClass(name)]
        lasting = [node for node in found if node.GetSaveWithScene() and not node.GetHideFromEditors()]
        return [node for node in lasting if node not in left]

    def _goal(self) -> Any:
        """The volume to whose space nodes are brought."""
        assert self.panel.run is not None  # else nothing is offered
        transform = self.panel.run.transform
        return movingOf(transform) if self.parameters.applyInverse else fixedOf(transform)

    def _updateButton(self) -> None:
        count = len(self.checked())
        self.enable("applyButton", bool(count))
        self.ui.applyButton.text = _("Apply to {count} nodes").format(count=count) if count > 1 else _("Apply")

    def _onApply(self) -> None:
        run, parameters = self.panel.run, self.parameters
        assert run is not None
        nodes = [slicer.mrmlScene.GetNodeByID(identity) for identity in self.checked()]
        nodes = [node for node in nodes if node is not None]
        inverse, harden = parameters.applyInverse, parameters.applyHarden
        problems = applyTo(run.transform, nodes, inverse=inverse, harden=harden, reference=self._goal())
        done = _("Applied to {names}.").format(names=", ".join(node.GetName() for node in nodes))
        self.ui.applyLabel.text = text.listed(problems) if problems else text.plain(done)
