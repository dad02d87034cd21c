"""One image read by the network that names structures: soft maps of every class on a grid of 2 mm."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional

from SpikeRegLib.anatomy.logits import voxel_logits
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.deploy import deploy
from SpikeRegLib.networks.passes import energy_of, run_network
from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.space.transforms import AffineTransform, warp_image
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity
from SpikeRegLib.spiking.energy import EnergyTable
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet

# Of the positive intensities, what is brighter is clipped: the middle of what training images are clipped at.
_BRIGHT = 0.995
_MOST_SAMPLES = 200_000


@dataclass(frozen=True)
class StructureMaps:
    """What the network says of one image.

    Attributes:
        logits: [classes, D, H, W] on `frame`; see `anatomy.structures`.
        frame: of 2 mm, with the axes of the patient, or of the head.
        layers: spikes and operations of every layer; empty for a dense network.
        energy: operations of the reading.
        arithmetic: in which the network ran, see `networks.deploy`.
    """

    logits: torch.Tensor
    frame: Frame
    layers: list[LayerActivity] = field(default_factory=list)
    energy: EnergyTable | None = None
    arithmetic: str = "float32"

    @property
    def classes(self) -> torch.Tensor:
        """[D, H, W] int64: the likeliest class of every voxel; 0 is not brain."""
        return self.logits.argmax(0)

    @property
    def probabilities(self) -> torch.Tensor:
        """[classes, D, H, W] in [0, 1], of sum 1."""
        return self.logits.softmax(0)


def read_structures(
    network: RegistrationUNet, image: Volume, *, turned: np.ndarray | None = None, listener: Listener = silent
) -> StructureMaps:
    """Read a head or a brain of any contrast, lying as its header says or as `turned` says.

    Args:
        network: dense or spiking, with a structures head, in evaluation mode.
        image: in its own intensities; darker than 0 counts as 0.
        turned: [3, 3] rotation, the axes (left, posterior, superior) of the head in columns, in the patient's; the maps
            then lie along them.
        listener: hears the progress as step "read"; raises Cancelled to stop.
    """
    frame = _grid(image.frame, network.spec.input_spacing_mm, network.spec.input_multiple(), turned)
    seen = _averaged(image, frame).clamp_min(0)
    bright = seen[seen > 0]
    top = torch.quantile(bright[:: max(1, len(bright) // _MOST_SAMPLES)], _BRIGHT) if len(bright) else seen.max()
    recorder = ActivityRecorder(network.spec, frame.shape) if isinstance(network, SpikingUNet) else None
    ready = deploy(network.eval(), "cpu")
    output = run_network(
        ready, (seen / top.clamp_min(1e-6)).clamp(0, 1)[None, None], tile=None, device="cpu", recorder=recorder,
        heard=lambda share, layer: listener(Progress("read", share, layer.name)),
    )  # fmt: skip
    return StructureMaps(
        voxel_logits(output.float())[0].clone(),
        frame,
        [] if recorder is None else recorder.layers,
        energy_of(network, frame, [] if recorder is None else [recorder], 1),
        getattr(ready, "arithmetic", "float32"),
    )


def _grid(frame: Frame, spacing_mm: float, multiple: int, turned: np.ndarray | None) -> Frame:
    """The grid of the network over all of an image."""
    corners = frame.corners()
    if turned is None:
        return world_aligned(corners.min(0), corners.max(0), spacing_mm, multiple)
    along = corners @ turned
    upright = world_aligned(along.min(0), along.max(0), spacing_mm, multiple)
    x, y, z = turned @ np.array(upright.origin)
    return replace(upright, origin=(float(x), float(y), float(z)), direction=tuple(turned.ravel().tolist()))


def _averaged(image: Volume, frame: Frame) -> torch.Tensor:
    """[D, H, W] the image on `frame`, each voxel the mean of 2^3 smaller ones, as training images are drawn."""
    half = frame.spacing[0] / 2
    x, y, z = frame.to_mm(np.full(3, -0.25))
    depth, height, width = (2 * n for n in frame.shape)
    finer = Frame((depth, height, width), (float(x), float(y), float(z)), (half,) * 3, frame.direction)
    drawn = warp_image(image, AffineTransform.identity(), finer).data.float()
    return functional.avg_pool3d(drawn[None, None], 2)[0, 0]
