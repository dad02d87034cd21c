"""`spikereg worker`: the engine kept warm. JSON requests on stdin, one a line; JSON events on stdout, one a line."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from SpikeRegLib import __version__
from SpikeRegLib.commands.events import JsonLines
from SpikeRegLib.commands.register import registered
from SpikeRegLib.commands.requests import Desk, Quit, Request, SegmentationRequest, Understanding, read_object
from SpikeRegLib.commands.segment import segmented
from SpikeRegLib.errors import Cancelled, InputError, SpikeRegError
from SpikeRegLib.outputs.accounts import REGISTRATION, SEGMENTATION
from SpikeRegLib.outputs.folder import write_outputs
from SpikeRegLib.outputs.segmentation_folder import write_segmentation
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.system import interrupt
from SpikeRegLib.system.allocator import give_back_freed_memory
from SpikeRegLib.system.endings import explain

if TYPE_CHECKING:
    from types import FrameType

_PROTOCOL = """\
on stdin, one object a line:
  {"id": "r1", "fixed": "F", "moving": "M", "out": "DIR", ...}   the options of `spikereg register`, with underscores;
                     "outputs": ["transform.h5", ...] writes only these and result.json
  {"id": "s1", "segment": "IMAGE", "out": "DIR", ...}   the options of `spikereg segment`, with underscores
  {"cancel": "r1"}   stop or forget it
  {"quit": true}     stop everything and end; the end of stdin lets what was asked be finished first, unless
                     the worker was started with --end-with-stdin

on stdout, one object a line:
  {"event": "starting", "pid": ...}   with --end-with-stdin alone, before anything is loaded
  {"event": "ready", "pid": ..., "version": ...}
  {"event": "started", "id": ...}
  {"event": "progress", "id": ..., "stage": ..., "fraction": ..., "message": ...}
  {"event": "result", "id": ..., "path": "/absolute/result.json"}   or segmentation.json
  {"event": "error", "id": ..., "message": ..., "code": 2 (input), 1 (failure) or 130 (cancelled)}
  {"event": "end"}   with --end-with-stdin alone; one that ends without it crashed, or was killed

What the last request read and found is kept; the next one recomputes from the first stage that a change concerns on.
"""
_LAST_WORD_S = 0.3
_WRITING = {"stage": "finish", "fraction": 1.0, "message": "writing the results"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _PROTOCOL
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="end at once when stdin closes, whatever runs: for a program that must not leave this one behind",
    )


class Events:
    """Writes events as lines of JSON, from any thread.

    Args:
        stream: where they go.

    Attributes:
        lost: nobody reads them any more.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.lost = False

    def emit(self, event: str, **values: Any) -> None:
        """Write one event; nothing once the stream is broken."""
        line = json.dumps({"event": event, **values}) + "\n"
        with self._lock:
            if self.lost:
                return
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # closed at the other end, or at this one
                self.lost = True


def run(options: argparse.Namespace) -> int:
    events = Events(_claim_stdout())
    desk = Desk()

    def on_signal(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=desk.stop).start()  # the lock of the desk may be held where the signal struck

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if not options.end_with_stdin:
        serve(sys.stdin.buffer, events, desk, debug=options.debug)
        return 0
    events.emit("starting", pid=os.getpid())
    with contextlib.suppress(OSError):  # started without a stderr
        faulthandler.enable(os.dup(2))  # not 2 itself, which is silenced where ITK is at work
    try:
        serve(_until_closed(sys.stdin.buffer, desk), events, desk, debug=options.debug)
    finally:
        events.emit("end")
    return 0


def _until_closed(stream: Iterable[bytes], desk: Desk) -> Iterator[bytes]:
    """The lines of a stream, read from now on by a thread of its own, so that its end is noticed whatever goes on.

    Then this process ends, by itself if it can be stopped soon and in the midst of its work if not.
    """
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        desk.stop()
        time.sleep(_LAST_WORD_S)
        os._exit(Cancelled.exit_code)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return iter(lines.get, None)


def _claim_stdout() -> IO[str]:
    """What stdout was, for events alone; whatever else this process prints to it goes to stderr from now on."""
    sys.stdout.flush()
    claimed = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="\n")
    try:
        os.dup2(2, sys.stdout.fileno())
    except OSError:  # started without a stderr
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return claimed


def serve(lines: Iterable[bytes], events: Events, desk: Desk, *, debug: bool = False) -> None:
    """Do what the lines ask, one request after another, until they end or say so, or nobody reads the events.

    Args:
        lines: requests; read by a thread of its own, so that a running one can be cancelled.
        events: what happens.
        desk: where requests wait.
        debug: show the traceback of every error on stderr.
    """
    import SpikeRegLib.pipeline.engine  # noqa: F401  torch takes a second: better before "ready" than after the first request

    memory = Memory()
    reader = threading.Thread(target=_read, args=(lines, Understanding(), events, desk), name="requests", daemon=True)
    events.emit("ready", pid=os.getpid(), version=__version__)
    reader.start()
    while not events.lost and (request := desk.take()) is not None:
        _work(request, events, memory, desk, debug=debug)
        give_back_freed_memory()


def _read(lines: Iterable[bytes], understand: Understanding, events: Events, desk: Desk) -> None:
    """Lay down every request and obey every cancel, until the lines end."""
    try:
        for line in lines:
            if line.strip():
                _obey(line, understand, events, desk)
            if events.lost:
                desk.stop()
    finally:
        desk.close()


def _obey(line: bytes, understand: Understanding, events: Events, desk: Desk) -> None:
    table: dict[str, Any] = {}
    try:
        table = read_object(line)
        asked = understand(table)
        if isinstance(asked, Quit):
            desk.stop()
        elif isinstance(asked, (Request, SegmentationRequest)):
            desk.put(asked)
        elif desk.cancel(asked.id):
            _tell_error(events, asked.id, Cancelled.exit_code, "cancelled before it was started")
    except InputError as error:
        _tell_error(events, table.get("id"), error.exit_code, str(error))
    except RecursionError:  # read by a hair, but too deep to be shown
        _tell_error(
            events, None, InputError.exit_code, "not a line of JSON (nested too deeply); send one object a line"
        )


def _work(request: Request | SegmentationRequest, events: Events, memory: Memory, desk: Desk, *, debug: bool) -> None:
    """One request, from the options to the files; a registration takes up what `memory` holds of the last one."""
    emit = partial(events.emit, id=request.id)
    report = JsonLines(emit)

    def listener(progress: Progress) -> None:
        report(progress)
        if events.lost:
            interrupt.ask()
        interrupt.check()

    emit("started")
    try:
        path = _done(request, listener, memory, lambda: emit("progress", **_WRITING))
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        if not isinstance(error, SpikeRegError):  # out of memory, or a defect: nothing of that run is trusted
            memory.clear()
        end = explain(error)
        desk.done()  # before anybody hears of it, and asks for another one of this id
        _tell_error(events, request.id, *end)
    else:
        desk.done()
        emit("result", path=str(path.resolve()))


def _done(
    request: Request | SegmentationRequest, listener: Listener, memory: Memory, writing: Callable[[], None]
) -> Path:
    """Do what is asked; the path of the file that lists the others. `writing` is called before they are written."""
    if isinstance(request, SegmentationRequest):
        segmentation = segmented(request.options, listener=listener)
        writing()
        return write_segmentation(segmentation, request.options.out) / SEGMENTATION.account
    registration = registered(request.options, listener=listener, memory=memory)
    writing()
    return write_outputs(registration, request.options.out, request.outputs) / REGISTRATION.account


def _tell_error(events: Events, identity: Any, code: int, message: str) -> None:
    named = {"id": identity} if isinstance(identity, str) else {}
    events.emit("error", **named, message=" ".join(message.split()), code=code)
