"""What each process of the killed training in test_processes.py runs: torchrun ... FOLDER [resume]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torchrun_worker import OPTIONS, SEED, noise_pair
from trainees import new_network

from SpikeRegLib.training.loop import train
from SpikeRegLib.training.processes import join
from SpikeRegLib.training.synthetic import SyntheticPair


def main(folder: Path, again: bool) -> None:
    torch.set_num_threads(1)

    def killed(number: int) -> SyntheticPair:
        if not again and processes.rank == 1 and number >= 3 * processes.count:  # after the checkpoint of step 2
            os.kill(os.getpid(), signal.SIGKILL)
        return noise_pair(number)

    with join("cpu") as processes:
        network = new_network("analog", seed=77 if again else 1 + processes.rank)
        train(network, killed, folder / "killed", options=OPTIONS, seed=SEED, show_progress=False, resume=again)
        save_file(network.state_dict(), folder / f"killed-{processes.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["resume"])
