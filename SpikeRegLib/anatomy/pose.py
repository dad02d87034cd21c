"""A head found however it lies: as its header says, else along one of the other axes, then read once more upright."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from SpikeRegLib.anatomy.brain import BrainMask
from SpikeRegLib.anatomy.confidence import confidences
from SpikeRegLib.anatomy.cut import cut_structures
from SpikeRegLib.anatomy.head_check import HeadCheck, check_head
from SpikeRegLib.anatomy.layout import Layout, Places, fit_affine, places
from SpikeRegLib.anatomy.reading import Reader, Reading, StructureMaps
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import Listener, part_of_stage, silent
from SpikeRegLib.spiking.unet import RegistrationUNet

# A head that lies farther from those the network was trained on is read once more along their axes. Between brains of
# 28 degrees read as they lie and along those axes there is no difference in Dice (.745 and .743 in six).
_FAR_DEGREES = 45.0
# The heads of the layout nod by this, about the axis from right to left, against those of scanners and templates: 28 to
# 33.5 degrees in ten images of five sources.
_NOD_DEGREES = 30.0
# People lie in scanners tilted by 15 degrees at most.
_LIES_OTHERWISE_DEGREES = 45.0
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
        brain: where it is.
        confidences: [classes], see there.
        readings: along how many axes the image was read.
        tilt_degrees: how far the head is turned from how heads lie whose header is right; 0 for what is no head.
    """

    maps: StructureMaps
    places: Places
    check: HeadCheck
    brain: BrainMask
    confidences: list[float]
    readings: int
    tilt_degrees: float

    @property
    def warning(self) -> str | None:
        """What a person should know of how the head lies."""
        if not self.check.head or self.tilt_degrees <= _LIES_OTHERWISE_DEGREES:
            return None
        return (
            f"the head is turned by {self.tilt_degrees:.0f} degrees from what its header says; check the file's "
            "orientation"
        )


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
    network: RegistrationUNet, layout: Layout, image: Volume, *, any_pose: bool = True, views: int = 1,
    listener: Listener = silent,
) -> FoundHead:  # fmt: skip
    """Read an image as its header says; if that is no head, in the other orientations until it is one.

    Args:
        network: dense or spiking, with a structures head.
        layout: how heads are built.
        image: in its own intensities.
        any_pose: look in other orientations at all.
        views: how often a head is looked at once it is found, see `reading.VIEWS`; one look tells whether it is one.
        listener: hears the progress of every reading from 0 to 1.
    """
    search = _Search(Reader(network), layout, image)
    found = search.run(orientations() if any_pose else orientations()[:1], listener)
    if found.head.check.head and views > 1:
        found = search.judged(found.reading, views, listener)
    readings = replace(found.head, readings=search.readings)
    if not readings.check.head:
        return readings
    return replace(readings, tilt_degrees=angle_degrees(_axes(layout, readings.places) @ _nod().T))


class _Look(NamedTuple):
    """A reading, and what it shows."""

    reading: Reading
    head: FoundHead

    @property
    def off_mm(self) -> float:
        """Infinite where too few structures were found to tell."""
        return float(np.nan_to_num(self.head.check.off_mm, nan=np.inf))


class _Search:
    """One image read along one set of axes after the other."""

    def __init__(self, reader: Reader, layout: Layout, image: Volume) -> None:
        self.reader, self.layout, self.image = reader, layout, image
        self.readings = 0

    def run(self, tried: list[np.ndarray], listener: Listener) -> _Look:
        # No more than two are kept: the maps of one whole head take 200 MB.
        first: _Look | None = None
        nearest: _Look | None = None
        for number, turned in enumerate(tried):
            heard = part_of_stage(listener, number / len(tried), (number + 1) / len(tried)) if number else listener
            found = self._look(turned if number else None, heard)
            first = first or found
            if nearest is None or found.off_mm < nearest.off_mm:
                nearest = found
            if found.head.check.head or (len(tried) > 1 and found.off_mm < _NEARLY_MM):
                upright = self._upright(found, listener)
                if upright.head.check.head:
                    return upright
        assert first is not None and nearest is not None  # something was tried
        # Between two orientations structures may be out of place, and still say which way is up.
        if len(tried) > 1 and nearest.off_mm < _WORTH_A_LOOK_MM:
            found = self._upright(nearest, listener)
            if found.head.check.head:
                return found
        return first

    def _look(self, turned: np.ndarray | None, listener: Listener) -> _Look:
        self.readings += 1
        return self.judged(self.reader.begin(self.image, turned), 1, listener)

    def judged(self, reading: Reading, views: int, listener: Listener) -> _Look:
        """A reading of so many looks, and whether it shows a head."""
        maps = reading.look(views, listener)
        probabilities, brain = maps.probabilities, BrainMask.found_in(maps.logits, maps.frame)
        cut = cut_structures(probabilities, maps.frame, self.image.frame)
        found = replace(places(probabilities, maps.frame), cut=cut)
        sure = confidences(maps, brain)
        check = check_head(found, self.layout, brain_ml=brain.volume_ml, confidence=sure[0])
        return _Look(reading, FoundHead(maps, found, check, brain, sure, 1, 0.0))

    def _upright(self, found: _Look, listener: Listener) -> _Look:
        """The head read once more along its own axes, where it is tilted against those it was read along."""
        axes = _axes(self.layout, found.head.places)
        read_along = np.reshape(found.head.maps.frame.direction, (3, 3))
        if angle_degrees(read_along.T @ axes) > _FAR_DEGREES:
            again = self._look(axes, listener)
            if again.head.check.head and again.head.check.off_mm <= found.head.check.off_mm:
                return again
        return found


def usual_places(layout: Layout) -> Places:
    """The layout's structures as they lie in a head whose header is right, around the middle of the brain."""
    return Places(layout.places.centres @ _nod().T, layout.places.volumes_ml)


def _nod() -> np.ndarray:
    """[3, 3] the axes of the layout's heads in those of a head whose header is right."""
    sine, cosine = np.sin(np.radians(_NOD_DEGREES)), np.cos(np.radians(_NOD_DEGREES))
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


def _axes(layout: Layout, found: Places) -> np.ndarray:
    """[3, 3] the rotation that takes an upright head to where its structures were found."""
    fit = fit_affine(layout.places, found, rigid=True)
    assert fit is not None  # or it would not have been recognised
    return fit.matrix[:3, :3] / np.cbrt(np.linalg.det(fit.matrix[:3, :3]))
