"""Small rigid or affine motions between images of one contrast, by least squares of their intensities.

The scheme of Friston et al. (1995) and Jenkinson et al. (2002): Gauss-Newton steps, here in the inverse compositional
form of Baker and Matthews (2004), whose derivatives are those of the reference and are found once for all images. A
gain between both images is found along with the motion. Coarse images first, so that motions of some voxels are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume, from_sitk, to_sitk
from SpikeRegLib.progress import Tick, unheard
from SpikeRegLib.space import sampling
from SpikeRegLib.space.matrix_logarithms import affine_exp

# Smoothing of both images at each level, in voxels of the largest axis.
_SIGMAS = (2.0, 0.8)
_MOST_POINTS = 80_000
# A level ends when no point of the anatomy moves farther than this in a step.
_SMALLEST_STEP_MM, _STEPS = 5e-4, 30
# Differences beyond so many of their usual size count less (Huber).
_HUBER = 1.5


def smoothed(volume: Volume, voxels: float) -> Volume:
    """An image after a Gaussian of so many voxels of its largest axis."""
    sigma = voxels * max(volume.frame.spacing)
    image = sitk.SmoothingRecursiveGaussian(to_sitk(volume), [sigma] * 3)
    return from_sitk(image, volume.name)


@dataclass(frozen=True)
class _Level:
    """The reference at one level: [N] intensities at [N, 3] points in mm, and [N, P] their derivatives."""

    points: torch.Tensor
    values: torch.Tensor
    slopes: torch.Tensor


class Reference:
    """An image that others are brought onto.

    Args:
        image: in its own intensities.
        mask: [D, H, W] bool, where it is compared.
        affine: look for twelve numbers instead of the six of a rigid motion.

    Raises:
        InputError: nothing in it changes from place to place.
    """

    def __init__(self, image: Volume, mask: torch.Tensor, *, affine: bool = False) -> None:
        index = mask.nonzero().flip(1).double().numpy()
        if len(index) < 100:
            raise InputError(f"{image.name or 'image'}: shows too little to be aligned; check it")
        self.centre = image.frame.to_mm(index).mean(0)
        self.radius = float(np.sqrt(((image.frame.to_mm(index) - self.centre) ** 2).sum(1).mean()))
        self._generators = _generators(self.centre, affine=affine)
        self._levels = [self._level(smoothed(image, voxels), mask) for voxels in _SIGMAS]

    def _level(self, image: Volume, mask: torch.Tensor) -> _Level:
        frame = image.frame
        index = torch.gradient(image.data)  # along k, j, i
        back = torch.from_numpy(frame.inverse_matrix[:3, :3]).float()
        gradient = torch.einsum("ai,adhw->idhw", back, torch.stack(index[::-1]))
        inner = torch.zeros_like(mask)
        inner[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
        places = inner.flatten().nonzero()[:, 0]
        places = places[:: max(1, len(places) // _MOST_POINTS)]
        _, height, width = frame.shape
        where = torch.stack((places % width, places // width % height, places // (width * height)), 1).double()
        points = torch.from_numpy(frame.to_mm(where.numpy()))
        slope = gradient.flatten(1)[:, places].double()
        moved = torch.einsum("pij,nj->npi", torch.from_numpy(self._generators[:, :3, :3]), points)
        moved = moved + torch.from_numpy(self._generators[:, :3, 3])
        return _Level(points, image.data.flatten()[places].double(), torch.einsum("npi,in->np", moved, slope))

    def find(self, image: Volume, start: np.ndarray | None = None, *, tick: Tick = unheard) -> tuple[np.ndarray, float]:
        """The motion of an image.

        Args:
            image: of the contrast of the reference.
            start: [4, 4] reference -> image, LPS mm; the identity if not given.
            tick: called between steps with the part that is done.

        Returns:
            [4, 4] reference -> image points, LPS mm; and the correlation of both at the finest level.
        """
        matrix = np.eye(4) if start is None else np.array(start, float)
        correlation = 0.0
        for number, (level, voxels) in enumerate(zip(self._levels, _SIGMAS, strict=True)):
            moving = smoothed(image, voxels)
            for step in range(_STEPS):
                tick((number + step / _STEPS) / len(_SIGMAS))
                update, correlation = self._step(level, moving, matrix)
                matrix = matrix @ affine_exp(-update)
                if _largest_mm(update, self.centre, self.radius) < _SMALLEST_STEP_MM:
                    break
        return matrix, correlation

    def _step(self, level: _Level, moving: Volume, matrix: np.ndarray) -> tuple[np.ndarray, float]:
        """[4, 4] the logarithm of the motion of the reference that would explain the difference; the correlation."""
        to_unit = torch.from_numpy(sampling.unit_matrix(moving.frame) @ matrix)
        unit = (level.points @ to_unit[:3, :3].t() + to_unit[:3, 3]).t()[:, None, None]
        seen = sampling.linear(moving.data[None], unit.float(), 0.0)[0, 0, 0].double()
        inside = ((unit[:, 0, 0] >= -1) & (unit[:, 0, 0] < 1)).all(0).double()
        total = inside.sum().clamp_min(1)
        ours, theirs = ((values * inside).sum() / total for values in (level.values, seen))
        ours, theirs = (level.values - ours) * inside, (seen - theirs) * inside
        power = (theirs * theirs).sum().clamp_min(1e-12)
        gain = (ours * theirs).sum() / power
        correlation = float(gain * (power / (ours * ours).sum().clamp_min(1e-12)).sqrt())
        difference = gain * theirs - ours
        usual = 1.4826 * difference[inside > 0].abs().median().clamp_min(1e-12) if bool(inside.any()) else 1.0
        weight = inside * (_HUBER * usual / difference.abs().clamp_min(1e-12)).clamp(max=1)
        slopes = torch.cat((level.slopes, level.values[:, None], torch.ones_like(level.values)[:, None]), 1)
        normal = slopes.t() @ (weight[:, None] * slopes)
        scale = normal.diagonal().clamp_min(1e-12).sqrt()
        solution = torch.linalg.lstsq(
            normal / scale / scale[:, None], ((slopes.t() @ (weight * difference)) / scale)[:, None], driver="gelsd"
        ).solution[:, 0]
        count = len(self._generators)
        numbers = (solution / scale)[:count].numpy()
        return np.einsum("p,pij->ij", numbers, self._generators), correlation


def parameters_of(matrix: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a rigid motion: [3] translation of `centre` in mm, and [3] angles in degrees about x, y and z (LPS).

    The rotation is first about x, then about y, then about z.
    """
    rotation = matrix[:3, :3]
    moved = matrix[:3, :3] @ centre + matrix[:3, 3] - centre
    about_y = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
    about_x = np.arctan2(rotation[2, 1], rotation[2, 2])
    about_z = np.arctan2(rotation[1, 0], rotation[0, 0])
    return moved, np.degrees([about_x, about_y, about_z])


def _largest_mm(update: np.ndarray, centre: np.ndarray, radius: float) -> float:
    shift = update[:3, :3] @ centre + update[:3, 3]
    return float(np.linalg.norm(shift) + radius * np.linalg.norm(update[:3, :3]))


def _generators(centre: np.ndarray, *, affine: bool) -> np.ndarray:
    """[P, 4, 4] what moves points: three translations, and rotations or all linear maps about `centre`."""
    found = []
    for axis in range(3):
        shift = np.zeros((4, 4))
        shift[axis, 3] = 1
        found.append(shift)
    for linear in _linear(affine=affine):
        turn = np.zeros((4, 4))
        turn[:3, :3] = linear
        turn[:3, 3] = -linear @ centre
        found.append(turn)
    return np.stack(found)


def _linear(*, affine: bool) -> Sequence[np.ndarray]:
    units = np.eye(9).reshape(9, 3, 3)
    if affine:
        return list(units)
    return [units[3 * b + a] - units[3 * a + b] for a, b in ((0, 1), (1, 2), (2, 0))]
