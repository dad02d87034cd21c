"""The states of a run: what the table allows, what it refuses, and what the worker's words make of them."""

from __future__ import annotations

import module_tools as tools
import pytest

tools.module()

from SpikeRegSlicerLib import jobs  # noqa: E402
from SpikeRegSlicerLib.jobs import TRANSITIONS, Event, Job, State, TransitionError, eventOf  # noqa: E402

PAIRS = [(state, event) for state in State for event in Event]
ENDS = (State.DONE, State.FAILED, State.CANCELLED)


def jobIn(state: State, **keywords) -> Job:
    job = Job(prepare=lambda job: {}, folder="", **keywords)
    job._state = state
    return job


@pytest.mark.parametrize(
    ("state", "event"), [pair for pair in PAIRS if pair[1] not in TRANSITIONS[pair[0]]], ids=lambda each: each.value
)
def test_what_is_not_in_the_table_is_refused(state, event):
    job = jobIn(state)
    with pytest.raises(TransitionError, match=f"a run that is {state.value} takes no {event.value}"):
        job.take(event)
    assert job.state is state


@pytest.mark.parametrize(
    ("state", "event"), [pair for pair in PAIRS if pair[1] in TRANSITIONS[pair[0]]], ids=lambda each: each.value
)
def test_what_is_in_the_table_is_done(state, event):
    job = jobIn(state)
    job.take(event)
    assert job.state is TRANSITIONS[state][event]
    assert job.isPending is (job.state not in ENDS)


def test_the_table_in_the_docstring_is_the_table():
    lines = [line[4:] for line in jobs.__doc__.splitlines()]
    first, second, third = (number for number, line in enumerate(lines) if line.startswith("===="))
    starts = [number for number in range(len(lines[first])) if f" {lines[first]}"[number : number + 2] == " ="]
    cells = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], 999], strict=True)] for line in lines]
    head = cells[first + 1][1:]
    shown = {
        row[0]: {event: state for event, state in zip(head, row[1:], strict=True) if state}
        for row in cells[second + 1 : third]
    }
    assert head == [event.value for event in Event]
    assert shown == {
        state.value: {event.value: after.value for event, after in row.items()}
        for state, row in TRANSITIONS.items()
        if row
    }
    assert [state for state in State if not TRANSITIONS[state]] == list(ENDS)


def test_every_state_can_be_reached_and_every_run_that_is_pending_can_be_cancelled():
    reached, todo = set(), [State.WAITING]
    while todo:
        reached.add(state := todo.pop())
        todo += [after for after in TRANSITIONS[state].values() if after not in reached]
    assert reached == set(State)
    assert [state for state in State if TRANSITIONS[state].get(Event.CANCEL)] == [s for s in State if s not in ENDS]


def test_a_state_is_changed_by_an_event_alone():
    with pytest.raises(AttributeError):
        jobIn(State.WAITING).state = State.DONE


@pytest.mark.parametrize(
    ("said", "event"),
    [
        ({"event": "started"}, Event.STARTED),
        ({"event": "progress", "stage": "align", "fraction": 1.0}, Event.PROGRESS),
        ({"event": "progress", "stage": "finish", "fraction": 0.9}, Event.PROGRESS),
        ({"event": "progress", "stage": "finish", "fraction": 1}, Event.COMPUTED),
        ({"event": "result", "path": "x"}, Event.RESULT),
        ({"event": "error", "message": "no", "code": 2}, Event.ERROR),
        ({"event": "error", "message": "no"}, Event.ERROR),
        ({"event": "error", "message": "no", "code": 130}, Event.CANCEL),
        ({"event": "ready", "pid": 3}, None),
        ({"event": ["no", "text"]}, None),
        ({}, None),
    ],
)
def test_what_the_worker_says_is_an_event(said, event):
    assert eventOf(said) is event


def waySeen(folder, behaviour: str, load=lambda job: None) -> tuple[Job, list[str]]:
    """A job that a stand-in for the worker did, and its states in order: at each report, while loading, at the end."""
    seen: list[str] = []

    def loaded(job):
        seen.append(f"{job.state.value} into the scene")
        load(job)

    folder.mkdir()
    process = tools.standIn(behaviour)
    job = Job(prepare=lambda job: {"out": str(folder / "out")}, folder=str(folder), load=loaded)
    job.onProgress = lambda stage, fraction, message: seen.append(f"{job.state.value} {stage}")
    job.onEnd = lambda job: seen.append(job.state.value)
    process.submit(job)
    process.wait(job)
    process.close()
    return job, seen


def test_the_whole_way_with_a_worker(scene, tmp_path):
    job, seen = waySeen(tmp_path / "a", "whole")
    way = ["starting start", "running align", "writing finish", "writing into the scene", "done"]
    assert seen == way and (job.stage, job.doing, job.message) == ("finish", "writing the results", "")


def test_a_result_that_cannot_be_loaded_is_a_failure_and_its_folder_goes(scene, tmp_path):
    def load(job):
        raise ValueError("no such grid")

    job, seen = waySeen(tmp_path / "a", "finish", load)
    assert seen[-2:] == ["writing into the scene", "failed"] and not (tmp_path / "a").exists()
    assert job.message == "The result could not be loaded: no such grid"


def test_a_job_that_is_cancelled_while_it_is_prepared_takes_no_other_one_with_it(scene, tmp_path):
    process = tools.standIn("hang")
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, other = (Job(prepare=lambda job: {}, folder=str(folder)) for folder in folders)

    def prepare(job):
        process.submit(other)
        process.cancel(job)
        raise OSError("what it read is gone")

    one.prepare = prepare
    process.submit(one)
    assert (one.state, other.state) == ("cancelled", "starting") and process.running is other
    process.close()
