"""How a run that failed ends: its exit code, and the one line that says why."""

from __future__ import annotations

import errno

from SpikeRegLib.errors import Cancelled, InputError, SpikeRegError
from SpikeRegLib.system import interrupt


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for whatever ended the run."""
    if interrupt.cancelled() or isinstance(error, (KeyboardInterrupt, Cancelled)):
        return Cancelled.exit_code, "cancelled before any result was written"
    if isinstance(error, SpikeRegError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError):
        return 1, "not enough memory; close other programs, or use a preset with a larger working_spacing_mm"
    if isinstance(error, OSError) and error.filename:
        return InputError.exit_code, f"{error.filename}: {error.strerror}; check the path"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # a file of ours has its name in the message
        return 1, "stdout cannot be written (no space left on device); send it elsewhere"
    return 1, f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"
