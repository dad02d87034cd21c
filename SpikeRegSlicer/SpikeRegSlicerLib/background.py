"""Runs in the background, of whatever kind: one after another in one worker, ended with the nodes that they read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from SpikeRegSlicerLib.exchange import Exchange
from SpikeRegSlicerLib.jobs import Job, JobError, State
from SpikeRegSlicerLib.process import WorkerProcess


def checkNames(options: dict[str, Any], known: Collection[str], error: type[JobError]) -> None:
    """
    Raises:
        JobError: the library has no option of one of these names; of the kind `error`.
    """
    unknown = ", ".join(sorted(options.keys() - set(known)))
    if unknown:
        raise error(_("{unknown}: unknown; choose among {known}.").format(unknown=unknown, known=", ".join(known)))


class BackgroundJobs(VTKObservationMixin):
    """What every kind of run shares. A kind derives from this one and adds how it is asked for.

    Kinds can be combined: they share one worker, so that only one run of whatever kind is at work.

    Args:
        process: runs the worker.
        temporaryFolder: where files are exchanged with it; default: Slicer's.

    Attributes:
        jobs: those that wait or run, in their order.
    """

    def __init__(self, process: WorkerProcess | None = None, temporaryFolder: str | None = None) -> None:
        VTKObservationMixin.__init__(self)
        self.process = process or WorkerProcess()
        self.jobs: list[Job] = []
        self.exchange = Exchange(temporaryFolder)

    def wait(self, job: Job) -> Any:
        """Return what a job made when it is done; Slicer stays alive meanwhile.

        Raises:
            JobError: it failed or was cancelled; of the job's own kind of error.
        """
        while job.isPending:
            self.process.wait(job)
        if job.made is None:
            raise job.error(job.message or _("The run was cancelled."))
        return job.made

    def cancel(self, job: Job, keepWarm: bool = False) -> None:
        """End a job and leave nothing of it; see `WorkerProcess.cancel`."""
        self.process.cancel(job, keepWarm)

    def cancelAndAsk(self, job: Job, isToEmpty: Callable[[int], bool]) -> None:
        """End a job at once, and those that wait behind it too if a person says so; none of them starts before that.

        Args:
            isToEmpty: asked with the number of those that wait, where there are any.
        """
        with self.process.held():
            self.cancel(job)
            waiting = [other for other in self.jobs if other.state is State.WAITING]
            if waiting and isToEmpty(len(waiting)):
                for other in reversed(waiting):
                    self.cancel(other)

    def close(self) -> None:
        """Cancel everything, end the worker and remove all temporary files."""
        self.process.close()
        self.exchange.close()

    # --- what a kind of run uses ------------------------------------------------------------------------------------

    def submit(
        self, job: Job, onProgress: Callable[[str, float, str], None] | None, onDone: Callable[[Any], None] | None
    ) -> None:
        """Put a job in the queue; `endJob` is to be called at its end. `onProgress` and `onDone`: see `Job`."""
        job.onProgress, job.onDone = onProgress or job.onProgress, onDone or job.onDone
        self.jobs.append(job)
        self._observe()
        self.process.submit(job)

    def endJob(self, job: Job) -> None:
        """A job has ended: nothing of it is kept outside the scene, and who asked for it hears of it."""
        shutil.rmtree(job.folder, ignore_errors=True)
        self.jobs.remove(job)
        self._observe()
        job.onDone(job)

    def newFolder(self, error: type[JobError]) -> str:
        """A folder for a new job.

        Raises:
            JobError: it cannot be made; of the kind `error`.
        """
        try:
            return self.exchange.newFolder()
        except OSError as reason:
            raise error(self.exchange.explain(reason)) from reason

    # --- what can happen meanwhile ----------------------------------------------------------------------------------

    def _observe(self) -> None:
        """Watch the scene while there are jobs, and only then: an observer keeps this object alive."""
        events = {
            slicer.vtkMRMLScene.StartCloseEvent: self._onSceneClosing,
            slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent: self._onNodeRemoved,
        }
        for event, method in events.items():
            observed = self.hasObserver(slicer.mrmlScene, event, method)
            if self.jobs and not observed:
                self.addObserver(slicer.mrmlScene, event, method)
            elif not self.jobs and observed:
                self.removeObserver(slicer.mrmlScene, event, method)

    def _onSceneClosing(self, _caller: Any, _event: Any) -> None:
        for job in reversed(self.jobs):
            job.message = _("The scene was closed, so the run was cancelled.")
            self.cancel(job)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, _caller: Any, _event: Any, node: Any) -> None:
        for job in reversed(self.jobs):
            if any(node is each for each in job.reads):
                job.message = _(
                    "{name} was removed from the scene, so its run was cancelled. Choose another node and run again."
                ).format(name=node.GetName())
                self.cancel(job)
