"""A run on its way through the worker: the states it can be in, and what takes it from one to the next.

    waiting --> starting --> running --> writing --> done
       |            |           |           |
       |            +-----------+-----------+------> failed
       +------------+-----------+-----------+------> cancelled

What each event makes of each state; where the table has nothing, the event is refused:

    ========  ========  =======  ========  ========  =======  ========  ======  =========
    state     turn      started  progress  computed  result   loaded    error   cancel
    ========  ========  =======  ========  ========  =======  ========  ======  =========
    waiting   starting                                                          cancelled
    starting            running                                         failed  cancelled
    running                      running   writing   writing            failed  cancelled
    writing                      writing   writing   writing  done      failed  cancelled
    ========  ========  =======  ========  ========  =======  ========  ======  =========

No event takes a run out of done, failed or cancelled.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

LAST_STAGE = "finish"  # of the worker; once its fraction is 1 the files are written
CANCELLED_CODE = 130  # of an error that is the answer to a cancel


class State(str, enum.Enum):
    """Where a run stands; each is equal to its name as text."""

    WAITING = "waiting"
    """Its turn has not come."""
    STARTING = "starting"
    """Its nodes are written to files, and the worker, started where none runs, is asked."""
    RUNNING = "running"
    """The worker is at one of its stages."""
    WRITING = "writing"
    """The result is written: by the worker into files, then into the scene."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(str, enum.Enum):
    """What happens to a run; `eventOf` says which line of the worker means which."""

    TURN = "turn"
    """Nothing else runs any more."""
    STARTED = "started"
    """The worker has taken it up."""
    PROGRESS = "progress"
    """The worker says at which stage it is."""
    COMPUTED = "computed"
    """The worker is through with its last stage."""
    RESULT = "result"
    """The worker has written its files."""
    LOADED = "loaded"
    """They are in the scene."""
    ERROR = "error"
    """The nodes could not be written, the worker refused or died, or the files could not be loaded."""
    CANCEL = "cancel"
    """A person, or what became of the scene, ended it."""


_ENDS = {Event.ERROR: State.FAILED, Event.CANCEL: State.CANCELLED}
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.WAITING: {Event.TURN: State.STARTING, Event.CANCEL: State.CANCELLED},
    State.STARTING: {Event.STARTED: State.RUNNING, **_ENDS},
    State.RUNNING: {
        Event.PROGRESS: State.RUNNING,
        Event.COMPUTED: State.WRITING,
        Event.RESULT: State.WRITING,
        **_ENDS,
    },
    State.WRITING: {
        Event.PROGRESS: State.WRITING,
        Event.COMPUTED: State.WRITING,
        Event.RESULT: State.WRITING,
        Event.LOADED: State.DONE,
        **_ENDS,
    },
    State.DONE: {},
    State.FAILED: {},
    State.CANCELLED: {},
}
"""State -> event that it can take -> state after it."""


class TransitionError(RuntimeError):
    """An event that a run cannot take in its state."""


class JobError(RuntimeError):
    """A run that gave no result; the message says why, and what to do."""


def eventOf(said: dict[str, Any]) -> Event | None:
    """What a line of the worker means for the run that it is about; None for nothing."""
    kind = said.get("event")
    if kind == "progress":
        isLast = said["stage"] == LAST_STAGE and float(said["fraction"]) >= 1
        return Event.COMPUTED if isLast else Event.PROGRESS
    if kind == "error" and said.get("code") == CANCELLED_CODE:
        return Event.CANCEL
    return {"started": Event.STARTED, "result": Event.RESULT, "error": Event.ERROR}.get(str(kind))


@dataclass(kw_only=True, eq=False)
class Job:
    """One run, from the queue to its end.

    Attributes:
        prepare: called with this job when its turn comes; writes what the worker reads and returns the keys of the
            request. What it raises ends the job as failed.
        load: called with this job when the worker has written its files; what it raises does the same.
        folder: of this job alone; removed unless it finishes.
        reads: nodes of the scene; a job ends where one of them is removed.
        error: raised for one that gave no result.
        shares: stage of the worker -> its share in the time of such a run, see `progress.Progress`.
        onProgress: called with stage, fraction of it in 0..1 and a message.
        onDone: called once, with this job, when it is finished, failed or cancelled and out of the queue.
        onEnd: called once, with this job, in its last state.
        stage, doing: what the worker said last that it is at.
        path: of the file that lists the others, once that is written.
        message: why it failed or was cancelled.
        identity: its name in what goes to the worker and comes from it.
    """

    error: ClassVar[type[JobError]] = JobError
    shares: ClassVar[dict[str, float]] = {}

    prepare: Callable[[Any], dict[str, Any]]
    folder: str
    reads: tuple[Any, ...] = ()
    load: Callable[[Any], None] = lambda job: None
    onProgress: Callable[[str, float, str], None] = lambda stage, fraction, message: None
    onDone: Callable[[Any], None] = lambda job: None
    onEnd: Callable[[Any], None] = lambda job: None
    stage: str = ""
    doing: str = ""
    path: str = ""
    message: str = ""
    identity: str = field(default="", repr=False)
    _state: State = field(default=State.WAITING, init=False)

    @property
    def state(self) -> State:
        """Changed by `take` alone."""
        return self._state

    @property
    def isPending(self) -> bool:
        """Whether anything can still become of it."""
        return bool(TRANSITIONS[self._state])

    @property
    def made(self) -> Any:
        """What it made, once finished; each kind of run says what that is."""
        return None

    def take(self, event: Event) -> None:
        """Go to the state that the table has for this event.

        Raises:
            TransitionError: it has none; the job is as before.
        """
        if event not in TRANSITIONS[self._state]:
            raise TransitionError(f"a run that is {self._state.value} takes no {event.value}")
        self._state = TRANSITIONS[self._state][event]

    def report(self, stage: str, fraction: float, message: str = "") -> None:
        """Note what the worker is at, and pass it on."""
        self.stage, self.doing = stage, message or self.doing
        self.onProgress(stage, fraction, message)
