"""What each process of test_processes.py runs: torchrun ... torchrun_worker.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from trainees import new_network

from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.training.loop import LoopOptions, train
from SpikeRegLib.training.objective import ObjectiveWeights
from SpikeRegLib.training.processes import join
from SpikeRegLib.training.synthetic import SyntheticPair

OPTIONS = LoopOptions(
    steps=4, warmup=1, learning_rate=1e-2, second_pass=0.5, second_pass_from=0.0, freeze_normalisation_from=0.6,
    checkpoint_every=2, log_every=1, weights=ObjectiveWeights(window=5, dice=0.0),
)  # fmt: skip
SEED = 2


def noise_pair(number: int) -> SyntheticPair:
    random = torch.Generator().manual_seed(number)
    fixed, moving = gaussian(torch.rand(2, 32, 32, 32, generator=random), 1.5)[:, None, None] * 4 - 1.5
    nothing = torch.zeros(1, 0, 16, 16, 16)
    return SyntheticPair(fixed.clamp(0, 1), moving.clamp(0, 1), nothing, nothing)


def main(folder: Path) -> None:
    torch.set_num_threads(1)

    def interrupted(number: int) -> SyntheticPair:
        if number >= 2 * processes.count:
            raise InterruptedError
        return noise_pair(number)

    with join("cpu") as processes:
        for kind in ("analog", "spiking"):
            runs = {"through": new_network(kind, seed=1 + processes.rank), "resumed": new_network(kind, seed=77)}
            common = {"options": OPTIONS, "seed": SEED, "show_progress": False}
            train(runs["through"], noise_pair, folder / f"{kind}-through", **common)
            try:
                train(new_network(kind), interrupted, folder / f"{kind}-resumed", **common)
            except InterruptedError:
                train(runs["resumed"], noise_pair, folder / f"{kind}-resumed", resume=True, **common)
            for name, network in runs.items():
                save_file(network.state_dict(), folder / f"{kind}-{name}-{processes.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
