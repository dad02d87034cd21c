"""Checkpoints: the state comes back to the last bit, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from trainees import SPEC, new_network

from SpikeRegLib.errors import InputError
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet
from SpikeRegLib.training.checkpoint import load_checkpoint, save_checkpoint
from SpikeRegLib.training.loop import LoopOptions, make_optimiser

PROGRESS = {"step": 7, "seconds": 1.5, "spec": SPEC.to_json(), "options": {"steps": 9}}


def stepped(kind: str, steps: int) -> tuple[RegistrationUNet, torch.optim.Adam]:
    """A network after some steps of an arbitrary loss."""
    network = new_network(kind)
    optimiser = make_optimiser(network, LoopOptions())
    if kind == "spiking":
        network.mode = "surrogate"  # type: ignore[attr-defined]
    for step in range(steps):
        take_step(network, optimiser, step)
    return network, optimiser


def take_step(network: RegistrationUNet, optimiser: torch.optim.Adam, step: int) -> None:
    image = torch.rand(1, 2, 32, 32, 32, generator=torch.Generator().manual_seed(step))
    optimiser.zero_grad()
    (network(image) - 1).square().mean().backward()
    optimiser.step()


@pytest.mark.parametrize("kind", ["analog", "spiking"])
def test_network_and_optimiser_go_on_as_if_never_stored(kind: str, tmp_path: Path) -> None:
    network, optimiser = stepped(kind, 2)
    save_checkpoint(tmp_path / "new" / "c.safetensors", network, optimiser, PROGRESS)
    other, other_optimiser = stepped(kind, 0)
    if kind == "spiking":
        other.mode = "surrogate"  # type: ignore[attr-defined]
    assert load_checkpoint(tmp_path / "new" / "c.safetensors", other, other_optimiser) == PROGRESS
    for restored in (False, True):
        assert network.state_dict().keys() == other.state_dict().keys()
        for name, value in network.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), (restored, name)
        take_step(network, optimiser, 5)
        take_step(other, other_optimiser, 5)


def test_weights_alone_can_be_read(tmp_path: Path) -> None:
    network, optimiser = stepped("analog", 1)
    save_checkpoint(tmp_path / "c.safetensors", network, optimiser, PROGRESS)
    other = new_network("analog", seed=5)
    load_checkpoint(tmp_path / "c.safetensors", other, None)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in network.state_dict().items())


def test_an_interrupted_save_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, optimiser = stepped("analog", 1)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, network, optimiser, PROGRESS)
    before = path.read_bytes()

    def half_a_file(file: Path, content: bytes) -> None:
        with file.open("wb") as opened:
            opened.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half_a_file)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, network, optimiser, {**PROGRESS, "step": 8})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert load_checkpoint(path, network, optimiser)["step"] == 7


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    network, optimiser = stepped("analog", 1)
    path = tmp_path / "c.safetensors"
    with pytest.raises(InputError, match=r"c.safetensors: not a training checkpoint .*start anew without --resume"):
        load_checkpoint(path, network, optimiser)
    save_checkpoint(path, network, optimiser, PROGRESS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"c.safetensors: not a training checkpoint"):
        load_checkpoint(path, network, optimiser)
    save_file({"network.head": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"c.safetensors: not a training checkpoint"):
        load_checkpoint(path, network, optimiser)


@pytest.mark.parametrize("other", ["spiking", "wider"])
def test_a_checkpoint_of_another_network_is_refused(other: str, tmp_path: Path) -> None:
    network, optimiser = stepped("analog", 1)
    save_checkpoint(tmp_path / "c.safetensors", network, optimiser, PROGRESS)
    wider = AnalogUNet(velocity_unet("wider", encoder=(8, 6, 6, 6), decoder=(6, 6, 4)))
    with pytest.raises(InputError, match=r"c.safetensors: made for another network; use the spec"):
        load_checkpoint(tmp_path / "c.safetensors", wider if other == "wider" else new_network(other), None)
