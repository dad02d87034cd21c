"""Where the structures of heads lie relative to each other: what says that something is a head, and how it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from SpikeRegLib.anatomy.structures import CLASSES
from SpikeRegLib.images.frames import Frame

# Of a robust fit: how often weights are renewed, and the distance in mm beyond which a structure counts little.
_ROUNDS, _FAR_MM = 12, 6.0
# The similarity that an affine map is drawn to: how far from the middle it acts, and its share of all weight.
_AROUND_MM, _AROUND_SHARE = 30.0, 0.05
# What a structure counts of which an image shows a part: it says something where there is little else.
_CUT_WORTH = 0.02
# Structures that a fit needs at least: an affine map has twelve numbers, and some may be wrong.
LEAST = 8


@dataclass(frozen=True)
class Places:
    """The structures of one head.

    Attributes:
        centres: [classes, 3] LPS mm, means of the maps; NaN where there is too little of a structure.
        volumes_ml: [classes].
        cut: [classes] bool, whose centre is that of a part, see `cut.cut_structures`; None for none.
    """

    centres: np.ndarray
    volumes_ml: np.ndarray
    cut: np.ndarray | None = None

    @property
    def there(self) -> np.ndarray:
        """[classes] bool: which have a centre; never class 0, which is not brain."""
        return np.isfinite(self.centres).all(1)


def places(probabilities: torch.Tensor, frame: Frame, *, least_ml: float = 0.1) -> Places:
    """Centre and volume of every structure.

    Args:
        probabilities: [classes, D, H, W] soft or hard maps.
        frame: of the maps.
        least_ml: volume below which a structure has no centre.
    """
    rows, planes = probabilities.sum(3).double(), probabilities.sum((1, 2)).double()
    columns, slices, sums = rows.sum(1), rows.sum(2), planes.sum(1)
    index = torch.stack([along @ torch.arange(along.shape[1]).double() for along in (planes, columns, slices)], 1)
    centres = frame.to_mm((index / sums.clamp_min(1e-9)[:, None]).numpy())
    volumes = sums.numpy() * float(np.prod(frame.spacing)) / 1000
    centres[volumes < least_ml] = np.nan
    centres[0] = np.nan
    return Places(centres, volumes)


@dataclass(frozen=True)
class Fit:
    """A robust affine map of one set of places to another.

    Attributes:
        matrix: [4, 4] LPS mm, source -> target.
        off_mm: [classes] how far every structure lies from where the map puts it; NaN where either is missing.
        used: how many structures there are in both.
    """

    matrix: np.ndarray
    off_mm: np.ndarray
    used: int


def fit_affine(source: Places, target: Places, *, rigid: bool = False) -> Fit | None:
    """The affine map that takes the centres of `source` to those of `target`; None if there are too few.

    Weighted least squares, with weights that fall where a structure lies far from where the map puts it (Geman and
    McClure), so that a few that were named wrongly do not count. `rigid` allows one size for all axes and no shear.
    """
    both = source.there & target.there
    if int(both.sum()) < LEAST:
        return None
    a, b = source.centres[both], target.centres[both]
    # Of equal worth, but for structures of a few voxels.
    worth = np.sqrt(np.minimum(source.volumes_ml[both], target.volumes_ml[both]).clip(0.05, 2.0))
    for head in (source, target):
        if head.cut is not None:
            worth = np.where(head.cut[both], _CUT_WORTH * worth, worth)
    weight = worth
    matrix = np.eye(4)
    for _ in range(_ROUNDS):
        matrix = _similarity(a, b, weight) if rigid else _affine(a, b, weight)
        off = np.linalg.norm(a @ matrix[:3, :3].T + matrix[:3, 3] - b, axis=1)
        scale = max(_FAR_MM, 1.5 * float(np.median(off)))
        weight = worth / (1 + (off / scale) ** 2) ** 2
    off_mm = np.full(len(both), np.nan)
    off_mm[both] = off
    return Fit(matrix, off_mm, int(both.sum()))


def _affine(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Least squares, drawn a little towards the similarity: centres say little about shear."""
    near = _similarity(a, b, weight)
    # As if a few more structures lay around the middle, where the similarity puts them.
    around = np.average(a, axis=0, weights=weight) + _AROUND_MM * np.r_[np.eye(3), -np.eye(3)]
    put = around @ near[:3, :3].T + near[:3, 3]
    root = np.sqrt(np.r_[weight, np.full(6, _AROUND_SHARE * weight.sum() / 6)])[:, None]
    points = np.r_[np.c_[a, np.ones(len(a))], np.c_[around, np.ones(6)]]
    solution = np.linalg.lstsq(root * points, root * np.r_[b, put], rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3] = solution.T
    return matrix


def _similarity(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rotation, one scale and translation of least squares (Umeyama 1991); never a reflection."""
    share = (weight / weight.sum())[:, None]
    from_, to = (share * a).sum(0), (share * b).sum(0)
    x, y = a - from_, b - to
    u, s, vt = np.linalg.svd((share * y).T @ x)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = float(np.trace(np.diag(s) @ sign) / (share * x**2).sum())
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = to - scale * rotation @ from_
    return matrix


@dataclass(frozen=True)
class Layout:
    """How heads are built, learnt from label maps: what a model file has in its facts.

    Attributes:
        places: mean centres, around the middle of the brain, and mean volumes.
        spread_mm: [classes] how far structures usually lie from where a fit to the layout puts them.
    """

    places: Places
    spread_mm: np.ndarray

    @staticmethod
    def of(heads: list[Places]) -> Layout:
        """The mean of heads that show every structure, each brought onto the first by a similarity."""
        first, brought = heads[0], []
        for head in heads:
            fit = fit_affine(head, first, rigid=True)
            assert fit is not None
            brought.append(head.centres @ fit.matrix[:3, :3].T + fit.matrix[:3, 3])
        centres = np.mean(brought, 0)
        centres -= np.nanmean(centres, 0)
        mean = Places(centres, np.mean([head.volumes_ml for head in heads], 0))
        off = [fit.off_mm for head in heads if (fit := fit_affine(mean, head)) is not None]
        return Layout(mean, np.sqrt(np.mean(np.square(off), 0)))

    def to_json(self) -> dict[str, Any]:
        """As it stands in the facts of a model."""
        rows = zip(self.places.centres[1:], self.places.volumes_ml[1:], self.spread_mm[1:], strict=True)
        return {"rows": [[round(float(n), 3) for n in (*centre, volume, spread)] for centre, volume, spread in rows]}

    @staticmethod
    def from_json(facts: Any) -> Layout:
        """What `to_json` gave.

        Raises:
            ValueError: something else.
        """
        try:
            rows = np.array(facts["rows"], float)
            if rows.shape != (CLASSES - 1, 5) or not np.isfinite(rows).all():
                raise ValueError(f"{rows.shape} numbers")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no layout of {CLASSES - 1} structures ({error})") from error
        nothing = np.full((1, 5), np.nan)
        rows = np.r_[nothing, rows]
        return Layout(Places(rows[:, :3], rows[:, 3]), rows[:, 4])
