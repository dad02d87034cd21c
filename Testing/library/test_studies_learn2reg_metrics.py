"""Learn2Reg's figures against SciPy and against cases worked by hand; ours against MONAI and SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import set_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.quality.learn2reg import (
    _area_table,
    _surface,
    learn2reg_hd95_voxels,
    learn2reg_sdlogj,
    learn2reg_tre_mm,
)
from SpikeRegLib.quality.metrics import deformation_summary, dice, hd95_mm
from SpikeRegLib.quality.splines import spline_weights
from SpikeRegLib.space.filters import gaussian

FRAME = Frame((24, 26, 28), (3.0, -7.0, 11.0), (1.5, 0.9, 2.0))


def smooth_field(shape: tuple[int, int, int], largest: float, seed: int = 4) -> torch.Tensor:
    field = gaussian(torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed)), 2.0)
    return field * (largest / field.norm(dim=0).max())


def blobs(seed: int, shape: tuple[int, int, int] = FRAME.shape) -> torch.Tensor:
    base = gaussian(torch.randn(1, *shape, generator=torch.Generator().manual_seed(9)), 3.0)[0]
    own = gaussian(torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)), 3.0)[0]
    value = base / base.std() + 0.3 * own / own.std()
    labels = torch.bucketize(value, torch.tensor([0.3, 0.8, 1.3])).to(torch.int16)
    for axis in range(3):  # what touches the border is a surface for some definitions and none for others
        labels.narrow(axis, 0, 1).zero_()
        labels.narrow(axis, labels.shape[axis] - 1, 1).zero_()
    return labels


def determinant_by_numpy(displacement: np.ndarray) -> np.ndarray:
    """det(I + du/dindex) of [3, D, H, W] with components (i, j, k), by np.gradient."""
    slopes = [np.gradient(component, axis=(2, 1, 0)) for component in displacement]
    jacobian = np.stack([np.stack(row) for row in slopes]) + np.eye(3)[:, :, None, None, None]
    return np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))


def test_sdlogj_is_that_of_the_definition():
    field = smooth_field(FRAME.shape, 6.0)
    determinant = determinant_by_numpy(field.double().numpy())[2:-2, 2:-2, 2:-2]
    assert determinant.min() < 0
    logarithm = np.log(np.clip(determinant + 3, 1e-9, 1e9))
    assert learn2reg_sdlogj(field) == pytest.approx(logarithm.std(), rel=1e-5)
    mask = torch.zeros(FRAME.shape, dtype=torch.bool)
    mask[:9, 4:20, 5:19] = True
    assert learn2reg_sdlogj(field, mask) == pytest.approx(logarithm[mask[2:-2, 2:-2, 2:-2].numpy()].std(), rel=1e-5)
    with pytest.raises(InputError, match="no voxel more than two voxels"):
        learn2reg_sdlogj(field, torch.zeros_like(mask))
    with pytest.raises(InputError, match="no voxel two voxels"):
        learn2reg_sdlogj(field[:, :4])


def test_sdlogj_of_a_case_worked_by_hand():
    """A field that stretches i by 1.5 in one half and by 1 in the other: log(4.5) and log(4), and between them one
    plane of the mean slope."""
    field = torch.zeros(3, 12, 12, 13)
    field[0] = 0.5 * (torch.arange(13.0) - 6).clamp(min=0)
    values = np.log([4.0] * 4 + [4.25] + [4.5] * 4)
    assert learn2reg_sdlogj(field) == pytest.approx(values.std(), rel=1e-6)


@pytest.mark.parametrize(("order", "count"), [(2, 7), (3, 5), (3, 40), (2, 2), (3, 2)])
def test_splines_agree_with_scipy(order, count):
    random = np.random.default_rng(1)
    values = random.normal(size=count)
    places = np.concatenate([random.uniform(0, count - 1, 50), np.arange(count), [0.5, count - 1.5]])
    expected = ndimage.map_coordinates(values, places[None], order=order)
    assert np.abs(spline_weights(places, count, order) @ values - expected).max() < 1e-10
    if order == 2:
        zoomed = spline_weights(np.linspace(0, count - 1, 2 * count), count, 2) @ values
        assert np.abs(zoomed - ndimage.zoom(values, 2, order=2)).max() < 1e-10


def test_landmark_error_reads_the_field_by_cubic_splines_as_scipy_does():
    field = smooth_field(FRAME.shape, 4.0)
    random = np.random.default_rng(2)
    fixed = random.uniform(0, np.array(FRAME.size) - 1, (40, 3))
    fixed[:10] = np.rint(fixed[:10])
    fixed[-1] = [-1.0, 3, 3]  # outside: nothing moves it
    moving = fixed + random.normal(size=(40, 3))
    read = [ndimage.map_coordinates(part.double().numpy(), fixed.T[::-1], order=3) for part in field]
    moved = fixed + np.stack(read, 1)
    expected = np.linalg.norm((moved - moving) * [1.5, 0.9, 2.0], axis=1)
    found = learn2reg_tre_mm(fixed, moving, field, (1.5, 0.9, 2.0))
    assert np.abs(found - expected).max() < 1e-6
    with pytest.raises(InputError, match="40 fixed and 39 moving"):
        learn2reg_tre_mm(fixed, moving[:-1], field, (1.0, 1.0, 1.0))


def test_the_surface_of_a_box_has_its_area_and_of_a_ball_nearly():
    mask = np.zeros((9, 10, 11), bool)
    mask[2:6, 2:7, 2:8] = True
    border, area = _surface(mask)
    assert border.sum() == 5 * 6 * 7 - 3 * 4 * 5
    flat = 2 * (3 * 4 + 3 * 5 + 4 * 5)  # corners inside the faces
    edges, corners = 4 * (3 + 4 + 5), 8
    assert area.sum() == pytest.approx(flat + edges * math.sqrt(2) / 2 + corners * math.sqrt(3) / 8)
    grid = np.stack(np.meshgrid(*[np.arange(41) - 20] * 3, indexing="ij"))
    _, area = _surface((grid**2).sum(0) <= 15.5**2)
    assert area.sum() == pytest.approx(4 * math.pi * 15.5**2, rel=0.1)


def test_areas_do_not_change_when_inside_and_outside_change_places_or_the_cube_is_turned():
    table = _area_table()
    assert np.array_equal(table, table[::-1])
    for code in range(256):
        turned = sum(1 << ((bit << 1 | bit >> 2) & 7) for bit in range(8) if code >> bit & 1)
        assert table[turned] == table[code]
    assert len({round(value, 9) for value in table}) == 13


def hd95_by_scipy(fixed: np.ndarray, warped: np.ndarray) -> float:
    """The definition once more: distances of corners by SciPy's exact transform, percentile by sorting."""
    parts = []
    for mask in (fixed, warped):
        border, area = _surface(mask)
        parts.append((border, area, ndimage.distance_transform_edt(~border)))
    found = []
    for one, other in (parts, parts[::-1]):
        rows = sorted(zip(other[2][one[0]], one[1][one[0]], strict=True))
        reached, total = 0.0, sum(area for _, area in rows)
        for distance, area in rows:
            reached += area
            if reached >= 0.95 * total - 1e-12:
                found.append(distance)
                break
    return max(found)


def test_hd95_in_voxels_agrees_with_scipy_and_counts_the_border_of_the_image():
    fixed, warped = blobs(1), blobs(2)
    found = learn2reg_hd95_voxels(fixed, warped, [1, 2, 3])
    for label in (1, 2, 3):
        assert found[label] == pytest.approx(
            hd95_by_scipy((fixed == label).numpy(), (warped == label).numpy()), abs=1e-4
        )
    assert max(found.values()) > 1
    slab, shifted = torch.zeros(2, 20, 20, 20, dtype=torch.int16)
    slab[:, :, :5], shifted[:, :, :8] = 1, 1  # both touch the border, whose face is a surface of either
    assert learn2reg_hd95_voxels(slab, shifted, [1]) == {1: pytest.approx(3.0)}
    assert learn2reg_hd95_voxels(slab, shifted, [7]) == {7: math.inf}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of MONAI about itself
def test_dice_hd95_and_folds_agree_with_monai_and_simpleitk():
    """MONAI's HD95 is the larger directed percentile of surface voxels, as ours: they are the same number. Learn2Reg's
    is of other points, weighted, and in voxels; it stays near it where voxels are 1 mm."""
    metrics = pytest.importorskip("monai.metrics")
    fixed, warped = blobs(1), blobs(2)
    hot = [torch.stack([(labels == n) for n in range(4)])[None].float() for labels in (warped, fixed)]
    ours = dice(Volume(fixed, FRAME), Volume(warped, FRAME))
    theirs = metrics.compute_dice(*hot, include_background=False)[0]
    distances = hd95_mm(Volume(fixed, FRAME), Volume(warped, FRAME))
    spacing = tuple(reversed(FRAME.spacing))
    expected = metrics.compute_hausdorff_distance(*hot, include_background=False, percentile=95, spacing=spacing)[0]
    for label in (1, 2, 3):
        assert ours[label] == pytest.approx(float(theirs[label - 1]), abs=1e-6)
        assert distances[label] == pytest.approx(float(expected[label - 1]), abs=1e-3)
    unit = Frame(FRAME.shape)
    in_voxels = hd95_mm(Volume(fixed, unit), Volume(warped, unit))
    for label, value in learn2reg_hd95_voxels(fixed, warped, [1, 2, 3]).items():
        assert value == pytest.approx(in_voxels[label], abs=1.0)
    field = smooth_field(FRAME.shape, 9.0)
    image = set_frame(sitk.GetImageFromArray(field.permute(1, 2, 3, 0).double().numpy(), isVector=True), FRAME)
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))[1:-1, 1:-1, 1:-1]
    share = 100 * float((determinant <= 0).mean())
    assert share > 0.1
    assert deformation_summary(field, FRAME)["folding_percent"] == pytest.approx(share, abs=1e-6)
