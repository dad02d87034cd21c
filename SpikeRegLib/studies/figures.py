"""The figures of a study: their names in files, headings, units, and whose definition each one follows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number of a pair, or of a label of it.

    Attributes:
        name: in JSON and CSV.
        title: in printed tables, with the unit.
        digits: after the point, where it is printed.
        definition: what is computed, and after whom.
    """

    name: str
    title: str
    digits: int
    definition: str


_OVERLAP = (
    "2 |A and B| / (|A| + |B|) of a label that the fixed and the moving map both have, moving labels by the nearest "
    "voxel; of a pair, the mean over its labels. As in Learn2Reg"
)
OF_LABELS = (
    Figure("dice", "Dice", 3, _OVERLAP),
    Figure("dice_before", "Dice before", 3, "the same without the transform: the headers alone align the maps"),
    Figure(
        "hd95_mm",
        "HD95 [mm]",
        2,
        "SpikeReg: larger of the two directed 95th percentiles of distances between surface voxels, in mm; without "
        "labels that the warped map has lost",
    ),
    Figure(
        "learn2reg_hd95_voxels",
        "HD95 Learn2Reg [voxels]",
        2,
        "Learn2Reg: the same between surface corners weighted by area, in voxels; infinite where a label is lost",
    ),
)
OF_PAIRS = (
    Figure("tre_mm", "TRE [mm]", 2, "SpikeReg: mean of |T(f) - m| over the landmarks of a pair, in patient space"),
    Figure("tre_before_mm", "TRE before [mm]", 2, "mean of |f - m|: the headers alone align the images"),
    Figure(
        "learn2reg_tre_mm",
        "TRE Learn2Reg [mm]",
        2,
        "Learn2Reg: the field read by a cubic spline between voxels, 0 outside; lengths by the moving spacing",
    ),
    Figure("folding_percent", "folds [%]", 4, "SpikeReg: share of det <= 0, without the outermost voxels of the grid"),
    Figure(
        "sdlogj",
        "SDlogJ",
        3,
        "SpikeReg: standard deviation of log(max(det, 1e-3)) inside the fixed labels (everywhere without them), "
        "without the outermost voxels",
    ),
    Figure(
        "learn2reg_sdlogj",
        "SDlogJ Learn2Reg",
        3,
        "Learn2Reg: standard deviation of log(clip(det + 3, 1e-9, 1e9)) over the grid, or its mask, without the two "
        "outermost voxels; det of the field in voxels",
    ),
)
FIGURES = {figure.name: figure for figure in (*OF_LABELS, *OF_PAIRS)}
