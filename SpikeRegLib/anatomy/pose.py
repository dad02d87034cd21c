"""A head found however it lies: as its header says, else along one of the other axes, then read once more upright."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch

from SpikeRegLib.anatomy.confidence import confidences
from SpikeRegLib.anatomy.head_check import HeadCheck, check_head
from SpikeRegLib.anatomy.label_maps import brain_logits
from SpikeRegLib.anatomy.layout import Layout, Places, fit_affine, places
from SpikeRegLib.anatomy.reading import StructureMaps, read_structures
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import Listener, part_of_stage, silent
from SpikeRegLib.spiking.unet import RegistrationUNet

# A head that is tilted more is read once more upright: the network was trained on tilts of 12 degrees, most of them.
_TILT_DEGREES = 20.0
# Of structures no farther off than this, on average, a look along their own axes may show a head.
_NEARLY_MM = 6.0
# Structures farther from where a head has them do not say which way is up either.
_WORTH_A_LOOK_MM = 15.0


@dataclass(frozen=True)
class FoundHead:
    """What was found in one image, and how it was read.

    Attributes:
        maps, places: of the last reading.
        check: whether it looks like a head; if not, nothing else here is worth anything.
        brain: [D, H, W] on the grid of the maps, above 0 in the brain, see `label_maps.brain_logits`.
        confidences: [classes], see there.
        readings: how often the image was read.
        tilt_degrees: how far the head is turned from what the header says; 0 for what is no head.
    """

    maps: StructureMaps
    places: Places
    check: HeadCheck
    brain: torch.Tensor
    confidences: list[float]
    readings: int
    tilt_degrees: float


def orientations() -> list[np.ndarray]:
    """[3, 3] the 24 rotations that take axes to axes, the identity first, then by their angle."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return sorted(found, key=angle_degrees)


def angle_degrees(rotation: np.ndarray) -> float:
    """Of a rotation, 0 to 180."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def find_head(
    network: RegistrationUNet, layout: Layout, image: Volume, *, any_pose: bool = True, listener: Listener = silent
) -> FoundHead:
    """Read an image as its header says; if that is no head, in the other orientations until it is one.

    Args:
        network: see `read_structures`.
        layout: how heads are built.
        image: in its own intensities.
        any_pose: look in other orientations at all.
        listener: hears the progress of every reading from 0 to 1.
    """
    tried = orientations() if any_pose else orientations()[:1]
    readings: list[FoundHead] = []
    for number, turned in enumerate(tried, 1):
        heard = part_of_stage(listener, (number - 1) / len(tried), number / len(tried)) if number > 1 else listener
        found = _read(network, layout, image, turned if number > 1 else None, number, heard)
        readings.append(found)
        if found.check.head or (any_pose and found.check.off_mm < _NEARLY_MM):
            upright = _upright(network, layout, image, found, listener)
            if upright.check.head:
                return upright
    # Between two orientations structures may be out of place, and still say which way is up.
    nearest = min(readings, key=lambda reading: np.nan_to_num(reading.check.off_mm, nan=np.inf))
    if any_pose and nearest.check.off_mm < _WORTH_A_LOOK_MM:
        found = _upright(network, layout, image, replace(nearest, readings=len(tried)), listener)
        if found.check.head:
            return found
    return replace(readings[0], readings=len(tried))


def _read(
    network: RegistrationUNet, layout: Layout, image: Volume, turned: np.ndarray | None, readings: int,
    listener: Listener,
) -> FoundHead:  # fmt: skip
    maps = read_structures(network, image, turned=turned, listener=listener)
    found, brain = places(maps.probabilities, maps.frame), brain_logits(maps.logits)
    sure = confidences(maps, brain)
    brain_ml = float((brain > 0).sum()) * float(np.prod(maps.frame.spacing)) / 1000
    check = check_head(found, layout, brain_ml=brain_ml, confidence=sure[0])
    return FoundHead(maps, found, check, brain, sure, readings, 0.0)


def _upright(
    network: RegistrationUNet, layout: Layout, image: Volume, found: FoundHead, listener: Listener
) -> FoundHead:
    """The head read once more along its own axes, where it is tilted against those it was read along."""
    axes = _axes(layout, found.places)
    read_along = np.reshape(found.maps.frame.direction, (3, 3))
    if angle_degrees(read_along.T @ axes) > _TILT_DEGREES:
        again = _read(network, layout, image, axes, found.readings + 1, listener)
        if again.check.head and again.check.off_mm <= found.check.off_mm:
            found = again
    if not found.check.head:
        return found
    tilt = angle_degrees(_axes(layout, found.places))
    return replace(found, tilt_degrees=tilt)


def _axes(layout: Layout, found: Places) -> np.ndarray:
    """[3, 3] the rotation that takes an upright head to where its structures were found."""
    fit = fit_affine(layout.places, found, rigid=True)
    assert fit is not None  # or it would not have been recognised
    return fit.matrix[:3, :3] / np.cbrt(np.linalg.det(fit.matrix[:3, :3]))
