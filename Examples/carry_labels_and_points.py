"""Apply a transform to labels and points.

    python Examples/carry_labels_and_points.py [--out FOLDER] [--preset P] [--iterations N]

The bundled pair is registered and written to FOLDER. Then its transform is read from there, as a later program would,
and brings the moving segmentation and the moving landmarks onto the fixed image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundled import FIXED, FIXED_LABELS, MOVING, MOVING_LABELS, centres

from SpikeRegLib import (
    read_image,
    read_labels,
    read_transform,
    register,
    warp_image,
    write_outputs,
    write_points,
    write_volume,
)
from SpikeRegLib.quality.metrics import dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("carried"), metavar="FOLDER")
    parser.add_argument("--preset", default="brain-t1")
    parser.add_argument("--iterations", type=int, help="of the optimisation, per level (default: the preset's)")
    options = parser.parse_args()
    folder = options.out / "registration"
    write_outputs(register(FIXED, MOVING, preset=options.preset, refine_iterations=options.iterations), folder)

    transform = read_transform(folder / "transform.h5")  # maps fixed points to moving points

    # An image or a segmentation is resampled on the fixed grid with the transform as it is.
    grid = read_image(FIXED).frame
    carried = warp_image(read_labels(MOVING_LABELS), transform, grid, interpolation="nearest")
    write_volume(carried, options.out / "labels.nii.gz")

    # Points go from the moving to the fixed image, which is the inverse.
    fixed_points, moving_points = centres(FIXED_LABELS), centres(MOVING_LABELS)
    points = transform.inverse().map_points(moving_points)
    write_points(points, options.out / "points.mrk.json")

    overlap = dice(read_labels(FIXED_LABELS), carried)
    print(f"mean Dice of {len(overlap)} labels: {sum(overlap.values()) / len(overlap):.3f}")
    print(f"mean distance of {len(points)} landmarks: {(points - fixed_points).norm(dim=1).mean():.2f} mm")
    print(f"written: {options.out / 'labels.nii.gz'}, {options.out / 'points.mrk.json'}")


if __name__ == "__main__":
    main()
