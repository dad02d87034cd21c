"""One image read by the network that names structures: soft maps of every class on a grid of 2 mm.

An image can be looked at more than once: mirrored, with the names of both sides exchanged, and shifted by one voxel, so
that other voxels share a patch. What the looks have in common is the image's, what they differ in the network's: on the
13 development brains the mean of four looks has a Dice of .026 more than one look of the spiking network, and of .019
more for the dense one (`Benchmarks/structures.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from SpikeRegLib.anatomy.logits import PATCH, voxel_logits
from SpikeRegLib.anatomy.structures import mirrored_classes
from SpikeRegLib.images.boxes import bounding_box
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.deploy import deploy
from SpikeRegLib.networks.passes import energy_of, rate_maps, run_network
from SpikeRegLib.progress import Listener, Progress, part_of_stage, silent
from SpikeRegLib.space.transforms import AffineTransform, warp_image
from SpikeRegLib.spiking.activity import ActivityRecorder, LayerActivity, sum_layers
from SpikeRegLib.spiking.energy import EnergyTable
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet

# Of the positive intensities, what is brighter is clipped: the middle of what training images are clipped at.
_BRIGHT = 0.995
_MOST_SAMPLES = 200_000
# Voxels darker than this share of the brightest are empty; the network sees so many voxels around the others.
_EMPTY, _MARGIN_VOXELS = 0.02, 6


class View(NamedTuple):
    """One way to look at an image: moved by so many voxels along every axis, and mirrored left to right or not."""

    voxels: int
    mirrored: bool


# Any two neighbours in this list differ in both, which is worth more than either.
VIEWS = (View(0, False), View(1, True), View(0, True), View(1, False))


@dataclass(frozen=True)
class StructureMaps:
    """What the network says of one image.

    Attributes:
        logits: [classes, D, H, W] on `frame`; see `anatomy.structures`. The mean of all looks.
        frame: of 2 mm, with the axes of the patient, or of the head; around what is not empty in the image.
        layers: spikes and operations of every layer, of all looks; empty for a dense network.
        energy: operations of all looks.
        arithmetic: in which the network ran, see `networks.deploy`.
        looks: how many there were.
        rates: layer -> spike rate of the first look on the layer's grid; only where they were asked for.
    """

    logits: torch.Tensor
    frame: Frame
    layers: list[LayerActivity] = field(default_factory=list)
    energy: EnergyTable | None = None
    arithmetic: str = "float32"
    looks: int = 1
    rates: dict[str, Volume] = field(default_factory=dict)

    @property
    def classes(self) -> torch.Tensor:
        """[D, H, W] int64: the likeliest class of every voxel; 0 is not brain."""
        return self.logits.argmax(0)

    @property
    def probabilities(self) -> torch.Tensor:
        """[classes, D, H, W] in [0, 1], of sum 1."""
        return self.logits.softmax(0)


class Reader:
    """A network that names structures, made ready once for any number of images.

    Args:
        network: dense or spiking, with a structures head.
        rates: keep the spike rate of every layer as a volume.
    """

    def __init__(self, network: RegistrationUNet, *, rates: bool = False) -> None:
        self.network = network.eval()
        self.rates = rates
        self.ready = deploy(self.network, "cpu")

    def begin(self, image: Volume, turned: np.ndarray | None = None) -> Reading:
        """A head or a brain of any contrast, made ready to be looked at as its header says or as `turned` says.

        Args:
            image: in its own intensities; darker than 0 counts as 0.
            turned: [3, 3] rotation, the axes (left, posterior, superior) of the head in columns, in the patient's; the
                maps then lie along them.
        """
        return Reading(self, image, turned)


class Reading:
    """One image on the network's grid, and what all looks at it so far have shown."""

    def __init__(self, reader: Reader, image: Volume, turned: np.ndarray | None) -> None:
        spec = reader.network.spec
        frame = _grid(_not_empty(image), spec.input_spacing_mm, spec.input_multiple(), turned)
        seen = _averaged(image, frame).clamp_min(0)
        bright = seen[seen > 0]
        top = torch.quantile(bright[:: max(1, len(bright) // _MOST_SAMPLES)], _BRIGHT) if len(bright) else seen.max()
        self._seen, self.frame = _around_content((seen / top.clamp_min(1e-6)).clamp(0, 1), frame, spec.input_multiple())
        self._reader = reader
        self._logits: torch.Tensor | None = None
        self._recorders: list[ActivityRecorder] = []
        self._looks = 0

    def look(self, views: int, listener: Listener = silent) -> StructureMaps:
        """The mean of the first `views` of `VIEWS`; those that were looked at before are not looked at again.

        `listener` hears the progress as step "read"; raises Cancelled to stop.
        """
        missing = range(self._looks, views)
        for number in missing:
            heard = part_of_stage(
                listener, (number - self._looks) / len(missing), (number - self._looks + 1) / len(missing)
            )
            output = self._look(VIEWS[number], heard)
            if self._logits is None:
                self._logits = torch.zeros(output.shape[1] // PATCH**3, *self.frame.shape)
            _add_look(self._logits, output, VIEWS[number])
        self._looks = max(self._looks, views)
        assert self._logits is not None  # views is at least 1
        reader = self._reader
        return StructureMaps(
            self._logits / self._looks,
            self.frame,
            sum_layers([recorder.layers for recorder in self._recorders]),
            energy_of(reader.network, self.frame, self._recorders, self._looks),
            getattr(reader.ready, "arithmetic", "float32"),
            self._looks,
            rate_maps([recorder.maps for recorder in self._recorders[:1]], self.frame, reader.network.spec),
        )

    def _look(self, view: View, listener: Listener) -> torch.Tensor:
        network = self._reader.network
        recorder = None
        if isinstance(network, SpikingUNet):
            # Other looks are moved by a voxel, which coarse layers cannot undo.
            keeps = self._reader.rates and not self._recorders
            recorder = ActivityRecorder(network.spec, self.frame.shape, maps=keeps)
        shift = view.voxels
        shown = functional.pad(self._seen, (shift, -shift) * 3)
        output = run_network(
            self._reader.ready, (shown.flip(2) if view.mirrored else shown)[None, None], tile=None, device="cpu",
            recorder=recorder, heard=lambda share, layer: listener(Progress("read", share, layer.name)),
        )  # fmt: skip
        if recorder is not None:
            self._recorders.append(recorder)
        return output.float()


def _add_look(total: torch.Tensor, output: torch.Tensor, view: View) -> None:
    """Add what a look showed to the sum of all looks.

    Class by class, which fit into the cache of a processor; all of them at once take a third longer.

    Args:
        total: [classes, D, H, W], as the image lies.
        output: [1, 8 classes, d, h, w] of the network.
        view: what it looked at.
    """
    shift, order = view.voxels, mirrored_classes() if view.mirrored else range(len(total))
    for place, source in enumerate(order):
        one = int(source) * PATCH**3
        logits = voxel_logits(output[:, one : one + PATCH**3])
        if view.mirrored:
            logits = logits.flip(4)
        if shift:  # the last planes were moved out of sight: they are like their neighbours
            logits = functional.pad(logits[..., shift:, shift:, shift:], (0, shift) * 3, mode="replicate")
        total[place].add_(logits[0, 0])


def _grid(frame: Frame, spacing_mm: float, multiple: int, turned: np.ndarray | None) -> Frame:
    """The grid of the network over all of an image."""
    corners = frame.corners()
    if turned is None:
        return world_aligned(corners.min(0), corners.max(0), spacing_mm, multiple)
    along = corners @ turned
    upright = world_aligned(along.min(0), along.max(0), spacing_mm, multiple)
    x, y, z = turned @ np.array(upright.origin)
    return replace(upright, origin=(float(x), float(y), float(z)), direction=tuple(turned.ravel().tolist()))


def _not_empty(image: Volume) -> Frame:
    """The part of an image's grid around its voxels above 0; all of it where there are none."""
    box = bounding_box(image.data > 0)
    if box is None:
        return image.frame
    (k, j, i), last = box
    return image.frame.part((i, j, k), (last[0] - k + 1, last[1] - j + 1, last[2] - i + 1))


def _averaged(image: Volume, frame: Frame) -> torch.Tensor:
    """[D, H, W] the image on `frame`, each voxel the mean of 2^3 smaller ones, as training images are drawn."""
    half = frame.spacing[0] / 2
    x, y, z = frame.to_mm(np.full(3, -0.25))
    depth, height, width = (2 * n for n in frame.shape)
    finer = Frame((depth, height, width), (float(x), float(y), float(z)), (half,) * 3, frame.direction)
    drawn = warp_image(image, AffineTransform.identity(), finer).data.float()
    return functional.avg_pool3d(drawn[None, None], 2)[0, 0]


def _around_content(seen: torch.Tensor, frame: Frame, multiple: int) -> tuple[torch.Tensor, Frame]:
    """The part of a grid in which an image is not empty, of as many voxels as the network needs."""
    box = bounding_box(seen > _EMPTY)
    if box is None:
        return seen, frame
    first, shape = [], []
    for low, high, size in zip(*box, seen.shape, strict=True):
        wanted = high - low + 1 + 2 * _MARGIN_VOXELS
        length = min(size, -(-wanted // multiple) * multiple)
        first.append(min(max(0, (low + high + 1 - length) // 2), size - length))
        shape.append(length)
    k, j, i = first
    part = frame.part((i, j, k), (shape[0], shape[1], shape[2]))
    return seen[k : k + shape[0], j : j + shape[1], i : i + shape[2]], part
