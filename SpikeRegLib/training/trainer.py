"""Training on one's own pairs: any iterable of image pairs instead of the synthetic stream."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterable, Mapping, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from SpikeRegLib import __version__
from SpikeRegLib.errors import InputError
from SpikeRegLib.models import save_model
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.similarity.losses import lncc
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet
from SpikeRegLib.training.config import TrainingConfig, load_config
from SpikeRegLib.training.loop import train
from SpikeRegLib.training.synthetic import SyntheticPair

Loader = Iterable[Any]


def as_pair(item: Any) -> SyntheticPair:
    """A loader's item as training pairs: a `SyntheticPair`, a dict with "fixed" and "moving", or the two in order.

    Images are [B, 1, D, H, W] in [0, 1] on one isotropic grid with the voxel size of the network's spec; the axis of
    channels, and that of a single pair, may be left out.

    Returns:
        A pair whose images are [B, 1, D, H, W].

    Raises:
        ValueError: the two images differ in shape, are no volumes, or have several channels.
    """
    if isinstance(item, SyntheticPair):
        return item
    first, second = (item["fixed"], item["moving"]) if isinstance(item, dict) else item[:2]
    images = [torch.as_tensor(image).float() for image in (first, second)]
    if images[0].shape != images[1].shape:
        raise ValueError(f"fixed and moving differ in shape: {list(images[0].shape)} and {list(images[1].shape)}")
    shape = images[0].shape
    if len(shape) < 3 or (len(shape) > 4 and shape[-4] != 1):
        raise ValueError(f"images must be [B, 1, D, H, W] with one channel, got {list(shape)}")
    images = [image.reshape(-1, 1, *shape[-3:]) for image in images]
    nothing = torch.zeros(len(images[0]), 0, *(n // 2 for n in shape[-3:]))
    return SyntheticPair(images[0], images[1], nothing, nothing)


class _Stream:
    """Item number n of a loader that is started anew whenever it runs out; steps come in order."""

    def __init__(self, loader: Loader, device: torch.device) -> None:
        self.loader, self.device = loader, device
        self.iterator = iter(loader)

    def __call__(self, step: int) -> SyntheticPair:
        try:
            pair = as_pair(next(self.iterator))
        except StopIteration:
            self.iterator = iter(self.loader)
            pair = as_pair(next(self.iterator))
        return pair.to(self.device)


class SpikeRegTrainer:
    """Trains a dense or spiking network on pairs of images.

    Args:
        model: an `AnalogUNet` or a `SpikingUNet` (`SpikeRegUNet`), trained in place and on the device where it is.
        config: lengths, rates and weights, or their table; the `teacher` loop is used for dense networks, `finetune`
            for spiking ones.
    """

    def __init__(self, model: RegistrationUNet, config: TrainingConfig | Mapping[str, Any]) -> None:
        self.model = model
        self.config = load_config(config)
        self._facts: dict[str, Any] = {}

    def train(
        self,
        train_loader: Loader,
        val_loader: Loader | None = None,
        num_epochs: int = 100,
        *,
        folder: str | Path | None = None,
        show_progress: bool = False,
    ) -> dict[str, Any]:
        """Go `num_epochs` times through `train_loader`, one step for each of its items.

        Args:
            train_loader: sized iterable of pairs or batches of pairs, see `as_pair`; a step follows the mean of a
                batch's gradients, and networks normalise every pair by itself. In a group of processes each gives its
                own share, as torch's DistributedSampler makes them.
            val_loader: pairs or batches, whose mean similarity is measured after every epoch.
            num_epochs: rounds, at least one.
            folder: gets checkpoint and log; a temporary one if not given.
            show_progress: a progress bar.

        Returns:
            The last training entry, and `validation` after the last epoch.

        Raises:
            InputError: the loader is empty or does not know its length, or there is nothing to do.
        """
        if num_epochs < 1:
            raise InputError(f"num_epochs: must be at least 1, got {num_epochs}")
        if not isinstance(train_loader, Sized) or len(train_loader) == 0:
            raise InputError("train_loader: empty or without a length; give a list or a DataLoader of pairs")
        options = self.config.teacher if isinstance(self.model, AnalogUNet) else self.config.finetune
        per_epoch = len(train_loader)
        options = replace(options, steps=num_epochs * per_epoch, checkpoint_every=per_epoch)
        labelled = as_pair(next(iter(train_loader))).fixed_shares.shape[1] > 0
        if not labelled:
            options = replace(options, weights=replace(options.weights, dice=0.0, echo_dice=0.0))
        history: list[dict[str, float]] = []
        device = next(self.model.parameters()).device

        def validate(network: RegistrationUNet) -> dict[str, float]:
            history.append({"lncc": self.similarity([] if val_loader is None else val_loader)})
            return history[-1]

        with tempfile.TemporaryDirectory() as temporary:
            last = train(
                self.model,
                _Stream(train_loader, device),
                Path(folder or temporary),
                options=options,
                device=str(device),
                seed=self.config.seed,
                validate=validate if val_loader is not None else None,
                show_progress=show_progress,
            )
        validation = history[-1] if history else None
        self._facts = {"steps": options.steps, "epochs": num_epochs, "last_log_entry": last, "validation": validation}
        return {**last, "validation": validation}

    def save(self, path: str | Path, *, weight_bits: int = 16) -> Path:
        """Write the network to a model file that `SpikeRegInference` and `register(model=...)` open; returns its path.

        Args:
            path: of the file, which ends in .safetensors: weights are never written as pickles.
            weight_bits: of the convolution weights: 16 (half precision) or 8 (integers with a scale per channel).

        Raises:
            InputError: another suffix, or a folder that cannot be written.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise InputError(f"{path}: weights are written as .safetensors; end the name with that")
        facts = {
            "step": "teacher" if isinstance(self.model, AnalogUNet) else "finetune",
            "training_data": "pairs of a loader",
            "steps": 0,
            **self._facts,
            "seed": self.config.seed,
            "versions": {"spikereg": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "date": time.strftime("%Y-%m-%d"),
        }
        try:
            save_model(self.model, path, facts, weight_bits=weight_bits)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
        return path

    def similarity(self, loader: Loader) -> float:
        """Mean LNCC of warped and fixed images over the pairs of `loader`, in [0, 1].

        Raises:
            InputError: there is none.
        """
        device = str(next(self.model.parameters()).device)
        precision = Precision.best(device)
        self.model.eval()
        values = []
        for pair in (member for item in loader for member in as_pair(item).members()):
            fixed, moving = pair.fixed.to(device), pair.moving.to(device)
            with torch.inference_mode(), precision.autocast():
                displacement = self.model.displacement(torch.cat((fixed, moving), 1)).float()
            values.append(float(lncc(fixed, warp(moving, displacement), mask=fixed > FOREGROUND)))
        if not values:
            raise InputError("val_loader: empty; give pairs, or leave it out")
        return sum(values) / len(values)
