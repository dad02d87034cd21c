"""The short way in for Python: a loaded network that registers pairs, and networks built from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.frames import Frame
from SpikeRegLib.images import Volume, read_image, read_labels
from SpikeRegLib.inputs import Source
from SpikeRegLib.models import find, read_header
from SpikeRegLib.pipeline import register
from SpikeRegLib.registration import Registration
from SpikeRegLib.spiking.spec import NetworkSpec, named_spec
from SpikeRegLib.spiking.unet import SpikingUNet
from SpikeRegLib.training.config import TrainingConfig
from SpikeRegLib.transforms import DisplacementTransform, Transform, warp_image


class SpikeRegUNet(SpikingUNet):
    """A spiking U-Net from a configuration, with fresh weights: train it or load weights into it.

    Args:
        config: a `TrainingConfig` (see `load_config`), a `NetworkSpec`, or the name of a spec.
        input_coding: "direct" (the image is a current) or "poisson" (the image is turned into spikes).
        seed: of the input spikes.
    """

    def __init__(
        self, config: TrainingConfig | NetworkSpec | str, *, input_coding: str = "direct", seed: int = 0
    ) -> None:
        if isinstance(config, TrainingConfig):
            spec = named_spec(config.network).with_timesteps(config.timesteps)
        else:
            spec = named_spec(config) if isinstance(config, str) else config
        super().__init__(spec, input_coding=input_coding, seed=seed)


class SpikeRegInference:
    """Registers pairs with one set of weights.

    Args:
        weights: name of a shipped model ("brain-t1") or a .safetensors file.
        preset: what happens around the network.
        options: passed on to `register` (device, threads, seed, refine_iterations...).

    Example:
        result = SpikeRegInference("brain-t1").register("fixed.nii.gz", "moving.nii.gz")
    """

    def __init__(self, weights: str | Path = "brain-t1", *, preset: str | Path = "brain-t1", **options: Any) -> None:
        self.path = find(weights, "spikereg")
        self.method = "ann" if read_header(self.path).kind == "analog" else "spikereg"
        self.preset = preset
        self.options = options

    def register(self, fixed: Source, moving: Source, **options: Any) -> Registration:
        """The map from fixed to moving points and everything measured about it; see `SpikeRegLib.register`."""
        settings = {"method": self.method, "preset": self.preset, "model": str(self.path), **self.options, **options}
        return register(fixed, moving, **settings)

    def apply_deformation(
        self,
        moving: Source | torch.Tensor | np.ndarray,
        deformation_field: Registration | Transform | torch.Tensor | np.ndarray,
        *,
        frame: Frame | None = None,
        labels: bool = False,
    ) -> Volume:
        """Resample `moving` through a deformation.

        Args:
            moving: a volume, a file, or a bare array [D, H, W]: on the grid of the moving image for a registration, on
                `frame` otherwise.
            deformation_field: a finished registration, a transform (fixed -> moving), or vectors [3, D, H, W] in mm
                (LPS) on `frame`, e.g. `Registration.displacement`.
            frame: the grid of the result and of bare vectors; the fixed image's for a registration, moving's otherwise.
            labels: `moving` is a label map: take the nearest voxel instead of interpolating.

        Raises:
            InputError: a bare array does not fit the grid it is said to lie on, or a file cannot be used.
        """
        if isinstance(moving, (torch.Tensor, np.ndarray)):
            data = torch.as_tensor(moving)
            grid = deformation_field.moving.frame if isinstance(deformation_field, Registration) else frame
            if data.ndim != 3 or (grid is not None and tuple(data.shape) != tuple(grid.shape)):
                wanted = "[D, H, W]" if grid is None else list(grid.shape)
                raise InputError(f"moving: an array {list(data.shape)} does not fit; give {wanted}, or a Volume")
            depth, height, width = data.shape
            volume = Volume(data if labels else data.float(), grid or Frame((depth, height, width)))
        elif isinstance(moving, Volume):
            volume = moving
        else:
            volume = read_labels(moving) if labels else read_image(moving)
        if isinstance(deformation_field, Registration):
            frame = frame or deformation_field.fixed.frame
            transform: Transform = deformation_field.transform
        elif isinstance(deformation_field, Transform):
            transform = deformation_field
        else:
            frame = frame or volume.frame
            vectors = torch.as_tensor(deformation_field)
            if tuple(vectors.shape) != (3, *frame.shape):
                wanted = [3, *frame.shape]
                raise InputError(f"deformation_field: {list(vectors.shape)} does not fit; give {wanted}, or its frame")
            transform = DisplacementTransform(vectors, frame)
        return warp_image(volume, transform, frame or volume.frame, interpolation="nearest" if labels else "linear")
