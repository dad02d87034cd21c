"""The panel as a whole: it holds the parameter node, the run that is looked at, and tells its parts what changed."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display.places import Place
from SpikeRegSlicerLib.logic import Job
from SpikeRegSlicerLib.parameters import Parameters, restoreDefaults
from SpikeRegSlicerLib.scene.results import Outputs, Run, runs
from SpikeRegSlicerLib.widgets.apply_part import ApplyPart
from SpikeRegSlicerLib.widgets.compare_part import ComparePart
from SpikeRegSlicerLib.widgets.live_part import LivePart
from SpikeRegSlicerLib.widgets.places_part import PlacesPart
from SpikeRegSlicerLib.widgets.preset_part import PresetPart
from SpikeRegSlicerLib.widgets.results_part import ResultsPart
from SpikeRegSlicerLib.widgets.review_part import ReviewPart
from SpikeRegSlicerLib.widgets.run_part import RunPart
from SpikeRegSlicerLib.widgets.spikes_part import SpikesPart
from SpikeRegSlicerLib.widgets.torch_part import TorchPart
from SpikeRegSlicerLib.widgets.watch_part import WatchPart


class Panel:
    """Connects the parts of the panel with the logic.

    Args:
        top: the widget made from the .ui file.
        ui: its children by name.
        logic: `SpikeRegSlicerLogic`.
        requirementsPath: of requirements.txt.

    Attributes:
        parameters: the parameter node; None between two scenes.
        runs: of the scene.
        run: the one that is looked at.
        isEntered: whether the panel is in front.
        isSaving: whether the scene is being saved, which nothing shown may change meanwhile.
    """

    def __init__(self, top: Any, ui: Any, logic: Any, requirementsPath: str) -> None:
        self.top, self.ui, self.logic, self.requirementsPath = top, ui, logic, requirementsPath
        self.parameters: Parameters | None = None
        self.runs: list[Run] = []
        self.run: Run | None = None
        self.isEntered = self.isSaving = False
        self._torch = TorchPart(ui, self)
        self._preset = PresetPart(ui, self)
        self._run = RunPart(ui, self)
        self._results = ResultsPart(ui, self)
        self._compare = ComparePart(ui, self)
        self._places = PlacesPart(ui, self)
        self._spikes = SpikesPart(ui, self)
        self._review = ReviewPart(ui, self)
        self._apply = ApplyPart(ui, self)
        self._live = LivePart(ui, self)
        self._watch = WatchPart(ui, self)
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._onLater)

    # --- what changes -----------------------------------------------------------------------------------------------

    def setParameters(self, parameters: Parameters | None) -> None:
        """Follow this parameter node from now on; None for a scene that is being closed."""
        self._later.stop()
        self._live.reset()
        self._watch.reset()
        self._run.forget()
        self.parameters = parameters
        if parameters is None:
            self._compare.reset()
            self._spikes.reset()
            self.runs, self.run = [], None
        else:
            self.showRuns()

    def update(self) -> None:
        """The parameter node or the nodes it names have changed."""
        if self.parameters is None or self.isSaving:
            return
        if self.run is None or self.parameters.result is not self.run.transform:
            chosen = self._chosenRun()
            if chosen is not self.run:
                self.run = chosen
                self.showRun()
                return
        self._updateParts()

    def showRuns(self) -> None:
        """Look for the runs of the scene, and show the chosen one."""
        self.runs = [run for run in runs(slicer.mrmlScene) if run.transform is not None]
        self.run = self._chosenRun()
        self.showRun()

    def showRun(self) -> None:
        """Show the run that is looked at, whose nodes may have new content."""
        self._results.setRuns(self.runs, self.run)
        for part in (self._compare, self._spikes):
            part.reset()
        for part in (self._compare, self._places, self._spikes, self._review, self._apply):
            part.setRun(self.run)
        self._updateParts()

    def onNodesChanged(self) -> None:
        """Nodes were added to the scene or removed from it; often many at once, so it waits for the last."""
        self.onInputsChanged()

    def onInputsChanged(self) -> None:
        """A chosen node has new content."""
        self._run.forget()
        if self.parameters is not None:
            self._later.start(0)

    def beforeSaving(self) -> None:
        """The scene is about to be saved: show the slice views as they were before a comparison or an overlay."""
        self.isSaving = True
        for part in (self._compare, self._spikes):
            part.leave()

    def afterSaving(self) -> None:
        """The scene is saved: show again what was shown."""
        self.isSaving = False
        self._onLater()

    def _onLater(self) -> None:
        if self.parameters is None or self.isSaving:
            return
        present = [run for run in self.runs if run.folder.exists() and run.transform.GetScene() is not None]
        if len(present) != len(self.runs):
            self.showRuns()
        else:
            self.update()

    def enter(self) -> None:
        self.isEntered = True
        self._torch.update()
        self._compare.enter()
        self._run.forget()
        self._onLater()

    def exit(self) -> None:
        self.isEntered = False
        self._compare.exit()

    def cleanup(self) -> None:
        """Leave the slice views and the observed nodes as if the panel had never been there."""
        self.setParameters(None)

    # --- what parts ask for -----------------------------------------------------------------------------------------

    def say(self, message: str, kind: str = "") -> None:
        """Tell the person something, below the Run button."""
        self._run.say(message, kind)

    def problems(self) -> list[str]:
        """Every reason why the chosen nodes cannot be registered."""
        return self._run.problems()

    def worstPlaces(self) -> list[Place]:
        """Of the run that is looked at."""
        return self._places.places()

    def startPreview(self, options: dict[str, Any], outputs: Outputs) -> Job | None:
        """Start a run that replaces the one that is looked at."""
        return self._run.start(options, outputs)

    def restoreDefaults(self) -> None:
        with slicer.util.NodeModify(self.parameters):
            restoreDefaults(self.parameters)

    def removeRun(self) -> None:
        """Remove the run that is looked at with everything it made."""
        run = self.run
        self._compare.reset()
        self._spikes.reset()
        run.remove()
        self.say(_("{name} was removed.").format(name=run.name if run.folder.exists() else _("The run")))
        self.showRuns()

    def onJobDone(self, job: Job) -> None:
        """A run that the panel started has ended."""
        if job.state == "done" and self.parameters is not None:
            with slicer.util.NodeModify(self.parameters):
                self.parameters.outputTransform = job.run.transform
                self.parameters.outputVolume = job.run.warped
                self.parameters.result = job.run.transform
            self.showRuns()
            self.ui.resultsCollapsibleButton.collapsed = False
            verdict = (job.run.result.get("verdict") or {}).get("level", "")
            look = _("The result is shown under Results.")
            self.say(look, "good" if verdict == "good" else "check")
        elif job.message:
            self.say(job.message, "poor")
        elif job.state != "done":
            self.say(_("The registration was cancelled; nothing of it was kept."))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _chosenRun(self) -> Run | None:
        wanted = self.parameters.result
        return next((run for run in self.runs if run.transform is wanted), self.runs[-1] if self.runs else None)

    def _updateParts(self) -> None:
        for part in (
            self._preset,
            self._run,
            self._results,
            self._compare,
            self._spikes,
            self._apply,
            self._live,
            self._watch,
        ):
            part.update()
