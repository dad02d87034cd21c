"""Training on several processes, one for each GPU (or CPU): started by torchrun, one pair each, gradients averaged.

A step of N processes is one step on the mean gradient of N pairs. Every process holds the same parameters; the first
one writes the log and the checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn

from SpikeRegLib.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process's place among `count` that train one network together."""

    rank: int = 0
    count: int = 1

    @staticmethod
    def joined() -> Processes:
        """The group this process has joined, or itself alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return Processes()
        return Processes(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def average(self, network: nn.Module) -> None:
        """Replace gradients and floating buffers (normalisation statistics) by their means over all processes.

        The result has the same bits in every process. A gradient that is not finite in one is not finite in any.
        """
        if self.count == 1:
            return
        tensors = [p.grad for p in network.parameters() if p.grad is not None]
        tensors += [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Until all processes are here: what the first one wrote before is then seen by all."""
        if self.count > 1:
            distributed.barrier()

    def share_start(self, network: nn.Module) -> None:
        """Give every process the parameters and buffers of the first."""
        if self.count > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)


@contextmanager
def join(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    Args:
        device: of the training; on "cuda" every process of a machine takes a GPU of its own, which "cuda" then means.

    Raises:
        InputError: there are fewer GPUs than processes on this machine, or a device that several cannot share.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    kind = torch.device(device).type
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise InputError(
                f"--nproc_per_node: more processes than the {torch.cuda.device_count()} GPUs of this machine; "
                "start one for each"
            )
        torch.cuda.set_device(local)
    elif kind != "cpu":
        raise InputError(f"--device: {kind} cannot be shared by {count} processes; use cuda or cpu")
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes.joined()
        distributed.barrier()  # one that leaves while another still talks to it would abort
    finally:
        distributed.destroy_process_group()
