"""A pytest plugin: under coverage, which test reaches which line, how long it takes, and whether it passes.

Every line is recorded under the test that ran it; lines of a test's setup, which may be a fixture that the whole file
shares, under `setup of` that test. Tests of properties draw the same examples each time and have no deadline, so that
a verdict on a mutant depends neither on luck nor on what else the machine does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import coverage
import hypothesis
import pytest

SETUP = "setup of "

_seconds: dict[str, float] = {}
_failed: set[str] = set()


def pytest_configure() -> None:
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("repeatable")


def _record_under(context: str) -> None:
    measuring = coverage.Coverage.current()
    if measuring is not None:
        measuring.switch_context(context)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _record_under(SETUP + item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    _record_under(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    _record_under(SETUP + item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write the seconds of every test that passed; one that fails or skips without a mutant catches none."""
    if file := os.environ.get("SPIKEREG_MEASURED"):
        passed = {test: seconds for test, seconds in _seconds.items() if test not in _failed}
        Path(file).write_text(json.dumps(passed), encoding="utf-8")
