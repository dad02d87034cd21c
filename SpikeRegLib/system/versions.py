"""What a result was made with."""

from __future__ import annotations

import platform

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib import __version__


def versions() -> dict[str, str]:
    """As result files say them."""
    return {
        "spikereg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "simpleitk": sitk.Version.VersionString(),
        "numpy": np.__version__,
    }
