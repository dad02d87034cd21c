"""Whether a header's size and place can be right: units, sizes that no patient has, and NIfTI's two orientations."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.headers import Header, NiftiForms

# Refused: voxels finer than any scanner's, and what no scanner holds. Doubted: smaller than a mouse's head, or longer
# than a patient.
_FINEST_MM, _LONGEST_MM = 1e-4, 10_000.0
_SMALL_MM, _LONG_MM = 5.0, 2_500.0
_AGREE_VOXELS = 0.1
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def in_mm(frame: Frame, header: Header) -> Frame:
    """The frame that ITK read, in mm where the header measures in another unit.

    Of NIfTI, ITK brings the spacing to mm, and the origin from its version 5.4 on; of other formats neither.
    """
    unit = header.unit_mm
    if unit == 1.0:
        return frame
    x, y, z = frame.origin
    moved = replace(frame, origin=(x * unit, y * unit, z * unit))
    if header.forms is None:
        a, b, c = frame.spacing
        return replace(moved, spacing=(a * unit, b * unit, c * unit))
    stored = [_LPS[:3, :3] @ form[:3, 3] for form in _given(header.forms).values()]
    return moved if any(np.allclose(frame.origin, origin, rtol=1e-4) for origin in stored) else frame


def check_size(frame: Frame, where: str | os.PathLike[str]) -> None:
    """Refuse a size that no image of a patient or specimen has.

    Raises:
        InputError: names the voxel size.
    """
    if min(frame.spacing) < _FINEST_MM or _longest(frame) > _LONGEST_MM:
        raise InputError(
            f"{where}: voxels of {_times(frame.spacing)} mm, {_longest(frame):g} mm at the longest side; "
            "repair the header's voxel size or unit"
        )


def size_warnings(frame: Frame, where: str | os.PathLike[str]) -> tuple[str, ...]:
    """A warning of a size that few have."""
    if _SMALL_MM <= _longest(frame) <= _LONG_MM:
        return ()
    return (
        f"{where}: the longest side of the image is {_longest(frame):.3g} mm by its header; "
        "check the voxel size and its unit",
    )


def form_warnings(frame: Frame, forms: NiftiForms | None, unit_mm: float, where: str) -> tuple[str, ...]:
    """A warning where a NIfTI header contradicts itself about where the voxels lie, or is silent.

    Which of the two orientations ITK takes depends on their codes and its version: here it is seen from the result.

    Args:
        frame: as ITK read it, in mm.
        forms: of the header; None for other formats.
        unit_mm: of the header.
        where: the file's name.
    """
    if forms is None:
        return ()
    given = _given(forms)
    if not given:
        return (
            f"{where}: the header says nothing of orientation (sform and qform have code 0); the voxel axes were "
            "taken as left, posterior and superior; check left and right",
        )
    scale = np.diag([unit_mm, unit_mm, unit_mm, 1.0])
    matrices = {name: scale @ _LPS @ form for name, form in given.items()}
    apart = {name: _apart(matrix, frame) for name, matrix in matrices.items()}
    taken = min(apart, key=apart.__getitem__)
    off = [name for name, distance in apart.items() if distance > _AGREE_VOXELS * min(frame.spacing)]
    if not off:
        return ()
    if off == [taken] or len(given) == 1:
        sizes = np.linalg.norm(matrices[taken][:3, :3], axis=0)
        return (
            f"{where}: the {taken} has voxels of {_times(sizes)} mm, pixdim of {_times(frame.spacing)} mm; pixdim's "
            "were taken; check which is right",
        )
    (other,) = set(given) - {taken}
    return (
        f"{where}: sform (code {forms.codes[0]}) and qform (code {forms.codes[1]}) contradict each other; the {taken} "
        f"was taken, the {other} puts the image up to {apart[other]:.3g} mm elsewhere"
        f"{_turned(frame.matrix, matrices[other])}; check which is right",
    )


def _given(forms: NiftiForms) -> dict[str, np.ndarray]:
    pairs = (("sform", forms.sform), ("qform", forms.qform))
    return {name: form for name, form in pairs if form is not None and np.isfinite(form).all()}


def _apart(matrix: np.ndarray, frame: Frame) -> float:
    """The most that a corner voxel lies elsewhere by another matrix, mm."""
    corners = np.c_[frame.corners(), np.ones(8)]
    elsewhere = corners @ np.linalg.inv(frame.matrix).T @ matrix.T
    return float(np.linalg.norm((elsewhere - corners)[:, :3], axis=1).max())


def _turned(first: np.ndarray, second: np.ndarray) -> str:
    axes = [matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (first, second)]
    turn = axes[1] @ np.linalg.inv(axes[0])
    if np.linalg.det(turn) < 0:
        return ", mirrored"
    angle = math.degrees(math.acos(min(1.0, max(-1.0, (float(np.trace(turn)) - 1) / 2))))
    return f", turned by {angle:.3g} degrees" if angle >= 0.1 else ""


def _longest(frame: Frame) -> float:
    return max(n * s for n, s in zip(frame.size, frame.spacing, strict=True))


def _times(numbers: np.ndarray | tuple[float, ...]) -> str:
    return " x ".join(f"{float(number):.4g}" for number in numbers)
