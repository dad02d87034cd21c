"""What tests of every room share."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture
def signal_handlers_restored():
    """For tests of commands, which take over the signals that end them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
