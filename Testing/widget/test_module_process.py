"""The worker as a child process: order, results, cancel, death."""

from __future__ import annotations

import os
import signal
import time
import weakref

import module_tools as tools
import pytest
import slicer
from host import gestures

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def start(tmp_path):
    """Function that makes a process whose worker behaves as said; closed at the end."""
    made = []

    def start(behaviour):
        made.append(tools.standIn(behaviour))
        return made[-1]

    yield start
    for process in made:
        process.close()


def started(process) -> set[int]:
    """The launcher and the worker, once both run."""
    launcher = process.processId
    gestures.waitUntil(lambda: process.processId != launcher)
    return tools.family(launcher)


def taskIn(folder, **keywords):
    from SpikeRegSlicerLib.jobs import Job

    folder.mkdir()
    return Job(prepare=lambda job: {"out": str(folder / "out")}, folder=str(folder), **keywords)


def test_tasks_run_one_after_another_in_one_process(start, tmp_path):
    process, ended, pids = start("finish"), [], []

    def onEnd(task):
        ended.append((task.folder[-1], task.state))
        pids.append(process.processId)

    tasks = [taskIn(tmp_path / name, onEnd=onEnd) for name in "abc"]
    for task in tasks:
        process.submit(task)
    assert [task.state for task in tasks] == ["starting", "waiting", "waiting"]
    process.wait(tasks[-1])
    assert ended == [("a", "done"), ("b", "done"), ("c", "done")]
    assert len(set(pids)) == 1
    assert tasks[0].path == os.path.join(tasks[0].folder, "out", "result.json")
    assert os.path.isdir(tasks[0].folder)


def test_progress_is_heard(start, tmp_path):
    heard = []
    process = start("finish")
    task = taskIn(tmp_path / "a", onProgress=lambda *values: heard.append(values))
    process.submit(task)
    process.wait(task)
    assert heard == [("start", 0.0, ""), ("align", 0.5, "half way")]


def test_cancel_ends_launcher_and_worker_within_half_a_second_and_removes_the_folder(start, tmp_path):
    process = start("part")
    task, following = taskIn(tmp_path / "a"), taskIn(tmp_path / "b")
    process.submit(task)
    process.submit(following)
    both = started(process)
    assert len(both) == 2 and process.processId in both
    gestures.waitUntil(lambda: os.path.exists(os.path.join(task.folder, "out", "half")))
    began = time.monotonic()
    process.cancel(task)
    assert time.monotonic() - began < 0.5
    gestures.waitUntil(lambda: not any(map(tools.isAlive, both)), 0.5)
    assert (task.state, os.path.exists(task.folder)) == ("cancelled", False)
    assert following.state == "starting" and process.processId not in {0, *both}


def test_a_waiting_task_is_dropped_without_touching_the_one_that_runs(start, tmp_path):
    process = start("hang")
    task, following = taskIn(tmp_path / "a"), taskIn(tmp_path / "b")
    process.submit(task)
    process.submit(following)
    process.cancel(following)
    assert (task.state, following.state) == ("starting", "cancelled")
    assert os.path.isdir(task.folder) and not os.path.exists(following.folder)


def test_a_replaced_task_leaves_the_worker_warm(start, tmp_path):
    process = start("obey")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    started(process)
    pid = process.processId
    process.cancel(task, keepWarm=True)
    process.wait(task)
    assert task.state == "cancelled" and process.processId == pid and tools.isAlive(pid)


def test_a_worker_that_does_not_obey_is_killed_all_the_same(start, tmp_path):
    process = start("hang")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    both = started(process)
    process.cancel(task, keepWarm=True)
    process.wait(task)
    assert task.state == "cancelled"
    gestures.waitUntil(lambda: not any(map(tools.isAlive, both)), 0.5)


def test_death_by_signal_nine_behind_a_launcher_is_reported_as_lack_of_memory_with_what_it_did(start, tmp_path):
    process = start("die")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    process.wait(task)
    assert task.state == "failed" and not os.path.exists(task.folder)
    assert "memory ran out" in task.message and "a last word" in task.message
    assert "The last it did: half way." in task.message


@pytest.mark.parametrize(
    ("behaviour", "words"), [("stop", ["code 3", "the disk is gone"]), ("crash", ["unexpectedly"])]
)
def test_another_end_is_not_taken_for_lack_of_memory(start, tmp_path, behaviour, words):
    process = start(behaviour)
    task = taskIn(tmp_path / "a")
    process.submit(task)
    process.wait(task)
    assert all(word in task.message for word in [*words, "The last it did: half way."])
    assert "memory" not in task.message


def test_a_worker_that_never_came_up_is_said_to_be_one(tmp_path):
    tools.module()
    from SpikeRegSlicerLib.process import WorkerProcess

    process, task = WorkerProcess(arguments=["-m", "no_such_module"]), taskIn(tmp_path / "a")
    process.submit(task)
    process.wait(task)
    assert "could not begin (code 1)" in task.message and "No module named no_such_module" in task.message


def test_a_failure_shows_no_line_of_an_earlier_run(start, tmp_path):
    process = start("die")
    messages = []
    for name in "ab":
        task = taskIn(tmp_path / name)
        process.submit(task)
        process.wait(task)
        messages.append(task.message)
        assert task.message.count("a last word") == 1
    assert messages[0] == messages[1]


def test_after_a_death_the_next_task_gets_a_new_process(start, tmp_path):
    process = start("hang")
    task, following = taskIn(tmp_path / "a"), taskIn(tmp_path / "b")
    process.submit(task)
    process.submit(following)
    started(process)
    pid = process.processId
    os.kill(pid, signal.SIGKILL)
    process.wait(task)
    assert (task.state, following.state) == ("failed", "starting")
    assert process.processId not in (0, pid)


@pytest.mark.parametrize("behaviour", ["hang", "die", "no program"])
def test_a_process_that_is_over_is_freed(start, tmp_path, behaviour):
    process, task = start("hang" if behaviour == "no program" else behaviour), taskIn(tmp_path / "a")
    if behaviour == "no program":
        process._program = "/no/such/PythonSlicer"
    process.submit(task)
    held, destroyed = weakref.ref(process._child), []
    process._child._process.destroyed.connect(lambda: destroyed.append(True))
    if behaviour == "hang":
        process.cancel(task)
    gestures.waitUntil(lambda: destroyed and held() is None, 10)
    assert not task.isPending


def test_what_the_worker_refuses_is_the_message(start, tmp_path):
    process = start("refuse")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    process.wait(task)
    assert (task.state, task.message) == ("failed", "fixed.nrrd: holds NaN; take it out")


def test_a_program_that_is_not_there_is_said(tmp_path):
    tools.module()
    from SpikeRegSlicerLib.process import WorkerProcess

    process, task = WorkerProcess("/no/such/PythonSlicer"), taskIn(tmp_path / "a")
    process.submit(task)
    gestures.waitUntil(lambda: not task.isPending)
    assert task.state == "failed" and "/no/such/PythonSlicer could not be started" in task.message


def test_after_a_start_that_failed_another_one_is_tried(tmp_path):
    """A program that is not there is told at once on some systems, from within the start."""
    tools.module()
    from SpikeRegSlicerLib.process import WorkerProcess

    process, tasks = WorkerProcess("/no/such/PythonSlicer"), [taskIn(tmp_path / name) for name in "abc"]
    for task in tasks:
        process.submit(task)
    gestures.waitUntil(lambda: not tasks[-1].isPending)
    assert {task.state for task in tasks} == {"failed"} and process.processId == 0


def test_what_preparing_raises_ends_the_task_and_starts_no_process(start, tmp_path):
    process = start("finish")
    task = taskIn(tmp_path / "a")

    def prepare(job):
        raise OSError("the disk is full")

    task.prepare = prepare
    process.submit(task)
    assert (task.state, task.message, process.processId) == ("failed", "the disk is full", 0)


def test_close_ends_everything(start, tmp_path):
    process = start("hang")
    tasks = [taskIn(tmp_path / name) for name in "ab"]
    for task in tasks:
        process.submit(task)
    both = started(process)
    process.close()
    assert [task.state for task in tasks] == ["cancelled", "cancelled"] and not list(tmp_path.iterdir())
    gestures.waitUntil(lambda: not any(map(tools.isAlive, both)), 0.5)


def test_pythonslicer_in_slicers_home_is_preferred(tmp_path):
    tools.module()
    from SpikeRegSlicerLib import library

    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / name
    launcher.touch()
    home = slicer.app.slicerHome
    slicer.app.slicerHome = str(tmp_path)
    try:
        assert library.pythonProgram() == str(launcher)
    finally:
        slicer.app.slicerHome = home
