"""What tests of every room share."""

from __future__ import annotations

import os
import signal

import pytest

# Several workers share the cores: what waits for a core sleeps, and each has its own. Read when torch is loaded, which
# is later, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def signal_handlers_restored():
    """For tests of commands, which take over the signals that end them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
