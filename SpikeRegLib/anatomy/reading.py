"""One image read by the network that names structures: soft maps of every class on a grid of 2 mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from SpikeRegLib.anatomy.logits import voxel_logits
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.space.transforms import AffineTransform, warp_image
from SpikeRegLib.spiking.unet import AnalogUNet

# Of the positive intensities, what is brighter is clipped: the middle of what training images are clipped at.
_BRIGHT = 0.995
_MOST_SAMPLES = 200_000


@dataclass(frozen=True)
class StructureMaps:
    """What the network says of one image.

    Attributes:
        logits: [classes, D, H, W] on `frame`; see `anatomy.structures`.
        frame: of 2 mm, with the axes of the patient.
    """

    logits: torch.Tensor
    frame: Frame

    @property
    def classes(self) -> torch.Tensor:
        """[D, H, W] int64: the likeliest class of every voxel; 0 is not brain."""
        return self.logits.argmax(0)


def read_structures(network: AnalogUNet, image: Volume) -> StructureMaps:
    """Read a head or a brain of any contrast, lying as its header says.

    Args:
        network: dense, with a structures head.
        image: in its own intensities; darker than 0 counts as 0.
    """
    frame = _grid(image.frame, network.spec.input_spacing_mm, network.spec.input_multiple())
    seen = _averaged(image, frame).clamp_min(0)
    bright = seen[seen > 0]
    top = torch.quantile(bright[:: max(1, len(bright) // _MOST_SAMPLES)], _BRIGHT) if len(bright) else seen.max()
    with torch.no_grad(), Precision.best("cpu").autocast():
        output = network.eval()((seen / top.clamp_min(1e-6)).clamp(0, 1)[None, None])
    return StructureMaps(voxel_logits(output.float())[0], frame)


def _grid(frame: Frame, spacing_mm: float, multiple: int) -> Frame:
    """The grid of the network over all of an image."""
    last = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    last[:, :3] *= np.array(frame.size) - 1
    corners = (last @ frame.matrix.T)[:, :3]
    return world_aligned(corners.min(0), corners.max(0), spacing_mm, multiple)


def _averaged(image: Volume, frame: Frame) -> torch.Tensor:
    """[D, H, W] the image on `frame`, each voxel the mean of 2^3 smaller ones, as training images are drawn."""
    half = frame.spacing[0] / 2
    x, y, z = (origin - half / 2 for origin in frame.origin)
    depth, height, width = (2 * n for n in frame.shape)
    finer = Frame((depth, height, width), origin=(x, y, z), spacing=(half,) * 3)
    drawn = warp_image(image, AffineTransform.identity(), finer).data.float()
    return functional.avg_pool3d(drawn[None, None], 2)[0, 0]
