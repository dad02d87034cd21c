"""A program as a child process: what it says, line by line; its end; and how it is ended with everything it started.

PythonQt deletes a Qt object made in Python at the moment its last reference goes, also inside one of that object's own
signals, where Qt goes on to use it. So the slots here note what happened and do nothing else: what follows from it is
done from the event loop, and the process is let go of from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

import qt

KILL_MS = 500
AGAIN_MS = 50


class Child:
    """A program that runs, until it ends by itself or is ended.

    Args:
        program, arguments: what to start.
        folder: to start it in.
        environment: variables to set besides those of this process.
        onChange: called from the event loop when there may be new lines, or an end; not after `end`.

    Attributes:
        worker: number of the process that does the work, once it has named it: the program may be a launcher, whose
            child that process is, and whose end it survives. 0 before.
        hasEnded: the program has ended, or could not be started.
        couldNotStart: the latter.
    """

    def __init__(
        self,
        program: str,
        arguments: list[str],
        folder: str,
        environment: dict[str, str],
        onChange: Callable[[], None],
    ) -> None:
        self.program = program
        self.worker = 0
        self.hasEnded = self.couldNotStart = False
        self._onChange: Callable[[], None] | None = onChange
        self._isWoken = False
        self._rest = {"output": b"", "errors": b""}
        self._process = process = qt.QProcess()
        variables = qt.QProcessEnvironment.systemEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        process.setProcessEnvironment(variables)
        process.setWorkingDirectory(folder)
        process.readyReadStandardOutput.connect(self._wake)
        process.readyReadStandardError.connect(self._wake)
        process.finished.connect(self._onFinished)
        process.errorOccurred.connect(self._onErrorOccurred)
        process.start(program, arguments)

    @property
    def processId(self) -> int:
        """Of the process that does the work; of the program before that has said so, and 0 after it ended."""
        return 0 if self.hasEnded else self.worker or int(self._process.processId())

    @property
    def exitCode(self) -> int:
        """Of a program that has ended, or the number of the signal that ended it."""
        return int(self._process.exitCode())

    @property
    def crashed(self) -> bool:
        """Whether a signal ended the program."""
        return bool(self._process.exitStatus() == qt.QProcess.CrashExit)

    def write(self, line: bytes) -> None:
        """Send a line; nothing where nobody reads it any more."""
        if not self.hasEnded:
            self._process.write(line + b"\n")

    def outputLines(self) -> list[bytes]:
        """What was written to stdout since the last call, whole lines only."""
        return self._lines("output", self._process.readAllStandardOutput())

    def errorLines(self) -> list[bytes]:
        """What was written to stderr since the last call; once the program has ended also what is no whole line."""
        lines = self._lines("errors", self._process.readAllStandardError())
        if self.hasEnded and self._rest["errors"]:
            lines.append(self._rest["errors"])
            self._rest["errors"] = b""
        return lines

    def wait(self, milliseconds: int) -> None:
        """Return when there is something to read, or after this time."""
        self._process.waitForReadyRead(milliseconds)

    def end(self) -> None:
        """End it at once, and the process that does the work first, which a launcher would leave behind.

        That process frees all memory it held. Where it has not named itself yet and the system (one that is not Linux)
        does not name it either, its closed stdin tells it to end.
        """
        self._onChange = None
        if not self.hasEnded:
            self._endWorker()
            self._process.closeWriteChannel()
            self._process.kill()
            self._process.waitForFinished(KILL_MS)
        self.letGo()

    def letGo(self) -> None:
        """The program is of no more interest: keep its Qt object until the event loop is reached and it has ended.

        Nothing else can be asked of this object then.
        """
        self._onChange = None
        qt.QTimer.singleShot(0 if self.hasEnded else AGAIN_MS, self._forget)

    def _endWorker(self) -> None:
        for worker in {self.worker, *_childrenOf(int(self._process.processId()))}:
            if worker > 1:  # 0, 1 and negative numbers would mean groups of processes and the whole system
                with contextlib.suppress(OSError):  # it ended by itself
                    os.kill(worker, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _forget(self) -> None:
        if self.hasEnded:
            self._process = None  # its connections hold this object, so that neither would go by itself
        else:  # destroying a process that runs would wait for it
            self.letGo()

    def _lines(self, stream: str, read: Any) -> list[bytes]:
        *lines, self._rest[stream] = (self._rest[stream] + bytes(read.data())).split(b"\n")
        return lines

    # --- slots: inside the process's own signals --------------------------------------------------------------------

    def _onFinished(self, *_values: Any) -> None:
        self.hasEnded = True
        self._wake()

    def _onErrorOccurred(self, error: Any) -> None:
        if error == qt.QProcess.FailedToStart:
            self.hasEnded = self.couldNotStart = True
            self._wake()

    def _wake(self) -> None:
        if not self._isWoken:
            self._isWoken = True
            qt.QTimer.singleShot(0, self._change)

    def _change(self) -> None:
        self._isWoken = False
        if self._onChange is not None:
            self._onChange()


def _childrenOf(pid: int) -> list[int]:
    """Processes that this one started and that still run, where the system says so (Linux)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []
