"""Heads that lie otherwise than their headers say are found, read upright, and registered all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import SpikeRegLib
from SpikeRegLib import models
from SpikeRegLib.anatomy.layout import Layout
from SpikeRegLib.anatomy.pose import angle_degrees, find_head, orientations
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.pipeline import register

SAMPLE = Path(SpikeRegLib.__file__).parent / "sample"


def about(axis: int, degrees: float) -> np.ndarray:
    turn, (i, j) = np.eye(3), [(1, 2), (2, 0), (0, 1)][axis]
    turn[i, i] = turn[j, j] = np.cos(np.radians(degrees))
    turn[j, i] = np.sin(np.radians(degrees))
    turn[i, j] = -turn[j, i]
    return turn


def turned(volume: Volume, turn: np.ndarray) -> Volume:
    """The same voxels with a header that says they lie turned about the middle."""
    frame = volume.frame
    middle = frame.to_mm((np.array(frame.size) - 1) / 2)
    origin = turn @ (np.array(frame.origin) - middle) + middle
    direction = turn @ np.reshape(frame.direction, (3, 3))
    return replace(volume, frame=replace(frame, origin=tuple(origin), direction=tuple(direction.ravel())))


@pytest.fixture(scope="module")
def reader():
    file = models.find("structures", "spikereg")
    network, layout = models.load_model(file), Layout.from_json(models.read_header(file).facts["layout"])
    return lambda image, **how: find_head(network, layout, image, **how)


def test_there_are_24_orientations_and_the_header_comes_first():
    all_of_them = orientations()
    assert len({tuple(matrix.ravel()) for matrix in all_of_them}) == 24
    assert np.array_equal(all_of_them[0], np.eye(3))
    assert all(np.linalg.det(matrix) == pytest.approx(1) for matrix in all_of_them)
    assert [angle_degrees(matrix) for matrix in all_of_them] == sorted(map(angle_degrees, all_of_them))


def test_an_angle_is_that_of_the_rotation():
    for degrees in (0, 17, 90, 180):
        assert angle_degrees(about(1, degrees)) == pytest.approx(degrees, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "degrees"), [(0, 90), (2, 40)])
def test_a_turned_head_is_found_where_it_lies(reader, axis, degrees):
    image = read_image(SAMPLE / "fixed.nii.gz")
    as_it_is, turn = reader(image), about(axis, degrees)
    found = reader(turned(image, turn))
    assert as_it_is.check.head and as_it_is.readings <= 2 and found.check.head
    middle = image.frame.to_mm((np.array(image.frame.size) - 1) / 2)
    expected = (as_it_is.places.centres - middle) @ turn.T + middle
    off = np.linalg.norm(found.places.centres - expected, axis=1)
    assert np.nanmean(off) < 2.5
    read_along = np.reshape(found.maps.frame.direction, (3, 3))
    assert degrees < 90 or angle_degrees(read_along) > 45, "it was read along the axes of the head"


def test_a_head_that_nobody_looks_for_in_other_poses_is_no_head(reader):
    upside_down = turned(read_image(SAMPLE / "fixed.nii.gz"), about(0, 180))
    assert not reader(upside_down, any_pose=False).check.head


def test_a_pair_in_two_poses_is_registered_and_said_to_lie_otherwise():
    fixed, moving = read_image(SAMPLE / "fixed.nii.gz"), read_image(SAMPLE / "moving.nii.gz")
    how = {"preset": "brain", "refine_iterations": 0, "threads": 1}
    usual = register(fixed, moving, **how)
    assert usual.result["anatomy"]["used_for"] == ["start", "verdict"], "without refinement nothing is refined by maps"
    turn = about(2, 90)
    other = register(fixed, turned(moving, turn), **how)
    assert any("the head is turned by" in warning for warning in other.result["warnings"])
    points = torch.from_numpy(usual.fixed.frame.to_mm(np.array([[20.0, 30, 20], [40, 30, 40]])))
    middle = moving.frame.to_mm((np.array(moving.frame.size) - 1) / 2)
    expected = (usual.transform.map_points(points).numpy() - middle) @ turn.T + middle
    assert np.abs(other.transform.map_points(points).numpy() - expected).max() < 5
