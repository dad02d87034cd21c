"""SpikeReg: deformable registration of medical images with spiking neural networks.

    from SpikeRegLib import register
    result = register("fixed.nii.gz", "moving.nii.gz")
    result.warped, result.transform, result.result["verdict"]

Every name below is imported on first use, so that importing the package costs no more than a few milliseconds and
never loads torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"

# Public name -> the module it lives in. A name that is also a module (`refine`) is left out: importing the module
# would replace it.
_HOME = {
    "register": "pipeline",
    "Registration": "pipeline.registration",
    "segment": "anatomy.segmentation",
    "Segmentation": "anatomy.segmentation",
    "Frame": "images.frames",
    "Volume": "images.volumes",
    "read_image": "images.volumes",
    "read_labels": "images.volumes",
    "write_volume": "images.volumes",
    "read_points": "images.points",
    "write_points": "images.points",
    "AffineTransform": "space.transforms",
    "CompositeTransform": "space.transforms",
    "DisplacementTransform": "space.transforms",
    "Transform": "space.transforms",
    "compose": "space.transforms",
    "read_transform": "space.transforms",
    "warp_image": "space.transforms",
    "write_transform": "space.transforms",
    "align": "affine",
    "Cancelled": "errors",
    "InputError": "errors",
    "SpikeRegError": "errors",
    "Progress": "progress",
    "Preset": "presets.preset",
    "load_preset": "presets.preset",
    "preset_names": "presets.preset",
    "write_outputs": "outputs.folder",
    "write_segmentation": "outputs.segmentation_folder",
    "write_report": "report",
    "SpikeRegInference": "inference",
    "SpikeRegUNet": "inference",
    "SpikeRegTrainer": "training.trainer",
    "load_config": "training.config",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
