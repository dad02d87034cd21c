"""How the C library hands memory to a process that fills and frees hundreds of megabytes a second.

glibc takes every large block fresh from the system and gives it back at once, and the system clears each page again,
which is much of the system time of a registration and more of a training step. Kept in the process, freed blocks are
used again; as they lie scattered then, the peak grows by some percent.

A process that waits between jobs gives them back instead. By itself glibc returns only what lies at the end of the
heap; a small block that stays there holds all the freed ones below it, and from job to job there are more of them.
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's names for: what to keep of freed memory at the end of the heap, how much to fetch at once, how many blocks
# to take from the system one by one.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, from now on and until it ends.

    For processes that run one job: an idle one would hold its peak. Returns whether the C library did it (glibc does;
    elsewhere nothing changes).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
    return all([bool(mallopt(name, value)) for name, value in settings])


def give_back_freed_memory() -> bool:
    """Return all that this process has freed to the system, also what lies between blocks in use.

    For processes that wait for their next job. Returns whether the C library did it (glibc does; elsewhere nothing
    changes).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return False
    trim.argtypes = [ctypes.c_size_t]
    trim(0)
    return True
