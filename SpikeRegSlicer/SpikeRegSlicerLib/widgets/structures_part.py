"""Structures of one volume, at the press of a button: a segmentation node, its figures and what to know about them."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from SpikeRegSlicerLib.jobs import State
from SpikeRegSlicerLib.scene.structures import TABLE, structuresOf
from SpikeRegSlicerLib.segmentation import Segmentation
from SpikeRegSlicerLib.widgets import layouts, text
from SpikeRegSlicerLib.widgets.part import Part


class StructuresPart(Part):
    """In charge of the section of structures.

    Attributes:
        job: the segmentation of the panel that waits or runs, or None.
    """

    def setUp(self) -> None:
        self.job: Segmentation | None = None
        self.ui.segmentButton.clicked.connect(self._onSegmentOrCancel)
        self.ui.structuresTableButton.clicked.connect(self._showTable)

    def update(self) -> None:
        """Enable the button, or say in its tooltip what is missing; show the figures of the volume's structures."""
        if self.job is None:
            found = self.panel.logic.segmentationProblems(self._volume())
            self.ui.segmentButton.text = _("Segment structures")
            self.enable("segmentButton", not found, text.tip("\n".join(found)) if found else "")
        else:
            self.ui.segmentButton.text = _("Cancel")
            self.enable("segmentButton", True, _("Stop the segmentation; nothing of it stays behind."))
        node = self._node()
        self.ui.structuresLabel.text = summaryText(node.GetDescription() or "") if node is not None else ""
        self.ui.structuresLabel.setVisible(node is not None)
        self.enable("structuresTableButton", node is not None and node.GetNodeReference(TABLE) is not None)

    def _volume(self) -> Any:
        return self.parameters.structuresVolume or self.parameters.fixed

    def _node(self) -> Any:
        volume = self._volume()
        return structuresOf(volume) if volume is not None and volume.GetScene() is not None else None

    def _onSegmentOrCancel(self) -> None:
        if self.job is not None:
            self.panel.stop(self.job)
            return
        volume, parameters, segment = self._volume(), self.parameters, self.panel.logic.segment
        options: dict[str, Any] = {"threads": parameters.threads} if parameters.threads else {}
        if parameters.allowFewValues:
            options["allow_few_values"] = True
        job = self.panel.launch(lambda **told: segment(volume, wait=False, **options, **told), self._onDone)
        if job is not None and job.isPending:
            self.job = job
            self.update()

    def _onDone(self, job: Segmentation) -> None:
        if job is self.job:
            self.job = None
        if job.state is State.DONE:
            warnings = job.node.GetDescription().split("\n")[1:]
            done = _("{segmentation} is in the scene.").format(segmentation=job.node.GetName())
            self.panel.say("\n".join([done, *warnings]), "check" if warnings else "good")
        elif job.message:
            self.panel.say(job.message, "poor")
        else:
            self.panel.say(_("The segmentation was cancelled; nothing of it was kept."))
        self.panel.update()

    def _showTable(self) -> None:
        node = self._node()
        table = node.GetNodeReference(TABLE) if node is not None else None
        if table is not None and not layouts.showTable(table):
            self.panel.say(_("{name} is in the scene (module Data).").format(name=table.GetName()))


def summaryText(description: str) -> str:
    """The figures in one line, and the warnings below them, as rich text."""
    first, *warnings = description.split("\n")
    lines = [text.plain(first)]
    lines += [f"{text.coloured(_('Note'), 'check')}&nbsp; {text.plain(each)}" for each in warnings]
    return "<br>".join(lines)
