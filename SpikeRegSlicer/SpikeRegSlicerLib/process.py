"""The library's worker as a child process: requests go in one after another, events come back, cancel kills."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.child import Child
from SpikeRegSlicerLib.library import libraryFolder, pythonProgram

LOG_LINES = 500
SHOWN_LOG_LINES = 6
SOFT_CANCEL_MS = 300
FATAL = "Fatal Python error"  # what Python's faulthandler, which the worker turns on, writes before a crash


@dataclass
class Task:
    """One request to the worker.

    Attributes:
        prepare: called when its turn comes; writes what the worker reads and returns the keys of the request. What it
            raises ends the task as failed.
        folder: of this task alone; removed unless the task succeeds.
        onProgress: called with stage, fraction of it in 0..1 and a message.
        onEnd: called once, with this task.
        state: waiting, running, done, failed or cancelled.
        path: of result.json, once done.
        message: why it failed.
        doing: what the worker said last that it is at.
    """

    prepare: Callable[[], dict[str, Any]]
    folder: str
    onProgress: Callable[[str, float, str], None] = lambda stage, fraction, message: None
    onEnd: Callable[[Task], None] = lambda task: None
    state: str = "waiting"
    path: str = ""
    message: str = ""
    doing: str = ""
    identity: str = field(default="", repr=False)

    @property
    def isPending(self) -> bool:
        return self.state in ("waiting", "running")


class WorkerProcess:
    """Runs tasks one after another in one process, which is started by the first and stays warm for the next.

    Attributes:
        log: last lines that the process wrote to stderr, and what became of it.
        onLog: called with each such line.
    """

    def __init__(self, program: str | None = None, arguments: list[str] | None = None) -> None:
        self._program = program
        self._arguments = ["-m", "SpikeRegLib", "worker", "--end-with-stdin"] if arguments is None else arguments
        self._child: Child | None = None
        self._lines = 0  # of the log since the task that runs was started
        self._hasSaidWhy = False
        self._isHeld = False
        self._waiting: list[Task] = []
        self._running: Task | None = None
        self._count = 0
        self._softCancel = qt.QTimer()
        self._softCancel.setSingleShot(True)
        self._softCancel.timeout.connect(self._onSoftCancelTimeout)
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.onLog: Callable[[str], None] = lambda line: None

    @property
    def running(self) -> Task | None:
        """The task that the worker is at."""
        return self._running

    @property
    def waiting(self) -> list[Task]:
        """Tasks whose turn has not come, in order."""
        return list(self._waiting)

    @property
    def processId(self) -> int:
        """Of the worker itself, not of the launcher that it is the child of; 0 while there is none."""
        return self._child.processId if self._child else 0

    def submit(self, task: Task) -> None:
        """Put a task at the end of the queue; it starts at once when nothing runs."""
        self._count += 1
        task.identity = f"run{self._count}"
        self._waiting.append(task)
        self._startNext()

    def cancel(self, task: Task, keepWarm: bool = False) -> None:
        """End a task. One that runs is killed with its process, within half a second, and its folder is removed.

        Args:
            task: one that has ended is left as it is.
            keepWarm: ask the worker to stop the task and kill it only if it does not obey soon; for a task that
                another one replaces.
        """
        if task in self._waiting:
            self._waiting.remove(task)
            self._end(task, "cancelled")
        elif task is self._running and keepWarm and self._child:
            self._write({"cancel": task.identity})
            self._softCancel.start(SOFT_CANCEL_MS)
        elif task is self._running:
            self._kill()
            self._finish("cancelled")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within this no task is started."""
        self._isHeld = True
        try:
            yield
        finally:
            self._isHeld = False
            self._startNext()

    def wait(self, task: Task) -> None:
        """Return when the task has ended; Slicer stays alive meanwhile."""
        while task.isPending and self._child:
            self._child.wait(20)
            slicer.app.processEvents()

    def close(self) -> None:
        """Cancel everything and end the process."""
        for task in self.waiting:
            self.cancel(task)
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
            self._running = task = self._waiting.pop(0)
            task.state, self._lines = "running", 0
            task.onProgress("start", 0.0, "")
            try:
                keys = task.prepare()
                if self._running is not task:  # cancelled by what prepare did, such as closing the scene
                    continue
                if self._child is None:
                    self._launch()
            except Exception as error:
                self.tellTraceback(error)
                self._finish("failed", str(error))
                continue
            self._write({"id": task.identity, **keys})

    def _finish(self, state: str, message: str = "", path: str = "") -> None:
        """End the task that runs and go on with the next."""
        self._softCancel.stop()
        task, self._running = self._running, None
        if task is not None:
            self._end(task, state, message, path)
        self._startNext()

    def _end(self, task: Task, state: str, message: str = "", path: str = "") -> None:
        task.state, task.message, task.path = state, message, path
        try:
            if state != "done":
                shutil.rmtree(task.folder, ignore_errors=True)
        finally:
            task.onEnd(task)

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
        """End the process at once; it frees all memory that it held. Its temporary files go with the task's folder."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _onSoftCancelTimeout(self) -> None:
        self._kill()
        self._finish("cancelled")

    def _onChange(self) -> None:
        """The worker said something, or ended although nobody here ended it."""
        child = self._child
        if child is None:
            return
        if child.couldNotStart:
            self._child = None
            child.letGo()
            program = child.program
            self._finish("failed", _("{program} could not be started; install Slicer again.").format(program=program))
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
            self._tell(f"worker ended, {'signal' if child.crashed else 'exit code'} {child.exitCode}")
            message = self._obituary(child)
            child.letGo()
            self._finish("failed", message)

    def _onLine(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            self._onEvent(event)
        else:
            self._tell(line.decode(errors="replace"))

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind, task = event.get("event"), self._running
        if kind in ("starting", "ready"):
            self._child.worker = int(event["pid"])
        elif kind == "end":
            self._hasSaidWhy = True
        elif task is None or event.get("id", task.identity) != task.identity:
            return
        elif kind == "progress":
            task.doing = event.get("message") or task.doing
            task.onProgress(event["stage"], float(event["fraction"]), event.get("message", ""))
        elif kind == "result":
            self._finish("done", path=event["path"])
        elif kind == "error":
            self._tell(event["message"])
            cancelled = event.get("code") == 130
            self._finish("cancelled" if cancelled else "failed", "" if cancelled else event["message"])

    def _obituary(self, child: Child) -> str:
        """Why the worker ended in the middle of a task.

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
