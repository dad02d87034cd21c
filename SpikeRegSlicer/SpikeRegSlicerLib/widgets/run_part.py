"""Run, which becomes Cancel; where the run stands; what to say about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib import presets
from SpikeRegSlicerLib.jobs import Job, JobError
from SpikeRegSlicerLib.parameters import inputsOf, optionsOf
from SpikeRegSlicerLib.progress import Progress
from SpikeRegSlicerLib.registration import Registration
from SpikeRegSlicerLib.scene.problems import outputProblems
from SpikeRegSlicerLib.scene.results import Outputs
from SpikeRegSlicerLib.widgets import text
from SpikeRegSlicerLib.widgets.part import Part


class RunPart(Part):
    """In charge of the Run button, the queue button, the progress area, the message line and the log.

    It follows every run that the panel starts, of whatever kind; one is at work, the others wait.

    Attributes:
        job: the run of the panel that is now running, or None.
    """

    def setUp(self) -> None:
        self.job: Job | None = None
        self._queue: list[Job] = []
        self._progress = Progress()
        self._said = ""
        self._problems: tuple[tuple[Any, ...], list[str]] | None = None
        self.ui.runButton.clicked.connect(self._onRunOrCancel)
        self.ui.queueButton.clicked.connect(self.run)
        self.panel.logic.process.onLog = self._log
        self._showIdle()

    # --- what the panel shows ---------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Every reason why Run cannot be pressed; looked for again when the choice or a chosen node has changed."""
        parameters = self.parameters
        inputs, outputs = inputsOf(parameters), (parameters.outputTransform, parameters.outputVolume)
        chosen = (*(getattr(inputs, item.name) for item in fields(inputs)), *outputs)
        if self._problems is None or chosen != self._problems[0]:
            self._problems = chosen, self.panel.logic.problems(inputs) + outputProblems(inputs, *outputs)
        return self._problems[1]

    def onInputsChanged(self) -> None:
        """Look for problems again."""
        self._problems = None

    def enter(self) -> None:
        self._problems = None

    def cleanUp(self) -> None:
        super().cleanUp()
        self._problems = None

    def update(self) -> None:
        """Enable Run, or say in its tooltip and below it what is missing."""
        if self.panel.parameters is None:  # between two scenes
            return
        found = self.problems()
        ready = _("Register the moving volume onto the fixed one, in the background.")
        tip = text.tip("\n".join(found)) if found else ready
        if self.job is None:
            self.ui.runButton.enabled = not found
            self.ui.runButton.toolTip = tip
        self.ui.queueButton.enabled = not found
        self.ui.queueButton.toolTip = tip if found else _("Start this choice when what runs now is done.")
        self._showMessage(found)

    def say(self, message: str, kind: str = "") -> None:
        """Show a message below the Run button, as plain text with a coloured word in front where `kind` is given."""
        words = {"good": _("Done"), "check": _("Please look"), "poor": _("Not done")}
        self._said = f"{text.coloured(words[kind], kind)}&nbsp; " if kind in words else ""
        self._said += text.plain(message)
        self.update()

    def _showMessage(self, found: list[str]) -> None:
        missing = [self.parameters.fixed, self.parameters.moving].count(None)
        if not found or self.job is not None or (missing and self._said):
            shown = self._said
        elif missing == 2:
            shown = text.plain(_("Choose a fixed and a moving volume."))
        else:
            shown = f"{text.coloured(_('Not ready'), 'check')}&nbsp; {text.listed(found)}"
            shown = f"{self._said}<br>{shown}" if self._said else shown
        self.ui.messageLabel.text = shown
        self.ui.messageLabel.setVisible(bool(shown))

    def _showIdle(self) -> None:
        self.ui.progressArea.setVisible(False)
        self.ui.queueButton.setVisible(False)
        self.ui.runButton.text = _("Run")

    def _showRunning(self) -> None:
        waiting = len(self._queue) - 1
        self.ui.runButton.text = _("Cancel")
        self.ui.runButton.toolTip = _("Stop what runs at once; nothing of it stays behind.")
        self.ui.runButton.enabled = True
        self.ui.queueButton.setVisible(True)
        self.ui.queueButton.text = (
            _("Run next ({count} waiting)").format(count=waiting) if waiting > 0 else _("Run next")
        )
        self.ui.progressBar.value = self._progress.percent
        self.ui.stageLabel.text = self._progress.stageText
        self.ui.timeLabel.text = self._progress.timeText
        self.ui.progressArea.setVisible(True)

    def _log(self, line: str) -> None:
        self.ui.logTextEdit.appendPlainText(line)

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self) -> Registration | None:
        """Start what is chosen, or queue it behind what runs."""
        parameters = self.parameters
        if not self._presetIsFit():
            return None
        options = {**optionsOf(parameters), "spike_maps": presets.wantsSpikeMaps(parameters)}
        options["preset_text"] = parameters.customPreset
        return self.start(options, Outputs(parameters.outputTransform, parameters.outputVolume))

    def start(self, options: dict[str, Any], outputs: Outputs) -> Registration | None:
        """Start a registration of the chosen nodes and follow it; None when it cannot be, which is then said."""
        inputs, start = inputsOf(self.parameters), self.panel.logic.start
        return self.launch(lambda **told: start(inputs, options, outputs, **told), self.panel.onJobDone)

    def launch(self, begin: Callable[..., Any], onDone: Callable[[Any], None]) -> Any:
        """Start a run of any kind and follow it; None when it cannot be, which is then said.

        Args:
            begin: takes onProgress and onDone, and returns the job.
            onDone: called with the job once it has ended, and Run can be pressed again.
        """
        self._said = ""
        if not self._requirementsMet():
            return None
        try:
            job = begin(onProgress=self._onProgress, onDone=lambda job: self._onDone(job, onDone))
        except (JobError, presets.InputError) as error:
            self.say(str(error), "poor")
            return None
        if job.isPending:
            self._queue.append(job)
            self._follow()
        return job

    def cancel(self) -> None:
        """Cancel what runs, and everything that waits behind it."""
        for job in reversed(self._queue):
            self.panel.logic.cancel(job)

    def stop(self, job: Job) -> None:
        """Cancel one run at once; where it is at work, the person is asked about those that wait behind it."""
        if job is self.job:
            self.panel.logic.cancelAndAsk(job, self._isToEmpty)
        else:
            self.panel.logic.cancel(job)

    def _onRunOrCancel(self) -> None:
        if self.job is None:
            self.run()
        else:
            self.stop(self.job)

    def _isToEmpty(self, count: int) -> bool:
        question = (
            _("One more run waits. Cancel it too?")
            if count == 1
            else _("{count} more runs wait. Cancel them too?").format(count=count)
        )
        return bool(slicer.util.confirmYesNoDisplay(question, windowTitle="SpikeReg"))

    def _follow(self) -> None:
        """Follow the first job of the queue, if there is one."""
        first = self._queue[0] if self._queue else None
        if first is not self.job:
            self.job, self._progress = first, _progressOf(first)
        if first is None:
            self._showIdle()
        else:
            self._showRunning()
        self.update()

    def _onProgress(self, stage: str, fraction: float, message: str) -> None:
        if stage == "start":
            self._progress = _progressOf(self.job)
            self._log(_("--- new run ---"))
        self._progress.report(stage, fraction, message)
        if message:
            self._log(f"{stage}: {message}")
        if self.job is not None:
            self._showRunning()

    def _onDone(self, job: Job, onDone: Callable[[Any], None]) -> None:
        if job in self._queue:
            self._queue.remove(job)
        self._follow()
        onDone(job)

    def _presetIsFit(self) -> bool:
        """Whether the chosen preset is one, and may read what it reads: one that came with the scene is asked about."""
        parameters = self.parameters
        try:
            presets.presetOf(parameters)
            files = presets.filesToAccept(parameters)
        except presets.InputError as error:
            self.say(str(error), "poor")
            return False
        if files:
            question = _("The preset {name} came with this scene and reads {files}. Read it?").format(
                name=parameters.preset, files=_(" and ").join(files)
            )
            if not slicer.util.confirmYesNoDisplay(text.tip(question), windowTitle="SpikeReg"):
                return False
            presets.accept(parameters)
        return True

    def _requirementsMet(self) -> bool:
        """Offer to install the small packages that the library needs besides PyTorch; the only place where that is."""
        path = self.panel.requirementsPath
        if not os.path.isfile(path):
            return True
        try:
            from slicer.packaging import load_requirements, pip_ensure

            pip_ensure(load_requirements(path), requester="SpikeReg")
        except Exception as error:
            self.panel.logic.process.tellTraceback(error)
            self.say(_("SpikeReg needs a few small packages: {error}.").format(error=error), "poor")
            return False
        return True


def _progressOf(job: Job | None) -> Progress:
    return Progress(job.shares) if job is not None else Progress()
