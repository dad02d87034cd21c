"""Training state on disk: network, optimiser and progress in one safetensors file, so that a run resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from SpikeRegLib.errors import InputError
from SpikeRegLib.system.atomic_files import atomic_output


def save_checkpoint(
    path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write the state, whole or not at all: an interrupted save leaves the previous checkpoint.

    Raises:
        InputError: a folder that cannot be written, or a full disk.
    """
    tensors = {f"network.{name}": value.detach().contiguous().clone() for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value).detach().contiguous().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as temporary:
        temporary.write_bytes(save(tensors, {"progress": json.dumps(progress)}))


def load_checkpoint(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote and return its progress.

    Raises:
        InputError: the file is missing, damaged or belongs to another network.
    """
    try:
        with safe_open(str(path), "pt") as file:
            progress = json.loads((file.metadata() or {})["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a training checkpoint ({error}); start anew without --resume") from error
    weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: made for another network; use the spec it was trained with") from error
    if optimiser is not None:
        state = optimiser.state_dict()
        restored: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, field = name.split(".", 2)
                restored.setdefault(int(index), {})[field] = value
        state["state"] = restored
        optimiser.load_state_dict(state)
    return progress
