"""What a worker process of a local cluster does first: it leaves Ctrl-C to the process that started it."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask in the main thread of every worker process and of its keeper."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
