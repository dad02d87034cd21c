"""Give tests to the tree as it stands: pytest, forked from a process that has loaded the heavy packages already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reach import environment, file_of

# Loading these costs more than most tests; nothing of the library is loaded before the fork.
_HEAVY = ["__main__", "torch", "SimpleITK", "scipy.ndimage", "hypothesis", "nibabel", "safetensors.torch", "snntorch"]
_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_FAILED, _INTERRUPTED = 1, 2
_WAITING = 10.0


def failing(tree: Path, tests: list[str], patience_s: float) -> str:
    """The first of `tests` that fails, or how else the run ended badly; empty when all pass.

    A test that computes for longer than `patience_s`, or waits for much longer, counts as one without an end. What it
    computes is what is counted: on a busy machine time passes all the same.

    Raises:
        RuntimeError: pytest gives no verdict: it finds none of the tests, say.
    """
    context = multiprocessing.get_context(_START)
    if _START == "forkserver":
        context.set_forkserver_preload(_HEAVY)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = context.Process(target=_pytest, args=(tree, tests, output, patience_s))
        process.start()
        while process.exitcode is None:
            process.join(1.0)
            if process.exitcode is None and _waited_s(output) > _WAITING * patience_s:
                _end(process.pid)
                process.join()
                return "no end"
        said = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
    if process.exitcode == 0:
        return ""
    if process.exitcode == -signal.SIGPROF:
        return "no end"
    if process.exitcode < 0:
        return f"ended by signal {-process.exitcode}"
    failed = [line for line in said.splitlines() if line.startswith(("FAILED Testing/", "ERROR Testing/"))]
    if process.exitcode not in (_FAILED, _INTERRUPTED) or not failed:
        raise RuntimeError(said)
    return failed[0].split(" ", 1)[1].split(" - ")[0]


def _pytest(tree: Path, tests: list[str], output: Path, patience_s: float) -> None:
    with contextlib.suppress(OSError):
        os.setsid()  # what the tests start ends with them
    os.environ.update(environment(tree))
    os.chdir(tree)
    sys.path[:0] = [str(tree), str(Path(__file__).parent)]
    sys.dont_write_bytecode = True
    with output.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        import pytest

        options = ["-p", "measured", "-p", "no:cacheprovider", "-q", "-x", "--assert=plain", "--tb=no", "-rfE"]
        code = pytest.main([*options, *dict.fromkeys(map(file_of, tests))], plugins=[_Only(tests, output, patience_s)])
        sys.stdout.flush()
    os._exit(code)


class _Only:
    """A plugin that runs these tests in this order, and no other test of their files."""

    def __init__(self, tests: list[str], output: Path, patience_s: float) -> None:
        self._output, self._patience_s = output, patience_s
        self._places = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(chosen, key=lambda item: self._places[item.nodeid])

    def pytest_runtest_logstart(self) -> None:
        os.utime(self._output)  # shows that the last test came to an end
        signal.setitimer(signal.ITIMER_PROF, self._patience_s)  # ends the process if it expires

    def pytest_runtest_logfinish(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _waited_s(output: Path) -> float:
    """Seconds since a test began, or pytest did; before that, none."""
    return time.time() - output.stat().st_mtime if output.is_file() else 0.0


def _end(pid: int | None) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid or 0, signal.SIGKILL)
