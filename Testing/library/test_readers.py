"""All that reads values between voxels: the same numbers inside the grid, and outside what the table says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.fixed_points import Sampling
from SpikeRegLib.refinement import landmarks
from SpikeRegLib.space import sampling
from SpikeRegLib.space.displacement import sample
from SpikeRegLib.space.fields import upsample, values_at, warp
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.known import resample_known
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform
from SpikeRegLib.training import crops

SHAPE = (9, 11, 13)
SIZE = torch.tensor([13.0, 11.0, 9.0])
VALUES = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
FRAME = Frame(SHAPE)


def voxels() -> torch.Tensor:
    """[3, D, H, W] (i, j, k)."""
    k, j, i = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")
    return torch.stack((i, j, k))


def positions(beyond: float) -> torch.Tensor:
    """[3, D, H, W] random (i, j, k) up to so many voxels beyond the outermost centres."""
    random = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    return random * (SIZE - 1 + 2 * beyond)[:, None, None, None] - beyond


def unit_of(place: torch.Tensor) -> torch.Tensor:
    return (2 * place + 1) / SIZE[:, None, None, None] - 1


def points_of(place: torch.Tensor) -> torch.Tensor:
    return place.flatten(1).t()


def by_codes(place: torch.Tensor) -> torch.Tensor:
    codes = Codes(torch.zeros(0), VALUES, Grid(SHAPE, 1.0), (0.0, 0.0, 0.0))
    kept = Sampling(codes, points_of(place))
    return kept.at_points(VALUES.flatten(1).t()[kept.nodes]).t()


def by_map_points(place: torch.Tensor) -> torch.Tensor:
    points = points_of(place).double()
    return (DisplacementTransform(VALUES, FRAME).map_points(points) - points).t()


CLAMPED = {
    "clamped": lambda place: sampling.clamped(VALUES, unit_of(place).permute(1, 2, 3, 0)),
    "warp": lambda place: warp(VALUES[None], (place - voxels())[None])[0],
    "values_at": lambda place: values_at(VALUES, points_of(place)).t(),
    "landmarks": lambda place: landmarks.displacement_at(VALUES, Grid(SHAPE, 2.5), points_of(place) * 2.5).t(),
    "sample": lambda place: sample(VALUES, place - voxels()),
    "codes": by_codes,
    "crops": lambda place: crops._sample(VALUES[None], place.permute(1, 2, 3, 0)[None])[0],
}
LIKE_ITK = {
    "linear": lambda place: sampling.linear(VALUES, unit_of(place), 0.0),
    "linear_in_double": by_map_points,
}
READERS = {**CLAMPED, **LIKE_ITK}


def expected(place: torch.Tensor) -> np.ndarray:
    where = points_of(place).numpy().T[::-1].astype(np.float64)
    return np.stack(
        [ndimage.map_coordinates(v.numpy().astype(np.float64), where, order=1, mode="nearest") for v in VALUES]
    )


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("beyond", [0.0, 0.45], ids=["between the centres", "less than half a voxel beyond"])
def test_all_readers_agree(name, beyond):
    place = positions(beyond)
    np.testing.assert_allclose(READERS[name](place).reshape(3, -1).numpy(), expected(place), atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_further_out_some_keep_the_border_and_some_have_nothing(name):
    place = positions(3.0)
    wanted, index = expected(place), points_of(place).t()
    outside = ((index < -0.5) | (index >= SIZE[:, None] - 0.5)).any(0).numpy()
    assert 0.2 < outside.mean() < 0.95
    if name in LIKE_ITK:
        wanted[:, outside] = 0
    np.testing.assert_allclose(READERS[name](place).reshape(3, -1).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("spacing", [0.5, 0.75, 1.6])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (0.4, -1.3, 2.0)])
def test_a_grid_is_read_as_its_points_are(spacing, offset):
    source, target = Grid(SHAPE, 1.0), Grid((7, 8, 6), spacing, offset)
    axes = [torch.arange(n) * spacing + o for n, o in zip(target.shape, offset, strict=True)]
    k, j, i = torch.meshgrid(*axes, indexing="ij")
    place = torch.stack((i, j, k))
    found = resample(VALUES, source, target)
    torch.testing.assert_close(found.flatten(1), values_at(VALUES, points_of(place)).t(), atol=1e-5, rtol=0)
    everywhere = torch.ones(SHAPE)
    torch.testing.assert_close(resample_known(VALUES, everywhere, source, target), found, atol=1e-5, rtol=0)
    frame = Frame(target.shape, (offset[2], offset[1], offset[0]), (spacing,) * 3)
    slab = sampling.Positions(frame, 0, 7)
    along = sampling.linear_along_axes(VALUES, FRAME, slab)
    assert along is not None
    torch.testing.assert_close(along, sampling.linear(VALUES, slab.coordinates(FRAME), 0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(sampling.displacement_at(VALUES, FRAME, slab), along, atol=0, rtol=0)
    AffineTransform(np.diag([1.01, 1.0, 1.0, 1.0]) + 0.01 * np.eye(4, k=1)).advance(slab)
    assert sampling.linear_along_axes(VALUES, FRAME, slab) is None
    crooked = sampling.linear(VALUES, slab.coordinates(FRAME), 0.0)
    torch.testing.assert_close(sampling.displacement_at(VALUES, FRAME, slab), crooked, atol=0, rtol=0)


def test_a_network_output_is_upsampled_as_a_grid_is():
    fine = tuple(2 * (n - 1) + 1 for n in SHAPE)
    found = upsample(VALUES[None], fine, 2)[0] / 2
    torch.testing.assert_close(found, resample(VALUES, Grid(SHAPE, 2.0), Grid(fine, 1.0)), atol=1e-5, rtol=0)


def test_every_reader_is_in_the_table():
    table = sampling.__doc__ or ""
    for name in (
        "linear", "linear_along_axes", "displacement_at", "linear_in_double", "clamped", "nearest", "fields.warp",
        "fields.values_at", "fields.upsample", "displacement.sample", "grids.resample", "known.resample_known",
        "landmarks.displacement_at", "fixed_points.Sampling", "training.crops._sample",
    ):  # fmt: skip
        assert any(line.split(" ")[0] == name for line in table.splitlines()), name
