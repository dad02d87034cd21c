"""Rows on Dask's distributed scheduler: a cluster on this machine, or one that runs already.

Every worker process does one row at a time. Few more rows are handed out than there are workers, so that memory stays
flat and a stop is quick. Results are on disk before a row counts as done, so nothing finished is lost with a worker,
the scheduler or this process.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from SpikeRegLib import __version__
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
    with dask.config.set(settings):
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tls://",
                security=distributed.Security.temporary(), memory_limit=0, silence_logs="ERROR",
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
    try:
        client = distributed.Client(**where, timeout=_ANSWER_S)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--scheduler {address}: nobody answers there ({last_line(error)}); start one with `dask scheduler`, or "
            "leave the option out"
        ) from error
    with client:
        _check_workers(client, address)
        yield client


def on_cluster(client: Client, rows: Sequence[Row], plan: Plan) -> Iterator[Outcome]:
    """The outcomes of the rows, as they end.

    A row whose worker dies is tried again as often as the plan says, then it has failed.

    Raises:
        Cancelled: this process was told to stop; rows at work are dropped, with nothing written.
        SpikeRegError: the scheduler ended.
    """
    waiting, running = iter(rows), dict[Any, Row]()
    left = len(rows)
    try:
        while left:
            for row in islice(waiting, max(0, _room(client) - len(running))):
                future = client.submit(do_row, row, plan, key=f"{row.id}-{uuid.uuid4().hex[:8]}")
                running[future] = row
            for future in _finished(client, running):
                yield _outcome(future, running.pop(future), plan)
                left -= 1
    finally:
        if running and client.status == "running":
            client.cancel(list(running), force=True)


def _room(client: Client) -> int:
    workers = len(client.scheduler_info(n_workers=-1)["workers"]) if client.status == "running" else 0
    return max(1, workers) * (1 + _AHEAD)


def _finished(client: Client, running: dict[Any, Row]) -> list[Any]:
    """The futures that are done; waits for one."""
    _, distributed = _packages()
    while True:
        interrupt.check()
        if client.status != "running":
            raise SpikeRegError(
                "the scheduler ended; every finished row is kept: run the same command again to go on from there"
            )
        try:
            return [*distributed.wait(list(running), timeout=_LOOK_S, return_when="FIRST_COMPLETED").done]
        except TimeoutError:
            continue


def _outcome(future: Any, row: Row, plan: Plan) -> Outcome:
    _, distributed = _packages()
    folder = Path(plan.out) / row.id
    try:
        if future.status == "cancelled":
            raise SpikeRegError(
                "the scheduler forgot its work; every finished row is kept: run the same command again to go on"
            )
        found: Outcome = future.result()
        return found
    except distributed.scheduler.KilledWorker:
        times = plan.retries + 1
        message = f"its worker process died {times} times in a row; it may have run out of memory"
    except SpikeRegError:
        raise
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {last_line(error)}"
    failure = Outcome(row.id, FAILED, {}, 1, message)
    leave_failure(folder, failure)
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
