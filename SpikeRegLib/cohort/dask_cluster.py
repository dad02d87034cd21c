"""Rows on Dask's distributed scheduler: a cluster on this machine, or one that runs already.

Every worker process does one row at a time. Few more rows are handed out than there are workers, so that memory stays
flat and a stop is quick. Results are on disk before a row counts as done, so nothing finished is lost with a worker,
the scheduler or this process.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from SpikeRegLib import __version__
from SpikeRegLib.cohort.folders import times_begun
from SpikeRegLib.cohort.manifest import Row
from SpikeRegLib.cohort.rows import FAILED, Outcome, Plan, do_row, leave_failure
from SpikeRegLib.errors import InputError, SpikeRegError, last_line
from SpikeRegLib.system import interrupt

# Of distributed, which is an extra and hence imported by `_packages` alone.
Client: TypeAlias = Any

# A scheduler that runs answers at once.
_ANSWER_S = 15
# A worker that is waited for is asked so often whether the run was cancelled.
_LOOK_S = 0.2
# Beside the row a worker is at: so many wait for it, so that it never waits for one.
_AHEAD = 1
# A row that was never begun when its worker died is handed out again; so often, for workers that die for other reasons.
_HANDED_OUT = 10


@contextmanager
def local_cluster(workers: int, threads: int, retries: int) -> Iterator[Client]:
    """A cluster of worker processes on this machine, which ends with the block.

    Others on this machine cannot talk to it: its processes know each other by keys made for this run.

    Args:
        workers: processes.
        threads: of each, that compute.
        retries: how often a row is tried again whose process died.

    Raises:
        InputError: Dask's distributed scheduler is not installed.
        SpikeRegError: the processes could not be started.
    """
    dask, distributed = _packages()
    environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    settings = {
        "distributed.nanny.pre-spawn-environ": {**environment, "OMP_WAIT_POLICY": "PASSIVE"},
        "distributed.worker.preload": ["SpikeRegLib.cohort.worker_start"],
        "distributed.scheduler.allowed-failures": retries,
        "distributed.worker.daemon": True,
        "distributed.admin.low-level-log-length": 100,
    }
    with dask.config.set(settings), _own_words():
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tls://",
                security=distributed.Security.temporary(), memory_limit=0, silence_logs="CRITICAL",
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            raise SpikeRegError(f"--workers: the processes could not be started ({last_line(error)})") from error
        with cluster, distributed.Client(cluster) as client:
            yield client


@contextmanager
def running_cluster(address: str) -> Iterator[Client]:
    """A cluster that runs already, which goes on after the block.

    Args:
        address: of its scheduler, such as `tcp://host:8786`; or its scheduler file (.json).

    Raises:
        InputError: Dask's distributed scheduler is not installed, nobody answers there, or a worker cannot work.
    """
    _, distributed = _packages()
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    if address.endswith(".json") and not os.path.isfile(address):
        raise InputError(f"--scheduler {address}: no such file; give the scheduler's file or its address")
    with _own_words():
        try:
            client = distributed.Client(**where, timeout=_ANSWER_S)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"--scheduler {address}: nobody answers there ({last_line(error)}); start one with `dask scheduler`, "
                "or leave the option out"
            ) from error
        with client:
            _check_workers(client, address)
            yield client


def on_cluster(client: Client, rows: Sequence[Row], plan: Plan) -> Iterator[Outcome]:
    """The outcomes of the rows, as they end.

    A row in whose midst its worker dies is tried again as often as the plan says, then it has failed. One that only
    waited there is handed out again.

    Raises:
        Cancelled: this process was told to stop; rows at work are dropped, with nothing written.
        SpikeRegError: the scheduler ended.
    """
    out = Path(plan.out)
    waiting, running = deque(_Turn(row, times_begun(out, row.id)) for row in rows), dict[Any, _Turn]()
    try:
        while waiting or running:
            while waiting and len(running) < _room(client):
                turn = waiting.popleft()
                running[client.submit(do_row, turn.row, plan, key=f"{turn.row.id}-{uuid.uuid4().hex[:8]}")] = turn
            for future in _finished(client, running):
                turn = running.pop(future)
                try:
                    yield _outcome(future, turn.row, plan)
                except _packages()[1].scheduler.KilledWorker:
                    turn = replace(turn, handed_out=turn.handed_out + 1)
                    deaths = times_begun(out, turn.row.id) - turn.begun_before
                    if deaths <= plan.retries and turn.handed_out < _HANDED_OUT:
                        waiting.append(turn)
                    else:
                        yield _killed(turn.row, plan, max(deaths, turn.handed_out))
    finally:
        if running and client.status == "running":
            client.cancel(list(running), force=True)


@contextmanager
def _own_words() -> Iterator[None]:
    """While the block runs, distributed prints no tracebacks of lost connections: what they mean is said here."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True)
class _Turn:
    """A row that is to be done: how often it had been begun before this run, and been handed out and lost in it."""

    row: Row
    begun_before: int
    handed_out: int = 0


def _room(client: Client) -> int:
    workers = len(client.scheduler_info(n_workers=-1)["workers"]) if client.status == "running" else 0
    return max(1, workers) * (1 + _AHEAD)


def _finished(client: Client, running: dict[Any, _Turn]) -> list[Any]:
    """The futures that are done; waits for one."""
    _, distributed = _packages()
    while True:
        interrupt.check()
        if client.status != "running":
            raise _gone("ended")
        try:
            return [*distributed.wait(list(running), timeout=_LOOK_S, return_when="FIRST_COMPLETED").done]
        except TimeoutError:
            continue
        except distributed.CancelledError as error:
            raise _gone("ended" if "connection-lost" in str(error) else "forgot its work") from error


def _gone(what: str) -> SpikeRegError:
    return SpikeRegError(
        f"the scheduler {what}; every finished row is kept: run the same command again to go on from there"
    )


def _outcome(future: Any, row: Row, plan: Plan) -> Outcome:
    _, distributed = _packages()
    try:
        found: Outcome = future.result()
        return found
    except (SpikeRegError, distributed.scheduler.KilledWorker):
        raise
    except distributed.CancelledError as error:
        raise _gone("forgot its work") from error
    except Exception as error:
        return _failed(row, plan, f"unexpected {type(error).__name__}: {last_line(error)}")


def _killed(row: Row, plan: Plan, times: int) -> Outcome:
    return _failed(row, plan, f"its worker process died {times} times in a row; it may have run out of memory")


def _failed(row: Row, plan: Plan, message: str) -> Outcome:
    failure = Outcome(row.id, FAILED, {}, 1, message)
    leave_failure(Path(plan.out) / row.id, failure)
    return failure


def _check_workers(client: Client, address: str) -> None:
    """Refuse workers without this version of the library; where there are none yet, they are not asked.

    Raises:
        InputError: names what is wrong.
    """
    try:
        versions = client.run(_version_here)
    except Exception as error:
        raise InputError(
            f"--scheduler {address}: its workers cannot run SpikeReg ({last_line(error)}); install it where they run"
        ) from error
    for worker, version in versions.items():
        if version != __version__:
            raise InputError(
                f"--scheduler {address}: worker {worker} has SpikeReg {version}, and here is {__version__}; install "
                "the same in both places"
            )


def _version_here() -> str:
    from SpikeRegLib import __version__

    return __version__


def _packages() -> tuple[Any, Any]:
    """dask and distributed, which are an extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        import cryptography  # noqa: F401  the keys of a local cluster
        import dask
        import distributed
    except ImportError as error:
        raise InputError(
            f"--workers: needs {error.name}; install it with pip install 'spikereg[cohort]', or use --shard 1/1"
        ) from error
    return dask, distributed
