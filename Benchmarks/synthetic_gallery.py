"""Draw synthetic training pairs as the training draws them: Docs/synthetic-pairs.png.

    python Benchmarks/synthetic_gallery.py [--recipe brain-t1-cortex] [--labels DIR] [--seed N] [--count 12]
                                           [--out FILE.png]

Two columns, pairs number 0, 1, 2... of the recipe's stream and of the same one with two contrasts in every pair, none
picked by hand: an axial slice above the middle and the middle coronal slice of the fixed and of the moving image, as
they are drawn, before a network is shown both in one contrast. Label maps are looked for in SPIKEREG_DATA/train
(default: ../shared/data/train beside the repository).
"""

from __future__ import annotations

import argparse
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from PIL import Image

from SpikeRegLib.training.config import load_config
from SpikeRegLib.training.recipe import find_label_maps
from SpikeRegLib.training.subjects import load_subjects
from SpikeRegLib.training.synthetic import DrawnHead, PairGenerator

REPOSITORY = Path(__file__).resolve().parents[1]
INCHES, DOTS = 1.12, 140  # of one slice, per inch
AXIAL_HEIGHT = 0.58  # of the grid: through the basal ganglia and the lateral ventricles


def slices(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """An axial slice, front up, and the middle coronal one, head up; patient right on the left.

    Args:
        image: [D, H, W], axes towards patient head, back and left.
    """
    data = image.numpy()
    depth, height, _ = data.shape
    return data[round(AXIAL_HEIGHT * depth)], data[::-1, height // 2]


def draw(columns: dict[str, list[tuple[DrawnHead, DrawnHead]]]) -> bytes:
    """A labelled grid as PNG, one column of pairs for each title."""
    rows = max(len(pairs) for pairs in columns.values())
    size = (4 * len(columns) * INCHES, rows * 1.2 * INCHES + 0.45)
    figure, axes = pyplot.subplots(rows, 4 * len(columns), figsize=size, squeeze=False, facecolor="black")
    top = 1 - 0.45 / size[1]
    figure.subplots_adjust(left=0.004, right=0.996, bottom=0.002, top=top, wspace=0.02, hspace=0.01)
    for axis in axes.flat:
        axis.axis("off")
        axis.set_anchor("N")
    for column, (title, pairs) in enumerate(columns.items()):
        figure.text((column + 0.5) / len(columns), 1 - 0.14 / size[1], title, color="white", fontsize=9, ha="center")
        for offset, plane in ((1, "axial"), (3, "coronal")):
            place = ((column + offset / 4) / len(columns), 1 - 0.33 / size[1])
            figure.text(*place, plane, color="0.75", fontsize=7.5, ha="center")
        for row, (fixed, moving) in enumerate(pairs):
            (axial, coronal), (moving_axial, moving_coronal) = slices(fixed.image), slices(moving.image)
            cells = axes[row, 4 * column : 4 * column + 4]
            shown = (axial, moving_axial, coronal, moving_coronal)
            for axis, image, name in zip(cells, shown, ("fixed", "moving") * 2, strict=True):
                axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axis.text(0.03, 0.98, name, color="0.75", fontsize=5.5, va="top", transform=axis.transAxes)
            cells[0].text(0.03, 0.02, str(row), color="white", fontsize=8, transform=cells[0].transAxes)
    buffer, grey = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, dpi=DOTS, facecolor="black")
    pyplot.close(figure)
    Image.open(buffer).convert("L").save(grey, "PNG", optimize=True)
    return grey.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="brain-t1-cortex", metavar="R")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder of label maps")
    parser.add_argument("--seed", type=int, help="of the stream (default: the recipe's)")
    parser.add_argument("--count", type=int, default=12, help="pairs of both columns together")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Docs" / "synthetic-pairs.png")
    arguments = parser.parse_args()
    config = load_config(arguments.recipe)
    seed = config.seed if arguments.seed is None else arguments.seed
    data = Path(os.environ.get("SPIKEREG_DATA", REPOSITORY.parent / "shared" / "data"))
    anatomies = load_subjects(find_label_maps(arguments.labels or data / "train"))
    columns = {}
    for title, options in (
        (arguments.recipe, config.synthetic),
        ("two contrasts in a pair", replace(config.synthetic, cross_contrast=1.0)),
    ):
        generator = PairGenerator(anatomies, options=options, seed=seed)
        columns[title] = [generator.heads(step)[0] for step in range(-(-arguments.count // 2))]
    arguments.out.write_bytes(draw(columns))
    print(arguments.out)


if __name__ == "__main__":
    main()
