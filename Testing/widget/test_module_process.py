"""The worker as a child process: order, results, cancel, death."""

from __future__ import annotations

import os
import signal
import time

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


def taskIn(folder, **keywords):
    from SpikeRegSlicerLib.process import Task

    folder.mkdir()
    return Task(prepare=lambda: {"out": str(folder / "out")}, folder=str(folder), **keywords)


def test_tasks_run_one_after_another_in_one_process(start, tmp_path):
    process, ended, pids = start("finish"), [], []

    def onEnd(task):
        ended.append((task.folder[-1], task.state))
        pids.append(process.processId)

    tasks = [taskIn(tmp_path / name, onEnd=onEnd) for name in "abc"]
    for task in tasks:
        process.submit(task)
    assert [task.state for task in tasks] == ["running", "waiting", "waiting"]
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


def test_cancel_kills_within_half_a_second_and_removes_the_folder(start, tmp_path):
    process = start("part")
    task, following = taskIn(tmp_path / "a"), taskIn(tmp_path / "b")
    process.submit(task)
    process.submit(following)
    gestures.waitUntil(lambda: os.path.exists(os.path.join(task.folder, "out", "half")))
    pid = process.processId
    began = time.monotonic()
    process.cancel(task)
    assert time.monotonic() - began < 0.5
    assert not tools.isAlive(pid)
    assert (task.state, os.path.exists(task.folder)) == ("cancelled", False)
    assert following.state == "running" and process.processId not in (0, pid)


def test_a_waiting_task_is_dropped_without_touching_the_one_that_runs(start, tmp_path):
    process = start("hang")
    task, following = taskIn(tmp_path / "a"), taskIn(tmp_path / "b")
    process.submit(task)
    process.submit(following)
    process.cancel(following)
    assert (task.state, following.state) == ("running", "cancelled")
    assert os.path.isdir(task.folder) and not os.path.exists(following.folder)


def test_a_replaced_task_leaves_the_worker_warm(start, tmp_path):
    process = start("obey")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    gestures.waitUntil(lambda: process.processId)
    pid = process.processId
    process.cancel(task, keepWarm=True)
    process.wait(task)
    assert task.state == "cancelled" and process.processId == pid and tools.isAlive(pid)


def test_a_worker_that_does_not_obey_is_killed_all_the_same(start, tmp_path):
    process = start("hang")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    pid = process.processId
    process.cancel(task, keepWarm=True)
    process.wait(task)
    assert task.state == "cancelled" and not tools.isAlive(pid)


def test_death_by_signal_nine_is_reported_as_lack_of_memory_with_the_log(start, tmp_path):
    process = start("die")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    process.wait(task)
    assert task.state == "failed" and not os.path.exists(task.folder)
    assert "memory ran out" in task.message and "a last word" in task.message


def test_another_end_is_reported_with_its_code_and_the_log(start, tmp_path):
    process = start("stop")
    task = taskIn(tmp_path / "a")
    process.submit(task)
    process.wait(task)
    assert "code 3" in task.message and "no module named torch" in task.message


def test_after_a_death_the_next_task_gets_a_new_process(start, tmp_path):
    process = start("hang")
    task, following = taskIn(tmp_path / "a"), taskIn(tmp_path / "b")
    process.submit(task)
    process.submit(following)
    pid = process.processId
    gestures.waitUntil(lambda: tools.isAlive(pid))
    os.kill(pid, signal.SIGKILL)
    process.wait(task)
    assert (task.state, following.state) == ("failed", "running")
    assert process.processId not in (0, pid)


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


def test_what_preparing_raises_ends_the_task_and_starts_no_process(start, tmp_path):
    process = start("finish")
    task = taskIn(tmp_path / "a")

    def prepare():
        raise OSError("the disk is full")

    task.prepare = prepare
    process.submit(task)
    assert (task.state, task.message, process.processId) == ("failed", "the disk is full", 0)


def test_close_ends_everything(start, tmp_path):
    process = start("hang")
    tasks = [taskIn(tmp_path / name) for name in "ab"]
    for task in tasks:
        process.submit(task)
    pid = process.processId
    process.close()
    assert [task.state for task in tasks] == ["cancelled", "cancelled"]
    assert not tools.isAlive(pid) and not list(tmp_path.iterdir())


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
