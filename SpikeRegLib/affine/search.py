"""The start of an alignment: every orientation is tried, the promising ones are refined, the best goes on."""

from __future__ import annotations

import math

import numpy as np

from SpikeRegLib.affine import steps
from SpikeRegLib.affine.alignment_images import AlignmentImages
from SpikeRegLib.affine.matrices import angle_between, homogeneous
from SpikeRegLib.progress import Listener, Progress, part_of_stage

_ROTATIONS = 600  # 20 degrees apart on average
_STARTS = 7  # that are refined on blurred images
_FINALISTS = 4  # that are refined on local contrast, at most


def search(images: AlignmentImages, header: np.ndarray, listener: Listener) -> np.ndarray:
    """The best rigid start: headers, centres of the foreground, and rotations about them all over the sphere."""
    directions = (-0.4, 0.0, 0.4)
    shifts = np.array([[x, y, z] for x in directions for y in directions for z in (-0.8, *directions, 0.8)])
    rotations = [np.eye(3), *(_rotation(q) for q in _quaternions(_ROTATIONS // (5 if images.nested else 1)))]
    scored: list[tuple[float, np.ndarray]] = []
    for number, rotation in enumerate(rotations):
        if number % 20 == 0:
            listener(Progress("align", 0.2 + 0.1 * number / len(rotations), "searching the orientation"))
        scored.append(_best_shift(images, homogeneous(rotation), shifts if images.nested else shifts[:0]))
    # The first two are what the headers suggest: the position they give, and their orientation about the centres.
    chosen = [header, scored[0][1]]
    for _, matrix in sorted(scored, key=lambda item: -item[0]):
        if len(chosen) < _STARTS and all(angle_between(matrix, other) > 25 for other in chosen[1:]):
            chosen.append(matrix)
    coarse: list[tuple[float, np.ndarray]] = []
    for number, matrix in enumerate(chosen):
        _, best = _best_shift(images, matrix, shifts if number else shifts[:0])
        heard = part_of_stage(listener, 0.3 + 0.1 * number / len(chosen), 0.3 + 0.1 * (number + 1) / len(chosen))
        found = steps.optimise(images, best, "rigid", "blurred", heard)
        best = best if isinstance(found, str) else found
        # Of two starts that are as good as equal, the one that the headers suggest.
        coarse.append((images.quick_similarity(best) * (1.02 if number < 2 else 1.0), best))
    # The better of the two that the headers suggest goes on in any case: blurred outlines alone can mislead.
    suggested = max(coarse[:2], key=lambda item: item[0])
    ranked = [suggested, *sorted(coarse, key=lambda item: -item[0])]
    fine: list[tuple[float, np.ndarray]] = []
    distinct: list[np.ndarray] = []
    for score, matrix in ranked:
        if len(distinct) == _FINALISTS:
            break
        near = any(angle_between(matrix, d) < 10 and np.abs(matrix - d)[:3, 3].max() < 0.2 for d in distinct)
        if near or (distinct and score < 0.5 * ranked[1][0]):
            continue
        distinct.append(matrix)
        heard = part_of_stage(listener, 0.4 + 0.1 * len(fine) / _FINALISTS, 0.4 + 0.1 * (len(fine) + 1) / _FINALISTS)
        found = steps.optimise(images, matrix, "rigid", "mutual information", heard)
        best = matrix if isinstance(found, str) else found
        fine.append((images.similarity(best, "mutual information"), best))
    return max(fine, key=lambda item: item[0])[1]


def _best_shift(images: AlignmentImages, matrix: np.ndarray, shifts: np.ndarray) -> tuple[float, np.ndarray]:
    """`matrix`, moved by the best of the shifts or not at all, with its quick similarity."""
    shifted = [matrix, *(homogeneous(matrix[:3, :3], matrix[:3, 3] + s) for s in shifts)]
    scores = [images.quick_similarity(m) for m in shifted]
    best = int(np.argmax(scores))
    return scores[best], shifted[best]


def _quaternions(count: int) -> np.ndarray:
    """[count, 4] unit quaternions spread evenly over the rotations (super-Fibonacci spiral, Alexa 2022)."""
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    a, b = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    return np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], 1)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
