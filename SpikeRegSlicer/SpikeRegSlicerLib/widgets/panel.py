"""The panel as a whole: it holds the parameter node, the run that is looked at, and tells its parts what changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display.places import Place
from SpikeRegSlicerLib.jobs import Job, State
from SpikeRegSlicerLib.parameters import Parameters, restoreDefaults
from SpikeRegSlicerLib.registration import Registration
from SpikeRegSlicerLib.scene.results import Outputs, Run, runs
from SpikeRegSlicerLib.widgets.apply_part import ApplyPart
from SpikeRegSlicerLib.widgets.compare_part import ComparePart
from SpikeRegSlicerLib.widgets.live_part import LivePart
from SpikeRegSlicerLib.widgets.part import Part
from SpikeRegSlicerLib.widgets.places_part import PlacesPart
from SpikeRegSlicerLib.widgets.preset_part import PresetPart
from SpikeRegSlicerLib.widgets.results_part import ResultsPart
from SpikeRegSlicerLib.widgets.review_part import ReviewPart
from SpikeRegSlicerLib.widgets.run_part import RunPart
from SpikeRegSlicerLib.widgets.spikes_part import SpikesPart
from SpikeRegSlicerLib.widgets.structures_part import StructuresPart
from SpikeRegSlicerLib.widgets.torch_part import TorchPart
from SpikeRegSlicerLib.widgets.watch_part import WatchPart

AnyPart = TypeVar("AnyPart", bound=Part)


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

    PARTS: ClassVar[tuple[type[Part], ...]] = (
        TorchPart,
        PresetPart,
        RunPart,
        StructuresPart,
        ResultsPart,
        ComparePart,
        PlacesPart,
        SpikesPart,
        ReviewPart,
        ApplyPart,
        LivePart,
        WatchPart,
    )

    def __init__(self, top: Any, ui: Any, logic: Any, requirementsPath: str) -> None:
        self.top, self.ui, self.logic, self.requirementsPath = top, ui, logic, requirementsPath
        self.parameters: Parameters | None = None
        self.runs: list[Run] = []
        self.run: Run | None = None
        self.isEntered = self.isSaving = False
        self._parts = {kind: kind(ui, self) for kind in self.PARTS}
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._onLater)

    @property
    def parts(self) -> list[Part]:
        """In the order of `PARTS`."""
        return list(self._parts.values())

    def part(self, kind: type[AnyPart]) -> AnyPart:
        """The part of this class."""
        return self._parts[kind]

    # --- what changes -----------------------------------------------------------------------------------------------

    def setParameters(self, parameters: Parameters | None) -> None:
        """Follow this parameter node from now on; None for a scene that is being closed."""
        self._later.stop()
        self.parameters = parameters
        for part in self.parts:
            part.cleanUp()
        if parameters is None:
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
        for part in self.parts:
            part.leave()
        for part in self.parts:
            part.showRun(self.run)
        self._updateParts()

    def onNodesChanged(self) -> None:
        """Nodes were added to the scene or removed from it; often many at once, so it waits for the last."""
        self.onInputsChanged()

    def onInputsChanged(self) -> None:
        """A chosen node has new content."""
        for part in self.parts:
            part.onInputsChanged()
        if self.parameters is not None:
            self._later.start(0)

    def beforeSaving(self) -> None:
        """The scene is about to be saved: show the slice views as they were before a comparison or an overlay."""
        self.isSaving = True
        for part in self.parts:
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
        for part in self.parts:
            part.enter()
        self._onLater()

    def exit(self) -> None:
        self.isEntered = False
        for part in self.parts:
            part.exit()

    # --- what parts ask for -----------------------------------------------------------------------------------------

    def say(self, message: str, kind: str = "") -> None:
        """Tell the person something, below the Run button."""
        self.part(RunPart).say(message, kind)

    def problems(self) -> list[str]:
        """Every reason why the chosen nodes cannot be registered."""
        return self.part(RunPart).problems()

    def worstPlaces(self) -> list[Place]:
        """Of the run that is looked at."""
        return self.part(PlacesPart).places()

    def startPreview(self, options: dict[str, Any], outputs: Outputs) -> Registration | None:
        """Start a run that replaces the one that is looked at."""
        return self.part(RunPart).start(options, outputs)

    def launch(self, begin: Callable[..., Any], onDone: Callable[[Any], None]) -> Any:
        """Start a run of any kind; see `RunPart.launch`."""
        return self.part(RunPart).launch(begin, onDone)

    def stop(self, job: Job) -> None:
        """Cancel a run that was launched."""
        self.part(RunPart).stop(job)

    def restoreDefaults(self) -> None:
        assert self.parameters is not None
        with slicer.util.NodeModify(self.parameters):
            restoreDefaults(self.parameters)

    def removeRun(self) -> None:
        """Remove the run that is looked at with everything it made."""
        run, self.run = self.run, None
        assert run is not None
        self.runs = [each for each in self.runs if each is not run]
        self.showRun()
        run.remove()
        self.say(_("{name} was removed.").format(name=run.name if run.folder.exists() else _("The run")))
        self.showRuns()

    def onJobDone(self, job: Registration) -> None:
        """A registration that the panel started has ended."""
        if job.state is State.DONE and self.parameters is not None:
            assert job.run is not None
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
        elif job.state is State.CANCELLED:
            self.say(_("The registration was cancelled; nothing of it was kept."))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _chosenRun(self) -> Run | None:
        assert self.parameters is not None
        wanted = self.parameters.result
        return next((run for run in self.runs if run.transform is wanted), self.runs[-1] if self.runs else None)

    def _updateParts(self) -> None:
        for part in self.parts:
            part.update()
