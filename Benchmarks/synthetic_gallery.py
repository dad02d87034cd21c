"""Draw synthetic training pairs as the training sees them: Docs/synthetic-pairs.png.

    python Benchmarks/synthetic_gallery.py [--recipe brain-t1] [--labels DIR] [--seed 1] [--count 12] [--out FILE.png]

Pairs 0, 1, 2... of the stream `--seed`, none picked by hand: the middle axial and coronal slice of the fixed and of the
moving image. Label maps are looked for in SPIKEREG_DATA/train (default: ../shared/data/train beside the repository).
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

from SpikeRegLib.training.anatomy import load_anatomies
from SpikeRegLib.training.config import load_config
from SpikeRegLib.training.recipe import find_label_maps
from SpikeRegLib.training.synthetic import PairGenerator, SyntheticPair

REPOSITORY = Path(__file__).resolve().parents[1]
PAIRS_PER_ROW = 2
INCHES, DOTS = 1.12, 140  # of one slice, per inch


def slices(volume: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The middle axial slice, front up, and the middle coronal one, head up; patient right on the left.

    Args:
        volume: [1, 1, D, H, W], axes towards patient head, back and left.
    """
    data = volume[0, 0].numpy()
    depth, height, _ = data.shape
    return data[depth // 2], data[::-1, height // 2]


def draw(pairs: list[SyntheticPair]) -> bytes:
    """A labelled grid as PNG."""
    rows = -(-len(pairs) // PAIRS_PER_ROW)
    figure, axes = pyplot.subplots(
        rows,
        4 * PAIRS_PER_ROW,
        figsize=(4 * PAIRS_PER_ROW * INCHES, rows * 1.16 * INCHES + 0.3),
        squeeze=False,
        facecolor="black",
        gridspec_kw={"wspace": 0.02, "hspace": 0.02, "left": 0.005, "right": 0.995, "bottom": 0.005, "top": 0.965},
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, pair in enumerate(pairs):
        row, column = divmod(number, PAIRS_PER_ROW)
        (axial, coronal), (moving_axial, moving_coronal) = slices(pair.fixed), slices(pair.moving)
        cells = axes[row, 4 * column : 4 * column + 4]
        shown = (axial, moving_axial, coronal, moving_coronal)
        for axis, image, name in zip(cells, shown, ("fixed", "moving") * 2, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.text(0.03, 0.97, name, color="0.75", fontsize=5.5, va="top", transform=axis.transAxes)
        cells[0].text(0.03, 0.02, str(number + 1), color="white", fontsize=8, transform=cells[0].transAxes)
    for column in range(PAIRS_PER_ROW):
        for offset, plane in ((1, "axial"), (3, "coronal")):
            title = axes[0, 4 * column + offset]
            title.text(0, 1.04, plane, color="white", fontsize=8, ha="center", transform=title.transAxes)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DOTS, facecolor="black")
    pyplot.close(figure)
    grey = io.BytesIO()
    Image.open(buffer).convert("L").save(grey, "PNG", optimize=True)
    return grey.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="brain-t1", help="whose synthetic options are used")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder of label maps")
    parser.add_argument("--seed", type=int, help="of the stream of pairs (default: the recipe's)")
    parser.add_argument("--count", type=int, default=12, help="pairs")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Docs" / "synthetic-pairs.png")
    arguments = parser.parse_args()
    config = load_config(arguments.recipe)
    if arguments.seed is not None:
        config = replace(config, seed=arguments.seed)
    data = Path(os.environ.get("SPIKEREG_DATA", REPOSITORY.parent / "shared" / "data"))
    anatomies = load_anatomies(find_label_maps(arguments.labels or data / "train"))
    generator = PairGenerator(anatomies, options=config.synthetic, seed=config.seed)
    arguments.out.write_bytes(draw([generator.pair(step) for step in range(arguments.count)]))
    print(arguments.out)


if __name__ == "__main__":
    main()
