"""What a program that calls `register` keeps as it was, and how processes of the command wait."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import Cancelled
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.pipeline import register

ROOT = Path(__file__).parents[2]


@pytest.fixture
def threads():
    """Numbers of threads that no test and no machine has by itself."""
    before = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    torch.set_num_threads(3)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(5)
    yield 3, 5
    torch.set_num_threads(before[0])
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])


def state() -> tuple:
    """Everything that a caller may have set."""
    numbers = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    return numbers, torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()


def test_register_leaves_random_state_and_threads_as_they_were(known, quick, threads):
    seen = []

    def listener(progress):
        seen.append((torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()))

    torch.manual_seed(123)
    before = state()
    how = {"preset": quick, "skip_affine": True, "threads": 1, "seed": 4}
    first = register(known.fixed, known.moving, listener=listener, **how)
    assert state() == before and before[1:] == threads
    assert set(seen) == {(1, 1)}
    torch.manual_seed(7)
    again = register(known.fixed, known.moving, **how)
    assert torch.equal(first.warped.data, again.warped.data)


def test_a_run_that_is_stopped_leaves_them_too(known, quick, threads):
    def listener(progress):
        if progress.stage == "refine":
            torch.rand(3)
            raise Cancelled("enough")

    before = state()
    with pytest.raises(Cancelled):
        register(known.fixed, known.moving, preset=quick, skip_affine=True, threads=1, listener=listener)
    assert state() == before


def test_a_new_decoder_draws_from_its_own_seed_alone():
    torch.manual_seed(5)
    before = state()
    first = Decoder(FieldSizes(width=8))
    assert state() == before
    torch.manual_seed(6)
    assert torch.equal(Decoder(FieldSizes(width=8)).sine(0).weight, first.sine(0).weight)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the OpenMP of GCC tells its settings")
@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_threads_of_the_command_sleep_while_they_wait_unless_the_caller_says_otherwise(given, used, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    command = [sys.executable, "-m", "SpikeRegLib", "register", "absent.nii.gz", "absent.nii.gz", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and f"OMP_WAIT_POLICY = '{used}'" in done.stderr
