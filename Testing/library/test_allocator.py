"""Freed memory stays in processes that run one job, where large blocks come from the heap, and goes back to the system
in those that wait for the next.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from SpikeRegLib.pipeline.assemble import peak_memory_mb

PROBE = """
import ctypes, sys
sys.path.insert(0, {root!r})
from SpikeRegLib.system.allocator import keep_freed_memory

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
done = keep_freed_memory() if {keep} else False
block = library.malloc(200 << 20)
taken = library.mallinfo2()
library.free(block)
left = library.mallinfo2()
print(done, taken.hblkhd >> 20, left.fordblks >> 20)
"""


def probe(keep: bool, root: str) -> tuple[str, int, int]:
    code = PROBE.format(root=root, keep=keep)
    done, mapped, kept = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return done, int(mapped), int(kept)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_large_blocks_come_from_the_heap_and_stay_there(pytestconfig: pytest.Config) -> None:
    root = str(pytestconfig.rootpath)
    done, mapped, kept = probe(False, root)
    assert mapped >= 200 and kept < 100, "otherwise there is nothing to spare"
    done, mapped, kept = probe(True, root)
    assert done == "True" and mapped == 0 and kept >= 200


SCATTERED = """
import ctypes, os, sys
sys.path.insert(0, {root!r})
from SpikeRegLib.system.allocator import give_back_freed_memory

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

blocks = [library.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
full = resident()
for block in blocks[:-1]:  # the last one holds the end of the heap
    library.free(block)
print(full, resident(), give_back_freed_memory(), resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_below_a_block_in_use_is_given_back(pytestconfig: pytest.Config) -> None:
    code = SCATTERED.format(root=str(pytestconfig.rootpath))
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    full, freed, left = int(printed[0]), int(printed[1]), int(printed[3])
    assert full - freed < 10, "otherwise there is nothing to give back"
    assert printed[2] == "True" and full - left > 80


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not tell its peak of memory")
def test_the_peak_of_memory_is_told_in_megabytes() -> None:
    before = peak_memory_mb()
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert before == pytest.approx(int(line.split()[1]) / 1024, rel=0.05)
