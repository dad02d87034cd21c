"""The short way in for Python: a loaded network that registers pairs, and networks built from a configuration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.arrays import Array, Spacing, array_frame, array_volume, is_array
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.given import Source
from SpikeRegLib.images.volumes import Volume, background_value, read_image, read_labels
from SpikeRegLib.models import find, read_header
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, check_finite, warp_image
from SpikeRegLib.spiking.spec import NetworkSpec, named_spec
from SpikeRegLib.spiking.unet import SpikingUNet
from SpikeRegLib.training.config import TrainingConfig, load_config

# What else of a registration may be an array, and on whose grid it then lies.
_ON_GRID_OF = {
    "fixed_mask": "fixed",
    "fixed_labels": "fixed",
    "region": "fixed",
    "moving_mask": "moving",
    "moving_labels": "moving",
}


class SpikeRegUNet(SpikingUNet):
    """A spiking U-Net from a configuration, with fresh weights: train it or load weights into it.

    Args:
        config: a `TrainingConfig` (see `load_config`) or its fields as a dictionary, a `NetworkSpec`, or the name of a
            spec.
        input_coding: "direct" (the image is a current) or "poisson" (the image is turned into spikes).
        seed: of the input spikes.

    Raises:
        InputError: a dictionary with a field that is wrong, or a spec that is unknown.
    """

    def __init__(
        self,
        config: TrainingConfig | Mapping[str, Any] | NetworkSpec | str,
        *,
        input_coding: str = "direct",
        seed: int = 0,
    ) -> None:
        if isinstance(config, NetworkSpec):
            spec = config
        else:
            recipe = None if isinstance(config, str) else load_config(config)
            try:
                spec = named_spec(str(config) if recipe is None else recipe.network)
            except ValueError as error:
                raise InputError(f"network: {error}") from error
            spec = spec if recipe is None else spec.with_timesteps(recipe.timesteps)
        super().__init__(spec, input_coding=input_coding, seed=seed)


class SpikeRegInference:
    """Registers pairs with one set of weights.

    Args:
        weights: name of a shipped model ("brain-t1") or a .safetensors file, such as `SpikeRegTrainer.save` writes.
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

    def register(
        self,
        fixed: Source | Array,
        moving: Source | Array,
        *,
        fixed_spacing: Spacing | None = None,
        moving_spacing: Spacing | None = None,
        fixed_affine: np.ndarray | None = None,
        moving_affine: np.ndarray | None = None,
        **options: Any,
    ) -> Registration:
        """The map from fixed to moving points and everything measured about it; see `SpikeRegLib.register`.

        Args:
            fixed, moving: volumes, files, or bare arrays [D, H, W] of any real numbers. An array without spacing and
                affine is taken as voxels of 1 mm whose axes are the patient's z, y and x, with a warning.
            fixed_spacing, moving_spacing: mm along the axes of an array, in their order, or one number.
            fixed_affine, moving_affine: 4x4, from indices along the axes of an array, in their order, to RAS mm, as
                nibabel gives it.
            options: of `SpikeRegLib.register`; masks, labels and region may be arrays, too, on the grid of their image.

        Raises:
            InputError: something given cannot be used.
        """
        settings = {"method": self.method, "preset": self.preset, **self.options, **options}
        if settings["method"] != "optimize":  # which is asked for instead of the network
            settings.setdefault("model", str(self.path))
        told, images = [], {}
        for role, source, spacing, affine in (
            ("fixed", fixed, fixed_spacing, fixed_affine),
            ("moving", moving, moving_spacing, moving_affine),
        ):
            images[role], warning = _placed(source, role, spacing, affine)
            told += [warning] if warning else []
        for name, role in _ON_GRID_OF.items():
            if is_array(settings.get(name)):
                image = images[role]
                if not isinstance(image, Volume):
                    raise InputError(f"{name}: an array needs its grid; give {role} as an array or a Volume, or a file")
                settings[name] = array_volume(settings[name], image.frame, name, labels=True)
        for warning in told:
            warnings.warn(warning, stacklevel=2)
        registration = register(images["fixed"], images["moving"], **settings)
        registration.result["warnings"] = [*told, *registration.result["warnings"]]
        return registration

    def apply_deformation(
        self,
        moving: Source | Array,
        deformation_field: Registration | Transform | Array,
        *,
        frame: Frame | None = None,
        spacing: Spacing | None = None,
        affine: np.ndarray | None = None,
        labels: bool = False,
        background: float | None = None,
    ) -> Volume:
        """Resample `moving` through a deformation.

        Args:
            moving: a volume, a file, or a bare array [D, H, W]: on the grid of the moving image for a registration,
                otherwise where `spacing` or `affine` say (see `register`), or on `frame`.
            deformation_field: a finished registration, a transform (fixed -> moving), or vectors [3, D, H, W] in mm
                (x, y, z in LPS) on `frame`, e.g. `Registration.displacement`.
            frame: the grid of the result and of bare vectors; the fixed image's for a registration, moving's otherwise.
            spacing, affine: of an array `moving`.
            labels: `moving` is a label map: take the nearest voxel instead of interpolating, and 0 outside.
            background: of an image where it does not reach; see `images.background_value` if not given.

        Raises:
            InputError: a bare array does not fit the grid it is said to lie on, or a file cannot be used.
        """
        finished = deformation_field if isinstance(deformation_field, Registration) else None
        grid = None if spacing is not None or affine is not None else finished.moving.frame if finished else frame
        volume: Volume
        if is_array(moving) and grid is not None:
            volume = array_volume(moving, grid, "moving", labels=labels)  # type: ignore[arg-type]
        else:
            placed, warning = _placed(moving, "moving", spacing, affine, labels=labels)
            if warning:
                warnings.warn(warning, stacklevel=2)
            read = read_labels if labels else read_image
            volume = placed if isinstance(placed, Volume) else read(placed)
        if finished is not None:
            frame = frame or finished.fixed.frame
            transform: Transform = finished.transform
        elif isinstance(deformation_field, Transform):
            transform = deformation_field
        else:
            frame = frame or volume.frame
            vectors = _vectors(deformation_field)
            if tuple(vectors.shape) != (3, *frame.shape):
                wanted = [3, *frame.shape]
                raise InputError(f"deformation_field: {list(vectors.shape)} does not fit; give {wanted}, or its frame")
            transform = DisplacementTransform(vectors, frame)
        check_finite(transform, "deformation_field")
        frame = frame or volume.frame
        if labels:
            return warp_image(volume, transform, frame, interpolation="nearest")
        outside = background_value(volume) if background is None else background
        return warp_image(volume, transform, frame, outside=outside)


def _placed(
    source: Source | Array, role: str, spacing: Spacing | None, affine: np.ndarray | None, *, labels: bool = False
) -> tuple[Source, str]:
    """A volume or file, an array as a volume; and a warning where nothing says where the array's voxels lie."""
    if not is_array(source):
        if spacing is not None or affine is not None:
            raise InputError(f"{role}: has a spacing of its own; give spacing and affine of arrays only")
        return source, ""  # type: ignore[return-value]
    shape = tuple(source.shape)  # type: ignore[union-attr]
    if len(shape) != 3:
        raise InputError(f"{role}: an array {list(shape)} does not fit; give [D, H, W]")
    frame = array_frame(shape, role, spacing=spacing, affine=affine)
    warning = ""
    if spacing is None and affine is None:
        warning = (
            f"{role}: a bare array, taken as voxels of 1 mm with the axes z, y, x of the patient; give a spacing or an "
            "affine where that is not so"
        )
    return array_volume(source, frame, role, labels=labels), warning  # type: ignore[arg-type]


def _vectors(field: Any) -> torch.Tensor:
    """float32, contiguous; NumPy arrays may be of any byte order and order of axes."""
    if isinstance(field, torch.Tensor):
        return field
    try:
        return torch.from_numpy(np.ascontiguousarray(field, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(
            "deformation_field: needs a registration, a transform or vectors [3, D, H, W] in mm"
        ) from error
