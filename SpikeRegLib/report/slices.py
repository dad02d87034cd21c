"""The part of the report to look at: slices, differences, checkerboard, outlines, deformation grid, Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from SpikeRegLib.images.volumes import background_value
from SpikeRegLib.report import pictures
from SpikeRegLib.report.colours import DIVERGING, FOLD, SEQUENTIAL
from SpikeRegLib.report.elements import colour_bar, panel, picture, section
from SpikeRegLib.report.planes import Plane, affine_part, deformed_coordinates, slice_of

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.registration import Registration


def slices_part(registration: Registration, planes: list[Plane]) -> str:
    """Sections "Before and after", "Agreement" and "Deformation"."""
    affine = affine_part(registration.transform)
    fixed_window = pictures.intensity_window(registration.fixed)
    moving_window = pictures.intensity_window(registration.moving)
    air = [background_value(image) for image in (registration.fixed, registration.moving)]
    air.append(registration.result.get("background", air[1]))
    rows, checks, outlines, grids, jacobians = [], [], [], [], []
    for n, plane in enumerate(planes):
        pixel = plane.frame.spacing[0]
        fixed = pictures.unit(slice_of(registration.fixed, plane, outside=air[0]), fixed_window)
        moving = pictures.unit(slice_of(registration.moving, plane, affine, outside=air[1]), moving_window)
        warped = pictures.unit(slice_of(registration.warped, plane, outside=air[2]), moving_window)
        for image, name in ((fixed, "fixed"), (moving, "moving"), (warped, "warped")):
            rows.append(picture(pictures.grey(image), plane, name, ruler=n == 0 and name == "fixed"))
        for image, name in ((moving, "difference before"), (warped, "difference after")):
            rows.append(picture(pictures.grey(np.abs(image - fixed)), plane, name, palette=SEQUENTIAL))
        checks.append(picture(pictures.grey(pictures.checkerboard(fixed, warped, pixel)), plane, "checkerboard"))
        if registration.fixed_labels is not None and registration.warped_labels is not None:
            labels = [slice_of(v, plane, nearest=True) for v in (registration.fixed_labels, registration.warped_labels)]
            outlines.append(picture(pictures.outlines_over(fixed, *labels), plane, "label outlines"))
        determinant = slice_of(registration.jacobian, plane, outside=np.nan)
        coordinates = deformed_coordinates(registration.transform, plane)
        coordinates[:, np.isnan(determinant)] = np.nan  # beyond the fixed image there is nothing to show
        grids.append(picture(pictures.grid_over(warped, coordinates, pixel), plane, "deformation grid"))
        jacobians.append(picture(pictures.jacobian_picture(determinant), plane, "Jacobian", light=True))

    names = [plane.name.capitalize() for plane in planes]
    shown = "Three planes through the centre of the anatomy, in the patient's axes and in proportion"
    agreement = [panel([f"Checkerboard, {name.lower()}" for name in names], checks)]
    if outlines:
        agreement.append(panel([f"Label outlines, {name.lower()}" for name in names], outlines))
    return "".join(
        (
            section(
                "Before and after",
                panel(["Fixed", "Moving, affine only", "Warped", "Difference before", "Difference after"], rows),
                note=f"{shown}; radiological convention, the patient's right (R) is on the left. Differences are "
                "absolute, between images scaled to [0, 1]: black is none. They mean little between contrasts.",
            ),
            section(
                "Agreement",
                *agreement,
                note=f"Checkerboard: fixed and warped by turns, {pictures.CHECK_STEP_MM:g} mm; edges should run on."
                + (" Outlines: fixed labels turquoise, warped labels orange, on the fixed image." if outlines else ""),
            ),
            section(
                "Deformation",
                panel([f"Grid, {name.lower()}" for name in names], grids),
                panel([f"Jacobian, {name.lower()}" for name in names], jacobians),
                _jacobian_bar(),
                note=f"Grid: the moving image's {pictures.GRID_STEP_MM:g} mm grid after the affine part, under "
                "the same warp as the image. Jacobian: local change of volume, 1 keeps it.",
            ),
        )
    )


def _jacobian_bar() -> str:
    limit = pictures.JACOBIAN_LIMIT
    ticks = [(0.5 + 0.5 * np.log(value) / np.log(limit), text) for value, text in
             ((1 / limit, "1/3"), (0.5, "1/2"), (1.0, "1"), (2.0, "2"), (limit, "3"))]  # fmt: skip
    fold = "rgb({},{},{})".format(*FOLD)
    return colour_bar(DIVERGING, ticks, "Jacobian determinant", (fold, "fold (≤ 0)"))
