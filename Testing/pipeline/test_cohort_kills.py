"""Whatever is killed, nothing that was finished is lost or done twice, and the next run does the rest."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import cohorts
import pytest

pytestmark = pytest.mark.slow
ROWS = 16


def marks(folder: Path) -> dict[str, list[int]]:
    """Rows at work, and the processes that began them."""
    found = {}
    for mark in (folder / "out" / ".spikereg-begun").glob("*"):
        with suppress(OSError):
            found[mark.name] = [int(line.split()[1]) for line in mark.read_text().splitlines()]
    return found


def ends(process, code: int) -> str:
    out, error = process.communicate(timeout=240)
    assert process.returncode == code, (process.returncode, out[-2000:], error[-4000:])
    return out + error


def completed(folder: Path, *words: str) -> None:
    """The same command once more does the rest and nothing twice."""
    before = cohorts.finished(folder)
    ends(cohorts.start(cohorts.command(folder, *words)), 0)
    after = cohorts.finished(folder)
    assert len(after) == ROWS and before.items() <= after.items()
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert [row["state"] for row in summary["rows"]].count("kept") == len(before)


@pytest.fixture
def cohort(tmp_path):
    cohorts.make_cohort(tmp_path, ROWS)
    return tmp_path


@contextmanager
def killing_whoever_does(folder: Path, row: str):
    """While the block runs, kill every process that begins this row."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in marks(folder).get(row, [])[-1:]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_killed_worker_loses_nothing(cohort):
    process = cohorts.start(cohorts.command(cohort, "--workers", "2"))
    cohorts.wait_for(lambda: len(cohorts.finished(cohort)) >= 3)
    done = cohorts.finished(cohort)
    for worker in {pids[-1] for pids in marks(cohort).values()}:
        os.kill(worker, signal.SIGKILL)
    ends(process, 0)
    after = cohorts.finished(cohort)
    assert len(after) == ROWS and done.items() <= after.items()


@pytest.mark.parametrize("workers", ["1", "2"])  # with one, the row that waits beside it is always the same
def test_a_poisoned_row_fails_and_the_others_are_done(cohort, workers):
    # Slow enough that it can be met on its way.
    lines = (cohort / "table.csv").read_text().splitlines()
    lines = [f"{line},{2000 if line.startswith('r5,') else ''}" for line in lines]
    lines[0] = "id,fixed,moving,refine_iterations"
    (cohort / "table.csv").write_text("\n".join(lines) + "\n")
    with killing_whoever_does(cohort, "r5"):
        said = ends(cohorts.start(cohorts.command(cohort, "--workers", workers)), 1)
    assert cohorts.finished(cohort).keys() == {f"r{n}" for n in range(ROWS)} - {"r5"}
    failed = json.loads((cohort / "out" / "r5" / "failed.json").read_text())
    assert failed["code"] == 1 and "its worker process died 2 times" in failed["message"]
    assert "r5: its worker process died" in said
    completed(cohort, "--workers", "2")


def test_a_killed_client_leaves_no_process_behind_and_loses_nothing(cohort):
    process = cohorts.start(cohorts.command(cohort, "--workers", "2"))
    cohorts.wait_for(lambda: len(cohorts.finished(cohort)) >= 3)
    workers = {pids[-1] for pids in marks(cohort).values()}
    process.kill()
    process.communicate()
    for worker in workers:
        cohorts.wait_for(lambda worker=worker: not Path(f"/proc/{worker}").exists() or _is_gone(worker), 60)
    completed(cohort, "--workers", "2")


def _is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_ctrl_c_ends_at_once_and_loses_nothing(cohort):
    process = cohorts.start(cohorts.command(cohort, "--workers", "2"), start_new_session=True)
    cohorts.wait_for(lambda: len(cohorts.finished(cohort)) >= 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = ends(process, 130)
    assert "cancelled" in said and "Traceback" not in said
    completed(cohort, "--workers", "2")


def test_ctrl_c_between_two_rows_of_one_process_is_heard(cohort):
    process = cohorts.start(cohorts.command(cohort, "--shard", "1/1"))
    cohorts.wait_for(lambda: len(cohorts.finished(cohort)) >= 3)
    process.send_signal(signal.SIGINT)
    ends(process, 130)
    assert len(cohorts.finished(cohort)) < ROWS
    before = cohorts.finished(cohort)
    ends(cohorts.start(cohorts.command(cohort, "--shard", "1/1")), 0)
    assert before.items() <= cohorts.finished(cohort).items()


@contextmanager
def a_scheduler(folder: Path, workers: int):
    """A scheduler and workers that run on their own, as on a cluster; the file that says where."""
    folder.mkdir(exist_ok=True)
    where = folder / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = cohorts.start([*dask, "--port", "0", "--scheduler-file", str(where), "--no-dashboard"])
    cohorts.wait_for(where.exists)
    started = [
        cohorts.start(
            [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(where), "--nthreads", "2",
             "--no-dashboard", "--death-timeout", "5"]
        )
        for _ in range(workers)
    ]  # fmt: skip
    try:
        yield scheduler, where
    finally:
        for process in (scheduler, *started):
            process.terminate()
        for process in (scheduler, *started):
            with suppress(Exception):
                process.communicate(timeout=15)
            process.kill()


def test_a_killed_scheduler_is_said_in_one_line_and_loses_nothing(cohort):
    with a_scheduler(cohort, 2) as (scheduler, where):
        process = cohorts.start(cohorts.command(cohort, "--scheduler", str(where)))
        cohorts.wait_for(lambda: len(cohorts.finished(cohort)) >= 3)
        scheduler.kill()
        said = ends(process, 1)
        assert "the scheduler ended; every finished row is kept" in said
    before = cohorts.finished(cohort)
    with a_scheduler(cohort / "again", 1) as (_, where):
        completed(cohort, "--scheduler", str(where))
    assert before.items() <= cohorts.finished(cohort).items()
