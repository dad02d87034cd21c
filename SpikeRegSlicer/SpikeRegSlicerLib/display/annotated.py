"""Pictures of slice views that explain themselves: sides of the patient, position, scale bar, names and date on each.

What Slicer itself draws into a view stays as it is: letters go to the middle of each edge, all else into a strip below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

_FREETYPE = 0  # the renderer that takes "$" for a letter and for no formula
_DPI = 72
_BARS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_BAR_AT_MOST = 0.3  # of the picture's width
_WHITE, _SOFT = (255, 255, 255), (190, 190, 190)


def annotatePng(path: str, sliceNode: Any, names: Sequence[str], when: str) -> bytes:
    """The PNG file of a slice view's picture, annotated; see `annotate`."""
    reader = vtk.vtkPNGReader()
    reader.SetFileName(path)
    reader.Update()
    return encoded(annotate(_pixels(reader.GetOutput())[::-1, :, :3], sliceNode, names, when))


def annotate(pixels: np.ndarray, sliceNode: Any, names: Sequence[str], when: str) -> np.ndarray:
    """A picture of a slice view with letters at its edges and a strip below it.

    Args:
        pixels: [H, W, 3] uint8, the whole view, the first row on top.
        sliceNode: of the view; its pixels may be fewer than the picture's, as on screens of high resolution.
        names: what is shown, one line each, such as the name of the fixed volume.
        when: date and time, in words.

    Returns:
        [H + strip, W, 3] uint8.
    """
    height, width = pixels.shape[:2]
    size = max(9, round(width / 28))
    lines = [f"{positionText(sliceNode)}    {when}", *names]
    strip = np.zeros((round(1.5 * size) * len(lines) + size // 2, width, 3), np.uint8)
    picture = np.concatenate([np.array(pixels[..., :3], np.uint8), strip])
    left, right, bottom, top = edgeLetters(sliceNode)
    for text, row, column in (
        (left, height // 2, size),
        (right, height // 2, width - size),
        (top, size, width // 2),
        (bottom, height - size, width // 2),
    ):
        _write(picture, text, round(1.2 * size), row, column, 0.5, _WHITE)
    pixelMm = _pixelMm(sliceNode, width)
    bar = max((length for length in _BARS_MM if length <= _BAR_AT_MOST * width * pixelMm), default=_BARS_MM[0])
    room = width - size // 2
    start, end = room - round(bar / pixelMm), room
    row = height + size
    picture[row - 1 : row + 1, max(0, start) : end] = 255
    for column in (max(0, start), end - 2):
        picture[row - size // 3 : row + size // 3, column : column + 2] = 255
    _write(picture, f"{bar:g} mm", size, row, max(0, start) - size // 2, 1.0, _WHITE)
    for number, line in enumerate(lines):
        free = width - size if number else max(0, start) - 5 * size
        _write(picture, _fitting(line, size, free), size, height + size + round(1.5 * size) * number, size // 2, 0.0,
               _SOFT if number else _WHITE)  # fmt: skip
    return picture


def positionText(sliceNode: Any) -> str:
    """Where the slice lies along its normal, such as "S 20.0 mm" for 20 mm towards the head from the origin."""
    toRas = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    normal = toRas[:3, 2] / np.linalg.norm(toRas[:3, 2])
    offset = float(normal @ toRas[:3, 3])
    return _("{side} {distance:.1f} mm").format(side=_letters(normal if offset >= 0 else -normal), distance=abs(offset))


def edgeLetters(sliceNode: Any) -> tuple[str, str, str, str]:
    """Sides of the patient at the left, right, lower and upper edge; two or three letters in an oblique view."""
    toRas = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    across, up = toRas[:3, 0], toRas[:3, 1]
    return _letters(-across), _letters(across), _letters(-up), _letters(up)


def shownNames(composite: Any, scene: Any) -> list[str]:
    """Names of the volumes that a view shows, one line each: the lower one, and the one over it.

    Args:
        composite: node of the view.
        scene: where the volumes are.
    """
    lines = []
    for text, identifier in (
        (_("volume: {name}"), composite.GetBackgroundVolumeID()),
        (_("over it: {name}"), composite.GetForegroundVolumeID() if composite.GetForegroundOpacity() > 0 else None),
    ):
        node = scene.GetNodeByID(identifier) if identifier else None
        if node is not None:
            lines.append(text.format(name=" ".join(node.GetName().split())))
    return lines


def encoded(pixels: np.ndarray) -> bytes:
    """[H, W, 3] uint8 as the bytes of a PNG file."""
    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(pixels[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.WriteToMemoryOn()
    writer.SetInputData(image)
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()


def _letters(direction: np.ndarray) -> str:
    """The sides that a direction in RAS points to, the nearest first."""
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit))
    return "".join(("RAS" if unit[axis] > 0 else "LPI")[axis] for axis in order if abs(unit[axis]) > 0.25)


def _pixelMm(sliceNode: Any, width: int) -> float:
    return float(sliceNode.GetFieldOfView()[0]) / width


def _fitting(text: str, size: int, room: int) -> str:
    """As much of a text as fits into so many pixels."""
    while len(text) > 1 and _drawn(text, size).shape[1] > room:
        text = text[:-2].rstrip("…") + "…"
    return text


def _write(picture: np.ndarray, text: str, size: int, row: int, column: int, align: float, rgb: Sequence[int]) -> None:
    """Write a line of text around `row`; `align` 0 begins at `column`, 0.5 is centred there, 1 ends there."""
    shape = _drawn(text, size)
    top, left = row - shape.shape[0] // 2, round(column - align * shape.shape[1])
    top, left = max(0, top), max(0, left)
    for dy, dx, colour in ((1, 1, (0, 0, 0)), (0, 0, rgb)):  # a shadow, to be read on white
        part = picture[top + dy : top + dy + shape.shape[0], left + dx : left + dx + shape.shape[1]]
        share = shape[: part.shape[0], : part.shape[1], None]
        part[:] = np.round(part * (1 - share) + np.array(colour) * share).astype(np.uint8)


def _drawn(text: str, size: int) -> np.ndarray:
    """[H, W] how much of each pixel a line of text covers, 0..1; nothing for no text."""
    properties = vtk.vtkTextProperty()
    properties.SetFontSize(size)
    image, used = vtk.vtkImageData(), [0, 0]
    if not text or not vtk.vtkTextRenderer.GetInstance().RenderString(properties, text, image, used, _DPI, _FREETYPE):
        return np.zeros((1, 1))
    return _pixels(image)[: used[1], : used[0], 3][::-1] / 255.0


def _pixels(image: Any) -> np.ndarray:
    """[H, W, channels] of an image, the first row at the bottom."""
    width, height, _depth = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
