"""Every reason why one volume cannot be computed with, whatever it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer
from slicer.i18n import tr as _

MINIMUM_AXIS = 16  # voxels; the library refuses thinner volumes


def isGrey(volume: Any) -> bool:
    """Whether the volume has voxels of one number each."""
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or volume.IsA("vtkMRMLTensorVolumeNode"):
        return False
    return bool(image.GetNumberOfScalarComponents() == 1)


def volumeProblems(volume: Any) -> Iterator[str]:
    """What is wrong with the volume itself, each a sentence that names it and says what to do."""
    name, image = volume.GetName(), volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        yield _('Volume "{name}" has no data; load its image, or choose another volume.').format(name=name)
        return
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        yield _(
            '"{name}" is a label map; choose the image it was drawn on, and give it as segmentation or mask.'
        ).format(name=name)
    if not isGrey(volume):
        yield (
            _(
                'Volume "{name}" has {count} components (colour or vector); extract one with the module '
                "Vector to Scalar Volume and choose that."
            ).format(name=name, count=image.GetNumberOfScalarComponents())
        )
        return
    sequence = _sequenceOf(volume)
    if sequence is not None:
        yield (
            _(
                'Volume "{name}" is the current frame of the sequence "{sequence}" and changes with it; '
                "clone it in the module Data and choose the clone."
            ).format(name=name, sequence=sequence.GetName())
        )
    size = image.GetDimensions()
    if min(size) < MINIMUM_AXIS:
        shape = " x ".join(map(str, size))
        yield _('Volume "{name}" has {shape} voxels; choose one with at least {minimum} along every axis.').format(
            name=name, shape=shape, minimum=MINIMUM_AXIS
        )
    elif image.GetScalarRange()[0] == image.GetScalarRange()[1]:
        yield _('Volume "{name}" has the same value everywhere; choose another volume.').format(name=name)


def sheared(name: str) -> str:
    """That the axes of a volume of this name are not at right angles."""
    return _(
        'The axes of volume "{name}" are not perpendicular (gantry tilt?); resample it on a '
        "rectangular grid with the module Resample Scalar/Vector/DWI Volume and choose the result."
    ).format(name=name)


def _sequenceOf(volume: Any) -> Any:
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", volume.GetScene()):
        sequence = browser.GetSequenceNode(volume)
        if sequence is not None:
            return sequence
    return None
