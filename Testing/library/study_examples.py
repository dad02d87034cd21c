"""A small study on disk: label maps of blobs, landmarks, and transforms that are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.points import write_points
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import AffineTransform, write_transform

FRAME = Frame((24, 26, 28), (3.0, -7.0, 11.0), (1.5, 0.9, 2.0))


def blobs(seed: int, frame: Frame = FRAME, labels: int = 3) -> Volume:
    """A label map with `labels` blobs inside one another."""
    value = gaussian(torch.randn(1, *frame.shape, generator=torch.Generator().manual_seed(seed)), 3.0)[0]
    edges = torch.linspace(0.3, 1.3, labels)
    data = torch.bucketize(value / value.std(), edges).to(torch.int16)
    return Volume(data, frame)


def shift(*mm: float) -> AffineTransform:
    matrix = np.eye(4)
    matrix[:3, 3] = mm
    return AffineTransform(matrix)


def smooth_field(frame: Frame = FRAME, largest: float = 2.0, seed: int = 4) -> torch.Tensor:
    """[3, D, H, W] whose longest vector has this length."""
    field = gaussian(torch.randn(3, *frame.shape, generator=torch.Generator().manual_seed(seed)), 3.0)
    return field * (largest / field.norm(dim=0).max())


@dataclass(frozen=True)
class Example:
    """Where a study lies: the manifest and a folder of registrations, whose transforms shift by one voxel of i."""

    folder: Path
    ids: tuple[str, ...]

    @property
    def manifest(self) -> Path:
        return self.folder / "pairs.csv"

    @property
    def results(self) -> Path:
        return self.folder / "results"


def study(folder: Path, pairs: int = 3, *, wrong_by: float = 0.0) -> Example:
    """Write a study whose moving maps are the fixed ones shifted by a voxel of i.

    Args:
        folder: made.
        pairs: how many.
        wrong_by: mm, along k, by which the transforms miss; a little more from pair to pair.
    """
    (folder / "data").mkdir(parents=True)
    ids = tuple(f"s{n}_s{n + 1}" for n in range(pairs))
    lines = ["id,fixed,fixed_seg,moving_seg,fixed_points,moving_points,fixed_subject,moving_subject,preset"]
    for number, name in enumerate(ids):
        fixed = blobs(number)
        moving = Volume(fixed.data.roll(1, dims=2), FRAME)
        points = torch.tensor(FRAME.to_mm(np.random.default_rng(number).uniform(3, 20, (12, 3))))
        for side, volume, at in (("f", fixed, points), ("m", moving, points + torch.tensor([1.5, 0.0, 0.0]))):
            write_volume(volume, folder / "data" / f"{name}_{side}.nii.gz")
            write_points(at, folder / "data" / f"{name}_{side}.csv")
        files = ",".join(f"data/{name}_{side}.{kind}" for kind in ("nii.gz", "csv") for side in ("f", "m"))
        lines.append(f"{name},nowhere.nii.gz,{files},s{number},s{number + 1},brain")
        (folder / "results" / name).mkdir(parents=True)
        miss = wrong_by * (1 + 0.1 * number)
        write_transform(shift(1.5, 0.0, miss), folder / "results" / name / "transform.h5")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Example(folder, ids)
