"""Which processor does the work: chosen once, reported, never changed silently."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from SpikeRegLib.errors import InputError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def choose_device(wanted: str) -> str:
    """ "cpu", "cuda" or "mps" for `--device`; "auto" takes the first of cuda, mps, cpu that is there.

    Raises:
        InputError: an unknown device, or one this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in available.items() if there)
    if wanted not in available:
        raise InputError(f"--device {wanted}: unknown; choose auto, cpu, cuda or mps")
    if not available[wanted]:
        raise InputError(f"--device {wanted}: not available on this machine; use --device auto or cpu")
    return wanted


def leaving_state(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A decorator of what draws random numbers and sets threads: afterwards torch's random state on the CPU and the
    threads of torch and SimpleITK are what they were. Other devices' random state is never touched.
    """

    @functools.wraps(work)
    def leaves(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        import SimpleITK as sitk

        threads, itk_threads = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        try:
            with torch.random.fork_rng(devices=[]):
                return work(*arguments, **options)
        finally:
            torch.set_num_threads(threads)
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(itk_threads)

    return leaves


def seed_cpu(seed: int) -> None:
    """Seed torch's random numbers on the CPU, and no other device's, as torch.manual_seed would."""
    torch.default_generator.manual_seed(seed)


def set_threads(threads: int | None) -> int:
    """Let torch and SimpleITK use `threads` CPU threads, all this process may run on if not given; returns how many."""
    import SimpleITK as sitk

    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = threads or everything
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    return count
