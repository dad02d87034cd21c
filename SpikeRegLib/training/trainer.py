"""Training on one's own pairs: any iterable of image pairs instead of the synthetic stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.fields import warp
from SpikeRegLib.filters import FOREGROUND
from SpikeRegLib.losses import lncc
from SpikeRegLib.precision import Precision
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet
from SpikeRegLib.training.config import TrainingConfig
from SpikeRegLib.training.loop import train
from SpikeRegLib.training.synthetic import SyntheticPair

Loader = Iterable[Any]


def as_pair(item: Any) -> SyntheticPair:
    """A loader's item as a training pair: a `SyntheticPair`, a dict with "fixed" and "moving", or the two in order.

    Images are [1, 1, D, H, W] (leading axes may be left out) in [0, 1] on one isotropic grid.

    Raises:
        ValueError: the two images differ in shape or come in batches of more than one.
    """
    if isinstance(item, SyntheticPair):
        return item
    first, second = (item["fixed"], item["moving"]) if isinstance(item, dict) else item[:2]
    images = [torch.as_tensor(image).float() for image in (first, second)]
    if any(image.numel() != image.shape[-3:].numel() for image in images):
        raise ValueError(f"one pair at a time: got images of shape {[list(image.shape) for image in images]}")
    images = [image.reshape(1, 1, *image.shape[-3:]) for image in images]
    if images[0].shape != images[1].shape:
        raise ValueError(f"fixed and moving differ in shape: {list(images[0].shape)} and {list(images[1].shape)}")
    nothing = torch.zeros(1, 0, *(n // 2 for n in images[0].shape[2:]))
    return SyntheticPair(images[0], images[1], nothing, nothing)


class _Stream:
    """Pair number n of a loader that is started anew whenever it runs out; steps come in order."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.iterator = iter(loader)

    def __call__(self, step: int) -> SyntheticPair:
        try:
            return as_pair(next(self.iterator))
        except StopIteration:
            self.iterator = iter(self.loader)
            return as_pair(next(self.iterator))


class SpikeRegTrainer:
    """Trains a dense or spiking network on pairs of images.

    Args:
        model: an `AnalogUNet` or a `SpikingUNet` (`SpikeRegUNet`), trained in place.
        config: lengths, rates and weights; the `teacher` loop is used for dense networks, `finetune` for spiking ones.
    """

    def __init__(self, model: RegistrationUNet, config: TrainingConfig) -> None:
        self.model = model
        self.config = config

    def train(
        self,
        train_loader: Loader,
        val_loader: Loader | None = None,
        num_epochs: int = 100,
        *,
        folder: str | Path | None = None,
        show_progress: bool = False,
    ) -> dict[str, Any]:
        """Go `num_epochs` times through `train_loader`.

        Args:
            train_loader: sized iterable of pairs, see `as_pair`. In a group of processes each gives its own share, as
                torch's DistributedSampler makes them.
            val_loader: pairs whose mean similarity is measured after every epoch.
            num_epochs: rounds.
            folder: gets checkpoint and log; a temporary one if not given.
            show_progress: a progress bar.

        Returns:
            The last training entry, and `validation` after the last epoch.

        Raises:
            InputError: the loader is empty or does not know its length.
        """
        if not isinstance(train_loader, Sized) or len(train_loader) == 0:
            raise InputError("train_loader: empty or without a length; give a list or a DataLoader of pairs")
        options = self.config.teacher if isinstance(self.model, AnalogUNet) else self.config.finetune
        per_epoch = len(train_loader)
        options = replace(options, steps=num_epochs * per_epoch, checkpoint_every=per_epoch)
        labelled = as_pair(next(iter(train_loader))).fixed_shares.shape[1] > 0
        if not labelled:
            options = replace(options, weights=replace(options.weights, dice=0.0, echo_dice=0.0))
        history: list[dict[str, float]] = []

        def validate(network: RegistrationUNet) -> dict[str, float]:
            history.append({"lncc": self.similarity(val_loader or [])})
            return history[-1]

        with tempfile.TemporaryDirectory() as temporary:
            last = train(
                self.model,
                _Stream(train_loader),
                Path(folder or temporary),
                options=options,
                seed=self.config.seed,
                validate=validate if val_loader is not None else None,
                show_progress=show_progress,
            )
        return {**last, "validation": history[-1] if history else None}

    def similarity(self, loader: Loader) -> float:
        """Mean LNCC of warped and fixed images over the pairs of `loader`, in [0, 1]."""
        device = str(next(self.model.parameters()).device)
        precision = Precision.best(device)
        self.model.eval()
        values = []
        for item in loader:
            pair = as_pair(item)
            fixed, moving = pair.fixed.to(device), pair.moving.to(device)
            with torch.inference_mode(), precision.autocast():
                displacement = self.model.displacement(torch.cat((fixed, moving), 1)).float()
            values.append(float(lncc(fixed, warp(moving, displacement), mask=fixed > FOREGROUND)))
        return sum(values) / max(1, len(values))
