"""A person's decision about a run, kept in the scene, and the report that shows it."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timezone

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display.annotated import annotatePng, shownNames
from SpikeRegSlicerLib.display.qa_report import writeReport
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.scene.review import review, setReview
from SpikeRegSlicerLib.widgets.part import Part


class ReviewPart(Part):
    """In charge of Accept, Reject, the note and the report."""

    def setUp(self) -> None:
        self.ui.acceptButton.clicked.connect(lambda: self._decide("accepted"))
        self.ui.rejectButton.clicked.connect(lambda: self._decide("rejected"))
        self.ui.reportButton.clicked.connect(self._onReport)

    def showRun(self, run: Run | None) -> None:
        """Show the decision about this run."""
        for name in ("acceptButton", "rejectButton", "reportButton"):
            self.enable(name, run is not None)
        known = review(run.transform) if run is not None and run.transform is not None else None
        self.ui.noteLineEdit.text = known["note"] if known else ""
        self._show(known)

    def _show(self, known: dict | None) -> None:
        if known is None:
            self.ui.reviewLabel.text = _("Not reviewed yet.")
            return
        words = {"accepted": _("Accepted"), "rejected": _("Rejected")}
        reviewer = known.get("reviewer") or _("somebody without a name")
        said = _("{decision} by {reviewer}").format(decision=words[known["decision"]], reviewer=reviewer)
        when = known["time"].replace("T", " ")[:16]  # ISO 8601, to the minute
        self.ui.reviewLabel.text = _("{said}, {when} UTC.").format(said=said, when=when)

    def _decide(self, decision: str) -> None:
        run = self.panel.run
        if run is not None:
            setReview(run.transform, decision, self.parameters.reviewer, self.ui.noteLineEdit.text)
            self._show(review(run.transform))

    def _onReport(self) -> None:
        run = self.panel.run
        if run is None:
            return
        path = qt.QFileDialog.getSaveFileName(self.panel.top, _("Save the report"), "SpikeReg.html", "HTML (*.html)")
        if not path:
            return
        pictures = screenshots()
        try:
            writeReport(path, run.result, review(run.transform), pictures, self.panel.worstPlaces())
        except OSError as error:
            self.panel.say(
                _("{path}: cannot be written ({reason}); choose another folder.").format(
                    path=path, reason=error.strerror
                ),
                "poor",
            )
            return
        said = _("The report was saved as {path}.").format(path=path)
        self.panel.say(said if pictures else said + " " + _("It has no pictures, as there are no slice views here."))


def screenshots() -> dict[str, bytes]:
    """A PNG of each slice view that is shown, by the view's name; none where Slicer runs without its main window.

    Each says where it lies in the patient, how large it is, what it shows and when it was made.
    """
    layout = slicer.app.layoutManager()
    if layout is None:
        return {}
    pictures = {}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    with tempfile.TemporaryDirectory() as folder:
        for name in layout.sliceViewNames():
            widget = layout.sliceWidget(name)
            if widget is None or not widget.visible:
                continue
            path = os.path.join(folder, "view.png")
            if ctk.ctkWidgetsUtils.grabWidget(widget.sliceView()).save(path):
                composite = widget.sliceLogic().GetSliceCompositeNode()
                names = shownNames(composite, slicer.mrmlScene)
                pictures[name] = annotatePng(path, widget.mrmlSliceNode(), names, now)
    return pictures
