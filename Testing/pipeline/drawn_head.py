"""A head whose structures are known at every point, and a reading that says just that, without weights."""

from __future__ import annotations

import time

import numpy as np
import torch

from SpikeRegLib.anatomy import pose, segmentation
from SpikeRegLib.anatomy.layout import Layout, places
from SpikeRegLib.anatomy.model import StructureModel
from SpikeRegLib.anatomy.reading import StructureMaps
from SpikeRegLib.anatomy.structures import CLASS_OF, CLASSES, CSF, MIRRORED, WHITE_MATTER
from SpikeRegLib.images.frames import Frame, world_aligned
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import Listener, Progress, silent

RADII_MM = np.array([60.0, 74.0, 62.0])
BRAIN_ML = 4 / 3 * np.pi * float(RADII_MM.prod()) / 1000
MIDDLE = np.array([12.0, -7.0, 25.0])
BALL_MM = 9.0
HOLE, ISLAND = np.array([-30.0, -30.0, 25.0]), np.array([0.0, 0.0, 88.0])
SPACING_MM = 3.0
STRAIGHT = Frame((56, 62, 52), (-64.0, -98.0, -45.0), (SPACING_MM,) * 3)
VOXEL_ML = SPACING_MM**3 / 1000


def _balls() -> dict[int, np.ndarray]:
    """Label -> centre relative to the middle, LPS mm: x > 0 is the left of the patient."""
    random, found = np.random.default_rng(3), {}
    middle = [label for label in CLASS_OF if label not in (*MIRRORED, *MIRRORED.values(), CSF)]
    for number, label in enumerate(middle):
        found[label] = np.array([0.0, -40.0 + 40 * number, -20.0])
    places_ = [(y, z) for y in (-44, -22, 0, 22, 44) for z in (-30, -8, 14)]
    for label, (y, z) in zip([label for label in MIRRORED if label != 2], places_, strict=False):
        x = 22.0 + random.uniform(-3, 5)
        found[label] = np.array([x, y, z])
        found[MIRRORED[label]] = np.array([-x, y, z])
    return found


BALLS = _balls()


def truth(frame: Frame, *, extra: bool = False) -> np.ndarray:
    """[D, H, W] FreeSurfer's number at every voxel centre; `extra` adds a hole, and an island above the head."""
    index = np.moveaxis(np.indices(frame.shape)[::-1], 0, -1)
    points = frame.to_mm(index.astype(float)) - MIDDLE
    radius = np.sqrt(((points / RADII_MM) ** 2).sum(-1))
    left, right = WHITE_MATTER
    labels = np.where(points[..., 0] > 0, left, right)
    labels[radius > 0.93] = CSF
    for label, centre in BALLS.items():
        labels[((points - centre) ** 2).sum(-1) < BALL_MM**2] = label
    labels[radius > 1] = 0
    if extra:
        labels[((points - HOLE) ** 2).sum(-1) < 8**2] = 0
        labels[((points - ISLAND) ** 2).sum(-1) < 8**2] = 3
    return labels


def image(frame: Frame = STRAIGHT) -> Volume:
    """An image of noise on a grid; its corners are darker."""
    data = 50 + 50 * torch.rand(frame.shape, generator=torch.Generator().manual_seed(0))
    data[[0, -1]] = 7.0
    return Volume(data, frame, "drawn")


def maps_of(labels: np.ndarray, frame: Frame) -> StructureMaps:
    """What a network says that is sure of these labels."""
    classes = np.zeros(256, int)
    classes[list(CLASS_OF)] = list(CLASS_OF.values())
    hot = torch.nn.functional.one_hot(torch.from_numpy(classes[labels]), CLASSES)
    return StructureMaps(16.0 * hot.movedim(-1, 0).float(), frame)


def install(*, shuffled: bool = False, extra: bool = False, slow_s: float = 0.0) -> list[Volume]:
    """Let segmentation read the drawn head wherever an image lies; the list gets what is read.

    Args:
        shuffled: with structures where others belong, as in what is no head.
        extra: see `truth`.
        slow_s: so long it takes.
    """
    usual = maps_of(truth(STRAIGHT), STRAIGHT)
    layout = Layout(places(usual.probabilities, STRAIGHT), np.full(CLASSES, 1.0))
    model = StructureModel(torch.nn.Identity(), layout, "drawn", "0" * 64)
    order = [0, *np.random.default_rng(0).permutation(np.arange(1, CLASSES))] if shuffled else list(range(CLASSES))
    seen: list[Volume] = []

    class Reading:
        def __init__(self, volume: Volume) -> None:
            self.volume = volume

        def look(self, views: int, listener: Listener = silent) -> StructureMaps:
            for step in range(int(slow_s * 100)):
                listener(Progress("read", step / (slow_s * 100), "layer"))
                time.sleep(0.01)
            corners = self.volume.frame.corners()
            frame = world_aligned(corners.min(0), corners.max(0), SPACING_MM)
            maps = maps_of(truth(frame, extra=extra), frame)
            return StructureMaps(maps.logits[order], frame)

    class Reader:
        def __init__(self, network: object) -> None:
            pass

        def begin(self, volume: Volume, turned: object = None) -> Reading:
            seen.append(volume)
            return Reading(volume)

    pose.Reader = Reader  # type: ignore[misc, assignment]
    segmentation.load_structure_model = lambda name: model
    return seen
