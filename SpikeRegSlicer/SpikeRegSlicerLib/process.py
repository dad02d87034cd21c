"""The library's worker as a child process: requests go in one after another, events come back, cancel kills."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.child import Child
from SpikeRegSlicerLib.jobs import Event, Job, State, eventOf
from SpikeRegSlicerLib.library import libraryFolder, pythonProgram

LOG_LINES = 500
SHOWN_LOG_LINES = 6
SOFT_CANCEL_MS = 300
FATAL = "Fatal Python error"  # what Python's faulthandler, which the worker turns on, writes before a crash


class WorkerProcess:
    """Runs jobs one after another in one process, which is started by the first and stays warm for the next.

    Attributes:
        log: last lines that the process wrote to stderr, and what became of it.
        onLog: called with each such line.
    """

    def __init__(self, program: str | None = None, arguments: list[str] | None = None) -> None:
        self._program = program
        self._arguments = ["-m", "SpikeRegLib", "worker", "--end-with-stdin"] if arguments is None else arguments
        self._child: Child | None = None
        self._lines = 0  # of the log since the job that runs was started
        self._hasSaidWhy = False
        self._isHeld = False
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._count = 0
        self._softCancel = qt.QTimer()
        self._softCancel.setSingleShot(True)
        self._softCancel.timeout.connect(self._onSoftCancelTimeout)
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.onLog: Callable[[str], None] = lambda line: None

    @property
    def running(self) -> Job | None:
        """The job that the worker is at."""
        return self._running

    @property
    def waiting(self) -> list[Job]:
        """Jobs whose turn has not come, in order."""
        return list(self._waiting)

    @property
    def processId(self) -> int:
        """Of the worker itself, not of the launcher that it is the child of; 0 while there is none."""
        return self._child.processId if self._child else 0

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue; it starts at once when nothing runs."""
        self._count += 1
        job.identity = f"run{self._count}"
        self._waiting.append(job)
        self._startNext()

    def cancel(self, job: Job, keepWarm: bool = False) -> None:
        """End a job. One that runs is killed with its process, within half a second, and its folder is removed.

        Args:
            job: one that has ended is left as it is.
            keepWarm: ask the worker to stop the job and kill it only if it does not obey soon; for a job that
                another one replaces.
        """
        if job in self._waiting:
            self._waiting.remove(job)
            self._end(job, Event.CANCEL)
        elif job is self._running and keepWarm and self._child:
            self._write({"cancel": job.identity})
            self._softCancel.start(SOFT_CANCEL_MS)
        elif job is self._running:
            self._kill()
            self._finish(Event.CANCEL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within this no job is started."""
        self._isHeld = True
        try:
            yield
        finally:
            self._isHeld = False
            self._startNext()

    def wait(self, job: Job) -> None:
        """Return when the job has ended; Slicer stays alive meanwhile."""
        while job.isPending and self._child:
            self._child.wait(20)
            slicer.app.processEvents()

    def close(self) -> None:
        """Cancel everything and end the process."""
        for job in self.waiting:
            self.cancel(job)
        if self._running:
            self.cancel(self._running)
        self._kill()

    def tellTraceback(self, error: BaseException) -> None:
        """Where an error that nobody expected came from, for the log."""
        for line in "".join(traceback.format_exception(error)).splitlines():
            self._tell(line)

    # --- the queue --------------------------------------------------------------------------------------------------

    def _startNext(self) -> None:
        while self._running is None and self._waiting and not self._isHeld:
            self._running = job = self._waiting.pop(0)
            self._lines = 0
            job.take(Event.TURN)
            job.report("start", 0.0)
            try:
                keys = job.prepare(job)
                if self._running is not job:  # cancelled by what prepare did, such as closing the scene
                    continue
                if self._child is None:
                    self._launch()
            except Exception as error:
                self.tellTraceback(error)
                if self._running is job:
                    self._finish(Event.ERROR, str(error) or type(error).__name__)
                continue
            self._write({"id": job.identity, **keys})

    def _finish(self, event: Event, message: str = "") -> None:
        """End the job that runs and go on with the next."""
        self._softCancel.stop()
        job, self._running = self._running, None
        if job is not None:
            self._end(job, event, message)
        self._startNext()

    def _end(self, job: Job, event: Event, message: str = "") -> None:
        """Take a job, which is in the queue no more, to its last state; `message` where none says why already."""
        job.message = job.message or message
        try:
            job.take(event)
            if event is Event.RESULT:
                self._load(job)
            if job.state is not State.DONE:
                shutil.rmtree(job.folder, ignore_errors=True)
        finally:
            job.onEnd(job)

    def _load(self, job: Job) -> None:
        try:
            job.load(job)
        except Exception as error:
            self.tellTraceback(error)
            job.message = _("The result could not be loaded: {error}").format(error=error)
            job.take(Event.ERROR)
        else:
            job.take(Event.LOADED)

    # --- the process ------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        folder = libraryFolder()
        before = os.environ.get("PYTHONPATH", "")
        variables = {
            "PYTHONPATH": os.pathsep.join([folder, before]) if before else folder,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }
        self._hasSaidWhy = False
        self._child = Child(self._program or pythonProgram(), self._arguments, folder, variables, self._onChange)

    def _write(self, request: dict[str, Any]) -> None:
        if self._child is not None:
            self._child.write(json.dumps(request).encode())

    def _kill(self) -> None:
        """End the process at once; it frees all memory that it held. Its temporary files go with the job's folder."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _onSoftCancelTimeout(self) -> None:
        self._kill()
        self._finish(Event.CANCEL)

    def _onChange(self) -> None:
        """The worker said something, or ended although nobody here ended it."""
        child = self._child
        if child is None:
            return
        if child.couldNotStart:
            self._child = None
            child.letGo()
            message = _("{program} could not be started; install Slicer again.").format(program=child.program)
            self._finish(Event.ERROR, message)
            return
        hasEnded = child.hasEnded  # before reading, so that nothing it said is left
        for line in child.errorLines():
            text = line.decode(errors="replace").rstrip()
            self._hasSaidWhy = self._hasSaidWhy or text.startswith(FATAL)
            self._tell(text)
        for line in child.outputLines():
            if self._child is child:  # else what a line was about has ended it
                self._onLine(line)
        if hasEnded and self._child is child:
            self._child = None
            end = _("worker ended, signal {code}") if child.crashed else _("worker ended, exit code {code}")
            self._tell(end.format(code=child.exitCode))
            message = self._obituary(child)
            child.letGo()
            self._finish(Event.ERROR, message)

    def _onLine(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if isinstance(said, dict):
            self._onSaid(said)
        else:
            self._tell(line.decode(errors="replace"))

    def _onSaid(self, said: dict[str, Any]) -> None:
        """What the worker said about itself, or about the job that runs; what is about any other one is late."""
        job = self._running
        if said.get("event") in ("starting", "ready"):
            assert self._child is not None  # it speaks
            self._child.worker = int(said["pid"])
        elif said.get("event") == "end":
            self._hasSaidWhy = True
        elif job is not None and said.get("id", job.identity) == job.identity:
            self._onSaidOf(job, said)

    def _onSaidOf(self, job: Job, said: dict[str, Any]) -> None:
        event = eventOf(said)
        if event is Event.RESULT:
            job.path = said["path"]
            self._finish(event)
        elif event in (Event.ERROR, Event.CANCEL):
            self._tell(said["message"])
            self._finish(event, said["message"] if event is Event.ERROR else "")
        elif event is not None:
            job.take(event)
            if event is not Event.STARTED:
                job.report(said["stage"], float(said["fraction"]), said.get("message", ""))

    def _obituary(self, child: Child) -> str:
        """Why the worker ended in the middle of a job.

        A launcher turns signal 9, by which a system without memory ends a process, into an exit code of its own. It is
        known all the same: a worker that ends in any other way says so, or its Python does.
        """
        last = list(self.log)[-min(self._lines, SHOWN_LOG_LINES) :] if self._lines else []
        doing = self._running.doing if self._running else ""
        if not child.worker:
            why = _("The registration process could not begin (code {code}). The log may say why.")
        elif self._hasSaidWhy:
            why = _("The registration process ended unexpectedly (code {code}). Run again; the log may say why.")
        else:
            why = _(
                "The registration process was killed from outside, most likely because the memory ran out. "
                "Close other programs or choose the preset fast-preview, and run again."
            )
        lines = [why.format(code=child.exitCode)]
        if doing:
            lines.append(_("The last it did: {doing}.").format(doing=doing))
        return "\n".join([*lines, *last])

    def _tell(self, line: str) -> None:
        if line:
            self._lines += 1
            self.log.append(line)
            self.onLog(line)
