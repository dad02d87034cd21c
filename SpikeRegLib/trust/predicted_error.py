"""The map of expected errors on the grid of the fixed image, and its figures for result.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.similarity.pair import Deformation, Pair
from SpikeRegLib.space.transforms import AffineTransform, warp_image
from SpikeRegLib.trust.calibration import Expected, prepared, shipped_calibration
from SpikeRegLib.trust.evidence import NOMINAL_MM, evidence_of, known_to, mean_over

# AAPM TG-132 (Brock et al. 2017): 2 mm on average, 5 mm at most.
TOLERANCES_MM = (2.0, 5.0)
# Places that are worth a look: so many, so far apart, in voxels of the grid that is judged.
_WORST, _APART = 5, 8
# The volume of a place: around its peak, all that reaches this share of it.
_PEAK_SHARE = 0.8
# How far the voxels may be from those of the calibration for the figures to be more than a ranking.
_CALIBRATED_MM = 0.5
# Standard deviation, in the same voxels, of the mean over a region; of a brain some 2 cm are then seen as one.
_REGION = 4.5


@dataclass(frozen=True)
class PredictedError:
    """Expected errors of a deformation.

    Attributes:
        frame: of the maps, that of the judged pair.
        anatomy: [D, H, W] bool, the mask of the pair.
        known: [D, H, W] bool, where both images are known.
        expected: in mm on that frame.
    """

    frame: Frame
    anatomy: torch.Tensor
    known: torch.Tensor
    expected: Expected

    @property
    def mask(self) -> torch.Tensor:
        """[D, H, W] bool, where anything is expected."""
        return self.anatomy & self.known

    def on(self, frame: Frame, mask: torch.Tensor) -> Volume:
        """The expected error in mm on the grid of the fixed image; NaN where it is not known and outside `mask`."""
        same = AffineTransform.identity()
        error = warp_image(Volume(self.expected.error_mm, self.frame), same, frame).data
        known = warp_image(Volume(self.known.to(torch.uint8), self.frame), same, frame, interpolation="nearest").data
        return Volume(torch.where(mask & (known > 0), error, torch.nan), frame, "predicted error")


def predict_error(pair: Pair, deformation: Deformation) -> PredictedError:
    """What is expected of a deformation, from the images alone.

    Args:
        pair: images on the coarser working grid (2 mm for a brain).
        deformation: fixed -> aligned moving.
    """
    calibration = shipped_calibration()
    expected = calibration.expected(prepared(evidence_of(pair, deformation)), pair.grid.spacing_mm)
    return PredictedError(pair.frame, pair.mask, known_to(pair, deformation), expected)


def error_facts(found: PredictedError, structures: Volume | None, names: dict[int, str]) -> dict[str, Any] | None:
    """`predicted_error` of result.json; None where nothing is compared.

    Args:
        found: of a run.
        structures: labels of the fixed image, where they were found; on any grid.
        names: of the labels.

    Returns:
        mean_mm, p95_mm, max_mm; above_2_mm_percent and above_5_mm_percent of the mask; bound_90_mean_mm, the mean of
        what nine of ten errors stay below; worst_region_mm, the highest mean over about 2 cm, and worst_region_at_mm,
        [x, y, z] (LPS mm) of its middle; worst: places [x, y, z] (LPS mm) with the error there and the volume around
        that comes near it, worst first; structures: label -> name, mean_mm, p95_mm; calibrated,
        whether the voxels are those of the calibration, else the verdict does not go by it; calibrated_on, in words.
    """
    error, bound = (values[found.mask].double().numpy() for values in found.expected)
    if not error.size:
        return None
    return {
        **_figures(error),
        "max_mm": float(error.max()),
        **{f"above_{limit:g}_mm_percent": 100 * float((error > limit).mean()) for limit in TOLERANCES_MM},
        "bound_90_mean_mm": float(bound.mean()),
        **_worst_region(found),
        "worst": worst_places(found),
        "structures": None if structures is None else _by_structure(found, structures, names),
        "calibrated": abs(found.frame.spacing[0] - NOMINAL_MM) <= _CALIBRATED_MM,
        "calibrated_on": shipped_calibration().made_of,
    }


def _worst_region(found: PredictedError) -> dict[str, Any]:
    region = torch.where(found.mask, mean_over(found.mask, _REGION)(found.expected.error_mm), -1.0)
    index, place_mm = _highest(region, found.frame)
    return {"worst_region_mm": float(region[index]), "worst_region_at_mm": place_mm}


def _highest(values: torch.Tensor, frame: Frame) -> tuple[tuple[Any, ...], list[float]]:
    """Index (k, j, i) of the largest of values [D, H, W], and its place in LPS mm."""
    index = np.unravel_index(int(values.argmax()), tuple(values.shape))
    place: list[float] = frame.to_mm(np.array(index[::-1])).tolist()
    return index, place


def worst_places(found: PredictedError) -> list[dict[str, Any]]:
    """The places where the expected error is highest, apart from each other."""
    error = torch.where(found.mask, found.expected.error_mm, 0.0)
    left = error.clone()
    voxel_ml = float(np.prod(found.frame.spacing)) / 1000
    places = []
    for _ in range(_WORST):
        index, place_mm = _highest(left, found.frame)
        peak = float(left[index])
        if peak <= 0:
            break
        around = _around(error > _PEAK_SHARE * peak, index)
        places.append({"place_mm": place_mm, "mm": peak, "ml": float(around.sum()) * voxel_ml})
        left[tuple(slice(max(0, n - _APART), n + _APART + 1) for n in index)] = 0.0
        left[torch.from_numpy(around)] = 0.0
    return places


def _around(high: torch.Tensor, index: tuple[Any, ...]) -> np.ndarray:
    """Voxels that hang together with the one at `index`."""
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(high.numpy().astype(np.uint8))))
    own: np.ndarray = parts == parts[index]
    return own


def _figures(error: np.ndarray) -> dict[str, float]:
    return {"mean_mm": float(error.mean()), "p95_mm": float(np.percentile(error, 95))}


def _by_structure(found: PredictedError, structures: Volume, names: dict[int, str]) -> dict[str, dict[str, Any]]:
    labels = warp_image(structures, AffineTransform.identity(), found.frame, interpolation="nearest").data
    table = {}
    for label, name in names.items():
        inside = (labels == label) & found.mask
        if bool(inside.any()):
            table[str(label)] = {"name": name, **_figures(found.expected.error_mm[inside].double().numpy())}
    return table
