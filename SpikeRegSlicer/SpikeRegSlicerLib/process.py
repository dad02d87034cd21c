"""The library's worker as a child process: requests go in one after another, events come back, cancel kills."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.library import libraryFolder, pythonProgram

LOG_LINES = 500
SHOWN_LOG_LINES = 6
KILL_MS = 500
SOFT_CANCEL_MS = 300
KILLED = 9


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
    """

    prepare: Callable[[], dict[str, Any]]
    folder: str
    onProgress: Callable[[str, float, str], None] = lambda stage, fraction, message: None
    onEnd: Callable[[Task], None] = lambda task: None
    state: str = "waiting"
    path: str = ""
    message: str = ""
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
        self._arguments = ["-m", "SpikeRegLib", "worker"] if arguments is None else arguments
        self._process: Any = None
        self._output = b""
        self._errors = b""
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
        """Of the worker; 0 while there is none."""
        return int(self._process.processId()) if self._process else 0

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
        elif task is self._running and keepWarm and self._process:
            self._write({"cancel": task.identity})
            self._softCancel.start(SOFT_CANCEL_MS)
        elif task is self._running:
            self._kill()
            self._finish("cancelled")

    def wait(self, task: Task) -> None:
        """Return when the task has ended; Slicer stays alive meanwhile."""
        while task.isPending and self._process:
            self._process.waitForReadyRead(20)
            slicer.app.processEvents()

    def close(self) -> None:
        """Cancel everything and end the process."""
        for task in self.waiting:
            self.cancel(task)
        if self._running:
            self.cancel(self._running)
        self._kill()

    # --- the queue --------------------------------------------------------------------------------------------------

    def _startNext(self) -> None:
        while self._running is None and self._waiting:
            self._running = task = self._waiting.pop(0)
            task.state = "running"
            task.onProgress("start", 0.0, "")
            try:
                keys = task.prepare()
                if self._running is not task:  # cancelled by what prepare did, such as closing the scene
                    continue
                if self._process is None:
                    self._launch()
            except Exception as error:
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
        environment = qt.QProcessEnvironment.systemEnvironment()
        before = environment.value("PYTHONPATH", "")
        environment.insert("PYTHONPATH", os.pathsep.join([folder, before]) if before else folder)
        environment.insert("PYTHONUNBUFFERED", "1")
        environment.insert("PYTHONIOENCODING", "utf-8")
        self._output = self._errors = b""
        self._process = process = qt.QProcess()
        process.setProcessEnvironment(environment)
        process.setWorkingDirectory(folder)
        process.readyReadStandardOutput.connect(self._onOutput)
        process.readyReadStandardError.connect(self._onErrors)
        process.finished.connect(self._onFinished)
        process.errorOccurred.connect(self._onErrorOccurred)
        process.start(self._program or pythonProgram(), self._arguments)

    def _write(self, request: dict[str, Any]) -> None:
        self._process.write((json.dumps(request) + "\n").encode())

    def _kill(self) -> None:
        """End the process at once; it frees all memory that it held. Its temporary files go with the task's folder."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.waitForFinished(KILL_MS)
            process.deleteLater()

    def _onSoftCancelTimeout(self) -> None:
        self._kill()
        self._finish("cancelled")

    def _onOutput(self) -> None:
        if self._process is None:
            return
        *lines, self._output = (self._output + _bytes(self._process.readAllStandardOutput())).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                self._tell(line.decode(errors="replace"))
            else:
                self._onEvent(event)

    def _onEvent(self, event: dict[str, Any]) -> None:
        task = self._running
        if task is None or event.get("id", task.identity) != task.identity:
            return
        kind = event.get("event")
        if kind == "progress":
            task.onProgress(event["stage"], float(event["fraction"]), event.get("message", ""))
        elif kind == "result":
            self._finish("done", path=event["path"])
        elif kind == "error":
            self._tell(event["message"])
            cancelled = event.get("code") == 130
            self._finish("cancelled" if cancelled else "failed", "" if cancelled else event["message"])

    def _onErrors(self) -> None:
        if self._process is None:
            return
        *lines, self._errors = (self._errors + _bytes(self._process.readAllStandardError())).split(b"\n")
        for line in lines:
            self._tell(line.decode(errors="replace").rstrip())

    def _onFinished(self, *_values: Any) -> None:
        """The process ended although nobody here ended it."""
        if self._process is None:
            return
        self._onOutput()
        self._onErrors()
        process, self._process = self._process, None
        if process is None:
            return
        crashed, code = process.exitStatus() == qt.QProcess.CrashExit, process.exitCode()
        process.deleteLater()
        self._tell(f"worker ended, {'signal' if crashed else 'exit code'} {code}")
        self._finish("failed", self._obituary(crashed, code))

    def _onErrorOccurred(self, error: Any) -> None:
        if self._process is None or error != qt.QProcess.FailedToStart:
            return
        process, self._process = self._process, None
        program = process.program()
        process.deleteLater()
        self._finish("failed", _("{program} could not be started; install Slicer again.").format(program=program))

    def _obituary(self, crashed: bool, code: int) -> str:
        if crashed and code == KILLED:
            why = _(
                "The registration process was killed from outside, most likely because the memory ran out. "
                "Close other programs or choose the preset fast-preview, and run again."
            )
        else:
            why = _(
                "The registration process ended unexpectedly (code {code}). Run again; the log may say why."
            ).format(code=code)
        last = list(self.log)[-SHOWN_LOG_LINES:]
        return "\n".join([why, *last])

    def _tell(self, line: str) -> None:
        if line:
            self.log.append(line)
            self.onLog(line)


def _bytes(array: Any) -> bytes:
    """The content of a QByteArray."""
    return bytes(array.data())
