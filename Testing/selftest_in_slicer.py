"""Runs the module's self-test in a real Slicer and ends it with an exit status.

    Slicer --testing --no-splash --ignore-slicerrc --additional-module-paths SpikeRegSlicer \
        --python-script Testing/selftest_in_slicer.py

From a source tree, the option with the module path loads the module of that tree; an installed extension is found
without it. With `--testing` Slicer installs nothing, so PyTorch and safetensors must be there. The exit status is 0
when everything ran and passed, 1 after a failure, and 2 when nothing failed but something was skipped.
"""

from __future__ import annotations

import sys
import traceback
import unittest
from typing import TextIO

MODULE, TEST = "SpikeRegSlicer", "SpikeRegSlicerTest"
PASSED, FAILED, SKIPPED = 0, 1, 2


def run_tests(module: str, test: str, stream: TextIO) -> int:
    """Run one test class of a module that can be imported; the exit status, with a summary in `stream`."""
    suite = unittest.TestLoader().loadTestsFromName(f"{module}.{test}")
    result = unittest.TextTestRunner(stream=stream, verbosity=2).run(suite)
    for case, reason in result.skipped:
        print(f"skipped: {case}: {reason}", file=stream)
    if not result.wasSuccessful() or result.testsRun == 0:
        return FAILED
    return SKIPPED if result.skipped else PASSED


def main() -> None:
    import slicer

    status = FAILED
    try:
        slicer.util.selectModule(MODULE)  # makes the panel too: a broken .ui file or part is a failure
        status = run_tests(MODULE, TEST, sys.stdout)
    except Exception:
        traceback.print_exc()
    finally:
        print(f"SpikeReg self-test: {('passed', 'FAILED', 'skipped in part')[status]}")
        sys.stdout.flush()
        slicer.util.exit(status)


if __name__ == "__main__":
    main()
