"""How far the files of a registration are, as SimpleITK reads them, from the map that a phantom was drawn with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from SpikeRegLib.commissioning.phantoms import Phantom, anatomy_mm

POINTS = 20_000
# AAPM TG-132 (Brock et al. 2017): of digital phantoms, half a voxel where nothing is deformed; where something is, 95 %
# within 2 mm and nothing beyond 5 mm.
VOXELS, WITHIN_MM, AT_MOST_MM, SHARE = 0.5, 2.0, 5.0, 95.0


def measured(phantom: Phantom, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The figures of one phantom.

    Args:
        phantom: that was registered.
        folder: with transform.h5 and inverse_transform.h5 of that registration.
        result: its result.json.

    Returns:
        kind; moved_mean_mm, moved_max_mm; error_mean_mm, error_p95_mm, error_max_mm and within_2_mm_percent of the map
        fixed -> moving, in the fixed image; inverse_error_mean_mm and inverse_error_p95_mm of the other map, by itself;
        predicted_mean_mm and predicted_p95_mm, what the result said of itself; folding_percent; verdict; tolerance, in
        words; passed.
    """
    random = np.random.default_rng(0)
    forward, inverse = (sitk.ReadTransform(str(folder / f"{name}.h5")) for name in ("transform", "inverse_transform"))
    fixed, moving = (_some(anatomy_mm(image), random) for image in (phantom.fixed, phantom.moving))
    error = np.linalg.norm(_mapped(phantom.drawn, _mapped(forward, fixed)) - fixed, axis=1)
    true = _mapped(phantom.drawn, moving)
    back = np.linalg.norm(_mapped(inverse, moving) - true, axis=1)
    moved = np.linalg.norm(true - moving, axis=1)
    predicted = result.get("predicted_error") or {}
    figures = {
        "kind": phantom.kind,
        "moved_mean_mm": float(moved.mean()), "moved_max_mm": float(moved.max()),
        "error_mean_mm": float(error.mean()), "error_p95_mm": float(np.percentile(error, 95)),
        "error_max_mm": float(error.max()), "within_2_mm_percent": 100 * float((error <= WITHIN_MM).mean()),
        "inverse_error_mean_mm": float(back.mean()), "inverse_error_p95_mm": float(np.percentile(back, 95)),
        "predicted_mean_mm": predicted.get("mean_mm"), "predicted_p95_mm": predicted.get("p95_mm"),
        "folding_percent": result["deformation"]["folding_percent"],
        "verdict": result["verdict"]["level"],
    }  # fmt: skip
    return {**figures, **_judged(figures, max(phantom.fixed.GetSpacing()))}


def _judged(figures: dict[str, Any], voxel_mm: float) -> dict[str, Any]:
    if figures["kind"] in ("rigid", "affine"):
        limit = VOXELS * voxel_mm
        return {
            "tolerance": f"mean and 95th percentile within half a voxel ({limit:.2f} mm)",
            "passed": bool(max(figures["error_mean_mm"], figures["error_p95_mm"]) <= limit),
        }
    return {
        "tolerance": f"{SHARE:.0f} % within {WITHIN_MM:g} mm, none beyond {AT_MOST_MM:g} mm",
        "passed": bool(figures["within_2_mm_percent"] >= SHARE and figures["error_max_mm"] <= AT_MOST_MM),
    }


def _some(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return points[random.permutation(len(points))[:POINTS]]


def _mapped(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in points.tolist()])
