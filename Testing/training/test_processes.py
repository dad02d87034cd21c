"""Several processes under torchrun take the step that one process takes on the mean gradient of the same pairs."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchrun_worker import OPTIONS, SEED, noise_pair
from trainees import new_network

from SpikeRegLib.errors import InputError
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet
from SpikeRegLib.training.loop import make_optimiser, train
from SpikeRegLib.training.objective import first_pass, objective
from SpikeRegLib.training.processes import Processes, join

KINDS = ["analog", "spiking"]
FLOAT32 = Precision("cpu", False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder filled by two processes."""
    folder = tmp_path_factory.mktemp("torchrun")
    code, error = two_processes("torchrun_worker", folder)
    assert code == 0, error
    return folder


def two_processes(script: str, *words: str | Path) -> tuple[int, str]:
    """How two processes end that run a script under torchrun, and what they said."""
    here = Path(__file__).parent
    paths = os.pathsep.join((str(here), str(here.parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(here / f"{script}.py"), *map(str, words)]
    started = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        error = started.communicate(timeout=240)[1]
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)  # with its workers, which wait for each other
        raise
    return started.returncode, error


def on_the_mean_gradient(kind: str) -> dict[str, torch.Tensor]:
    """The same steps in one process: both pairs one after the other from the same state, gradients averaged."""
    network = new_network(kind, seed=1)
    optimiser = make_optimiser(network, OPTIONS)
    for step in range(OPTIONS.steps):
        frozen = step >= OPTIONS.freeze_normalisation_from * OPTIONS.steps
        copies = [copy.deepcopy(network) for _ in range(2)]
        for number, one in enumerate(copies):
            one.train()
            if isinstance(one, SpikingUNet):
                one.mode = "surrogate"
            pair = noise_pair(2 * step + number)
            second = random.Random(SEED * 7919 + step).random() < OPTIONS.second_pass
            if isinstance(one, AnalogUNet):
                one.freeze_normalisation(frozen)
            earlier = first_pass(one, pair, FLOAT32) if second else None
            if isinstance(one, AnalogUNet):
                one.freeze_normalisation(frozen)
            objective(one, pair, OPTIONS.weights, precision=FLOAT32, earlier=earlier)[0].backward()
        for mine, first, other in zip(network.parameters(), *(c.parameters() for c in copies), strict=True):
            assert first.grad is not None and other.grad is not None
            mine.grad = (first.grad + other.grad) / 2
        for mine, first, other in zip(network.buffers(), *(c.buffers() for c in copies), strict=True):
            mine.copy_((first + other) / 2)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = OPTIONS.rate(step) * group["factor"]
        optimiser.step()
    return network.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_step_on_the_mean_gradient_of_their_pairs(kind: str, trained: Path) -> None:
    state, expected = load_file(trained / f"{kind}-through-0.safetensors"), on_the_mean_gradient(kind)
    start = new_network(kind, seed=1).state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(state[name], value, rtol=0, atol=1e-3), name  # steps are 1e-2
    moved = [name for name in state if not torch.allclose(state[name], start[name], rtol=1e-2, atol=1e-3)]
    assert len(moved) > len(state) / 2, "the test cannot tell"


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_ends_in_the_same_bits_also_when_resumed(kind: str, trained: Path) -> None:
    """Though the processes began with different weights: those of the first count."""
    state = load_file(trained / f"{kind}-through-0.safetensors")
    for other in ("through-1", "resumed-0", "resumed-1"):
        for name, value in load_file(trained / f"{kind}-{other}.safetensors").items():
            assert torch.equal(value, state[name]), (other, name)


@pytest.mark.slow
def test_a_training_whose_process_is_killed_goes_on_from_its_checkpoint(trained: Path, tmp_path: Path) -> None:
    code, error = two_processes("torchrun_killed", tmp_path)
    assert code != 0 and not list(tmp_path.glob("killed-*")), "it was not killed"
    code, error = two_processes("torchrun_killed", tmp_path, "resume")
    assert code == 0, error
    state = load_file(trained / "analog-through-0.safetensors")
    for rank in (0, 1):
        for name, value in load_file(tmp_path / f"killed-{rank}.safetensors").items():
            assert torch.equal(value, state[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_the_first_process_alone_writes_the_log(trained: Path) -> None:
    entries = [json.loads(line) for line in (trained / "analog-resumed" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]


def test_resuming_with_another_number_of_processes_is_refused(trained: Path) -> None:
    with pytest.raises(InputError, match="different processes"):
        train(
            new_network("analog"), noise_pair, trained / "analog-through", options=OPTIONS, seed=SEED, resume=True,
            show_progress=False,
        )  # fmt: skip


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join("cpu") as processes:
        assert processes == Processes.joined() == Processes(0, 1) and processes.first


def test_devices_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, message in (("mps", "mps cannot be shared"), ("cuda", "more processes than the 1 GPUs")):
        with pytest.raises(InputError, match=message), join(device):
            pass
