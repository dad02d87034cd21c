"""Transforms: the same numbers as SimpleITK on oblique frames, true composition, inverses, files out and in."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import set_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, to_sitk
from SpikeRegLib.space import sampling
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import (
    AffineTransform,
    CompositeTransform,
    DisplacementTransform,
    Transform,
    compose,
    read_transform,
    warp_image,
    write_transform,
)

# Odd sizes, anisotropic, oblique, one with permuted and flipped axes; all around the origin of the patient.
FIXED = Frame(
    (33, 47, 61),
    (-38.0, -31.0, -25.0),
    (1.3, 1.1, 1.7),
    tuple(Rotation.from_euler("x", 12, degrees=True).as_matrix().ravel()),
)
MOVING = Frame((45, 38, 41), (33.0, -35.0, 30.0), (1.6, 1.5, 1.7), (0, -1, 0, 0, 0, 1, -1, 0, 0))
FIELD = Frame(
    (24, 27, 29),
    (-45.0, -40.0, -38.0),
    (3.1, 2.9, 3.3),
    tuple(Rotation.from_euler("z", -9, degrees=True).as_matrix().ravel()),
)


def smooth_field(frame: Frame, largest_mm: float, sigma_mm: float = 9.0, seed: int = 0) -> torch.Tensor:
    """A random field that fades towards the border of its grid."""
    generator = torch.Generator().manual_seed(seed)
    sigma = sigma_mm / float(np.mean(frame.spacing))
    fade = torch.zeros(frame.shape)
    fade[5:-5, 5:-5, 5:-5] = 1
    field = gaussian(torch.randn(3, *frame.shape, generator=generator), sigma) * gaussian(fade[None], 1.5)[0]
    return field * (largest_mm / field.norm(dim=0).max())


def an_affine(seed: int = 0) -> AffineTransform:
    random = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] += random.normal(0, 0.08, (3, 3))
    matrix[:3, 3] = random.normal(0, 5, 3)
    return AffineTransform(matrix)


def a_composite() -> CompositeTransform:
    return CompositeTransform([DisplacementTransform(smooth_field(FIELD, 8.0), FIELD), an_affine()])


def a_volume() -> Volume:
    data = gaussian(torch.randn(1, *MOVING.shape, generator=torch.Generator().manual_seed(5)), 1.0)[0]
    return Volume(1000 * data, MOVING)


def points_in(frame: Frame, count: int = 500, margin: float = 0.2) -> torch.Tensor:
    random = np.random.default_rng(1)
    index = random.uniform(margin, 1 - margin, (count, 3)) * (np.array(frame.size) - 1)
    return torch.from_numpy(index @ frame.matrix[:3, :3].T + frame.matrix[:3, 3])


def as_itk(transform, tmp_path, name="oracle.h5") -> sitk.Transform:
    write_transform(transform, tmp_path / name)
    return sitk.ReadTransform(str(tmp_path / name))


def map_with_itk(transform: sitk.Transform, points: torch.Tensor) -> torch.Tensor:
    return torch.tensor([transform.TransformPoint(p) for p in points.tolist()], dtype=torch.float64)


def resample_with_itk(volume: Volume, transform, frame: Frame, interpolator, outside: float) -> np.ndarray:
    reference = set_frame(sitk.Image(frame.size, sitk.sitkUInt8), frame)
    result = sitk.Resample(to_sitk(volume), reference, transform, interpolator, outside, to_sitk(volume).GetPixelID())
    return sitk.GetArrayFromImage(result)


KINDS = {
    "affine": an_affine,
    "displacement": lambda: DisplacementTransform(smooth_field(FIELD, 8.0), FIELD),
    "displacement then affine": a_composite,
    "affine then displacement": lambda: CompositeTransform(list(reversed(a_composite().transforms))),
    "displacement on the fixed grid": lambda: DisplacementTransform(smooth_field(FIXED, 6.0), FIXED),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outside", [0.0, -77.0])
def test_warped_image_agrees_with_itk(tmp_path, kind, outside):
    transform, volume = KINDS[kind](), a_volume()
    warped = warp_image(volume, transform, FIXED, outside=outside).data.numpy()
    expected = resample_with_itk(volume, as_itk(transform, tmp_path), FIXED, sitk.sitkLinear, outside)
    assert 0.05 < (expected != outside).mean() < 1  # both rules are tried: inside and outside
    spread = float(volume.data.max() - volume.data.min())
    assert np.abs(warped - expected).max() < 1e-3 * spread


@pytest.mark.parametrize("kind", KINDS)
def test_warped_labels_agree_with_itk(tmp_path, kind):
    labels = Volume((a_volume().data / 100).round().to(torch.int16), MOVING)
    transform = KINDS[kind]()
    warped = warp_image(labels, transform, FIXED, interpolation="nearest", outside=-99)
    expected = resample_with_itk(labels, as_itk(transform, tmp_path), FIXED, sitk.sitkNearestNeighbor, -99)
    assert warped.data.dtype == torch.int16
    assert (warped.data.numpy() != expected).mean() < 1e-4


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("shift", [0.0, 0.5, -0.5, 1.0])
def test_half_voxel_shifts_round_and_end_as_in_itk(interpolation, shift):
    """Grids of 1 and 2 mm of one scan are half a voxel apart: every position is a tie, at the border too."""
    moving = Frame((16, 17, 18))
    volume = Volume(torch.rand(moving.shape, generator=torch.Generator().manual_seed(2)) + 1, moving)
    fixed = Frame((20, 20, 20), (shift - 1,) * 3)
    warped = warp_image(volume, compose(), fixed, interpolation=interpolation, outside=-1.0).data.numpy()
    method = sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor
    assert (
        np.abs(warped - resample_with_itk(volume, sitk.Transform(3, sitk.sitkIdentity), fixed, method, -1.0)).max()
        < 1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_mapped_points_agree_with_itk(tmp_path, kind):
    transform, points = KINDS[kind](), points_in(FIXED, margin=-0.1)
    assert (transform.map_points(points) - map_with_itk(as_itk(transform, tmp_path), points)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frame", [FIXED, FIELD, MOVING], ids=["fixed", "field", "moving"])
def test_sampled_displacement_agrees_with_itk(tmp_path, kind, frame):
    transform = KINDS[kind]()
    field = sitk.TransformToDisplacementField(
        as_itk(transform, tmp_path), sitk.sitkVectorFloat64, frame.size, frame.origin, frame.spacing, frame.direction
    )
    ours = transform.displacement_on(frame)
    assert ours.dtype == torch.float32
    error = np.abs(np.moveaxis(ours.numpy(), 0, -1) - sitk.GetArrayFromImage(field)).max(-1)
    # At the very edge of a field, where it jumps to zero, rounding may decide for the other side.
    assert (error > 1e-3).mean() < 1e-4


@pytest.mark.parametrize("turned", [False, True], ids=["along the axes", "permuted and flipped"])
def test_a_grid_parallel_to_the_field_is_sampled_as_its_points_are(turned):
    """Axis after axis, anisotropic, reaching beyond the field on every side: the values of each point alone."""
    field = Frame((9, 11, 8), (-10.0, 4.0, 7.0), (2.0, 3.0, 2.5))
    direction = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0) if turned else (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    grid = Frame((41, 37, 45), (0.0, 0.0, 0.0), (0.9, 0.8, 1.1), direction)
    shift = field.corners().mean(0) - grid.corners().mean(0) + 0.013
    grid = replace(grid, origin=tuple(float(v) for v in shift))
    transform = DisplacementTransform(torch.randn(3, *field.shape, generator=torch.Generator().manual_seed(2)), field)
    positions = sampling.Positions(grid, 0, grid.shape[0])
    assert sampling.linear_along_axes(transform.field, field, positions) is not None
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid.shape), indexing="ij")
    matrix = torch.from_numpy(grid.matrix)
    points = torch.stack((i, j, k), -1).reshape(-1, 3) @ matrix[:3, :3].t() + matrix[:3, 3]
    expected = (transform.map_points(points) - points).t().reshape(3, *grid.shape)
    found = transform.displacement_on(grid)
    assert (found - expected).abs().max() < 1e-4
    assert 0.1 < float((found == 0).all(0).double().mean()) < 0.9  # inside and outside were both met


def test_direction_is_fixed_to_moving():
    """A blob at (10, 0, 0) mm in the moving image, pulled by x -> x + 10: it appears at 0, never at 20."""
    frame = Frame((21, 21, 41), (-20.0, -10.0, -10.0))
    data = torch.zeros(frame.shape)
    data[10, 10, 30] = 1
    matrix = np.eye(4)
    matrix[0, 3] = 10
    shift = torch.zeros(3, *frame.shape)
    shift[0] = 10
    for transform in (AffineTransform(matrix), DisplacementTransform(shift, frame)):
        warped = warp_image(Volume(data, frame), transform, frame).data
        assert (warped > 0.01).nonzero().tolist() == [[10, 10, 20]]
        assert transform.map_points(torch.zeros(1, 3)).tolist() == [[10.0, 0.0, 0.0]]
        back = transform.inverse().map_points(torch.tensor([[5.0, 0.0, 0.0]]))
        assert torch.allclose(back, torch.tensor([[-5.0, 0.0, 0.0]], dtype=torch.float64), atol=1e-4)


def test_composition_is_applied_left_to_right_and_is_not_a_sum():
    displacement, affine = a_composite().transforms
    points = points_in(FIXED)
    composed = compose(displacement, affine)
    expected = affine.map_points(displacement.map_points(points))
    assert torch.equal(composed.map_points(points), expected)
    added = displacement.map_points(points) + affine.map_points(points) - points
    assert (added - expected).abs().max() > 0.1


def test_the_right_one_of_a_product_sees_the_fixed_point_as_in_itk(tmp_path):
    displacement, affine = a_composite().transforms
    points = points_in(FIXED)
    product = affine @ displacement
    assert torch.equal(product.map_points(points), affine.map_points(displacement.map_points(points)))
    assert torch.equal(product.map_points(points), compose(displacement, affine).map_points(points))
    assert ((displacement @ affine).map_points(points) - product.map_points(points)).abs().max() > 0.1
    itk = sitk.CompositeTransform([as_itk(affine, tmp_path, "a.h5"), as_itk(displacement, tmp_path, "d.h5")])
    assert (product.map_points(points) - map_with_itk(itk, points)).abs().max() < 1e-6
    with pytest.raises(TypeError):
        affine @ 2.0


def test_identity_is_neutral():
    transform, points = a_composite(), points_in(FIXED)
    assert torch.equal(Transform.identity().map_points(points), points)
    for product in (transform @ Transform.identity(), Transform.identity() @ transform):
        assert torch.equal(product.map_points(points), transform.map_points(points))


def test_a_transform_and_a_volume_say_in_one_line_what_they_are():
    field, affine = DisplacementTransform(torch.zeros(3, *FIELD.shape), FIELD), Transform.identity()
    assert repr(affine) == "AffineTransform([(1, 0, 0), (0, 1, 0), (0, 0, 1)], translation (0, 0, 0) mm)"
    assert repr(field) == "DisplacementTransform([24, 27, 29], spacing (3.1, 2.9, 3.3) mm)"
    assert repr(CompositeTransform([field, affine])) == f"CompositeTransform([{field!r}, {affine!r}])"
    volume = Volume(torch.zeros(33, 47, 61), FIXED)
    assert repr(volume) == "Volume([33, 47, 61] float32, spacing (1.3, 1.1, 1.7) mm)"
    assert (
        repr(replace(volume, name="t1.nii.gz"))
        == "Volume([33, 47, 61] float32, spacing (1.3, 1.1, 1.7) mm, 't1.nii.gz')"
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=0, max_size=5), st.integers(0, 5))
def test_composition_is_associative_and_flat(seeds, cut):
    small = Frame((6, 7, 8), (-9.0, -8.0, -7.0), (3.0, 3.0, 3.0))
    parts = [
        an_affine(seed) if seed % 2 else DisplacementTransform(torch.full((3, *small.shape), float(seed)), small)
        for seed in seeds
    ]
    points = points_in(small, 20)
    left = compose(compose(*parts[:cut]), compose(*parts[cut:]))
    expected = CompositeTransform(parts).map_points(points)
    assert torch.allclose(left.map_points(points), expected, atol=1e-9)
    if isinstance(left, CompositeTransform):
        assert not any(isinstance(part, CompositeTransform) for part in left.transforms)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_affine_inverse_is_exact(seed):
    transform, points = an_affine(seed), points_in(FIXED, 20)
    assert (transform.inverse().map_points(transform.map_points(points)) - points).abs().max() < 1e-9


@pytest.mark.parametrize(("largest_mm", "mean_mm"), [(4.0, 0.01), (8.0, 0.02)])
def test_inverse_undoes_a_composite_between_the_voxels(largest_mm, mean_mm):
    """At 8 mm the Jacobian determinant reaches 0.06: as far as a map without folds can go."""
    frame = Frame((50, 52, 48), (-50.0, -52.0, -48.0), (2.0, 2.0, 2.0))
    transform = compose(DisplacementTransform(smooth_field(frame, largest_mm, 10.0), frame), an_affine())
    inverse, points = transform.inverse(), points_in(frame, 5000)
    there_and_back = (inverse.map_points(transform.map_points(points)) - points).norm(dim=1)
    moved = transform.map_points(points)
    back_and_there = transform.map_points(inverse.map_points(moved)) - moved
    assert there_and_back.mean() < mean_mm
    assert back_and_there.norm(dim=1).mean() < mean_mm
    assert there_and_back.max() < 10 * mean_mm


def test_inverse_holds_on_an_anisotropic_oblique_grid():
    frame = Frame((24, 40, 44), (-40.0, -35.0, -30.0), (1.9, 2.0, 3.4), FIELD.direction)
    transform, points = DisplacementTransform(smooth_field(frame, 6.0, 12.0), frame), points_in(frame, 3000)
    assert (transform.inverse().map_points(transform.map_points(points)) - points).norm(dim=1).mean() < 0.03


def test_inverse_reaches_points_that_leave_the_grid():
    shift = torch.zeros(3, *FIELD.shape)
    shift[1] = 25.0
    transform, points = DisplacementTransform(shift, FIELD), points_in(FIELD, 200, 0.02)
    assert (transform.inverse().map_points(transform.map_points(points)) - points).abs().max() < 1e-3


def test_inverse_of_a_folded_field_stays_finite():
    field = 8 * torch.randn(3, *FIELD.shape, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(DisplacementTransform(field, FIELD).inverse().field).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extension", ["h5", "tfm"])
def test_transform_file_reads_back_as_the_same_map(tmp_path, kind, extension):
    transform, points = KINDS[kind](), points_in(FIXED)
    path = tmp_path / f"transform.{extension}"
    write_transform(transform, path)
    again = read_transform(path)
    assert type(again) is type(transform)
    assert (again.map_points(points) - transform.map_points(points)).abs().max() < 1e-6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("extension", ["nii.gz", "nii", "nrrd", "mha"])
def test_displacement_volume_reads_back_as_the_same_map(tmp_path, extension):
    transform, points = KINDS["displacement"](), points_in(FIXED)
    path = tmp_path / f"field.{extension}"
    write_transform(transform, path)
    again = read_transform(path)
    assert (again.map_points(points) - transform.map_points(points)).abs().max() < 1e-4
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    assert (map_with_itk(field, points) - transform.map_points(points)).abs().max() < 1e-4


def test_nifti_field_declares_vectors(tmp_path):
    write_transform(KINDS["displacement"](), tmp_path / "field.nii.gz")
    image = nibabel.load(tmp_path / "field.nii.gz")
    assert image.header["intent_code"] in (1006, 1007)
    assert image.shape == (*FIELD.size, 1, 3)


def test_affine_alone_is_written_as_an_affine(tmp_path):
    write_transform(CompositeTransform([an_affine(1), an_affine(2)]), tmp_path / "a.h5")
    assert sitk.ReadTransform(str(tmp_path / "a.h5")).Downcast().GetName() == "AffineTransform"


def itk_transforms() -> dict[str, sitk.Transform]:
    centre = (10.0, -5.0, 20.0)
    bspline = sitk.BSplineTransformInitializer(sitk.GetImageFromArray(np.zeros((30, 40, 50), np.uint8)), [6, 5, 4])
    bspline.SetParameters(np.random.default_rng(0).normal(0, 1.5, len(bspline.GetParameters())).tolist())
    rigid = sitk.Euler3DTransform(centre, 0.1, -0.2, 0.3, (4.0, 5.0, 6.0))
    return {
        "identity": sitk.Transform(3, sitk.sitkIdentity),
        "translation": sitk.TranslationTransform(3, (1.0, 2.0, 3.0)),
        "euler": rigid,
        "versor": sitk.VersorRigid3DTransform((0.0, 0.6, 0.8), 0.3, (1.0, 2.0, 3.0), centre),
        "similarity": sitk.Similarity3DTransform(1.2, (0.0, 0.6, 0.8), 0.3, (1.0, 2.0, 3.0), centre),
        "scale": sitk.ScaleTransform(3, (1.1, 0.9, 1.2)),
        "bspline": bspline,
        "nested": sitk.CompositeTransform(
            [rigid, sitk.CompositeTransform([sitk.TranslationTransform(3, (9.0, 0.0, 0.0)), bspline])]
        ),
    }


@pytest.mark.parametrize("name", itk_transforms())
def test_transforms_of_other_programs_are_read(tmp_path, name):
    transform = itk_transforms()[name]
    if name == "nested":
        transform.FlattenTransform()
    sitk.WriteTransform(transform, str(tmp_path / "t.tfm"))
    random = np.random.default_rng(0)
    points = torch.from_numpy(random.uniform(3, 25, (50, 3)))
    error = (read_transform(tmp_path / "t.tfm").map_points(points) - map_with_itk(transform, points)).abs().max()
    assert error < (0.02 if name in ("bspline", "nested") else 1e-6)  # a B-spline is sampled


def test_a_bspline_is_sampled_in_its_knots_from_one_end_of_its_domain_to_the_other(tmp_path):
    bspline = itk_transforms()["bspline"]
    sitk.WriteTransform(bspline, str(tmp_path / "t.tfm"))
    frame, mesh = read_transform(tmp_path / "t.tfm").frame, np.array(bspline.GetTransformDomainMeshSize())
    origin, extent = bspline.GetTransformDomainOrigin(), np.array(bspline.GetTransformDomainPhysicalDimensions())
    knots = [frame.to_index(origin + extent * share / mesh) for share in (np.zeros(3), np.ones(3), mesh)]
    for knot in knots:
        np.testing.assert_allclose(knot, np.rint(knot), atol=1e-6)
    np.testing.assert_allclose(knots[0], 0, atol=1e-6)
    np.testing.assert_allclose(knots[2], np.array(frame.size) - 1, atol=1e-6)
    assert (knots[1] >= 8).all()


def test_what_is_no_transform_is_refused_by_name(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((20, 20, 20), np.float32)), str(tmp_path / "image.nii.gz"))
    (tmp_path / "text.h5").write_text("no")
    (tmp_path / "text.tfm").write_text("no")
    field = sitk.Image([16] * 3, sitk.sitkVectorFloat32, 3)
    field[3, 3, 3] = (float("nan"), 0, 0)
    sitk.WriteImage(field, str(tmp_path / "nan.nrrd"))
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "flat.tfm"))
    write_transform(KINDS["displacement"](), tmp_path / "cut.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "cut.nii.gz").read_bytes()[:-3000])
    names = ["missing.h5", "image.nii.gz", "text.h5", "text.tfm", "nan.nrrd", "flat.tfm", "cut.nii.gz"]
    for name in names:
        with pytest.raises(InputError) as caught:
            read_transform(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="unknown transform file type"):
        write_transform(an_affine(), tmp_path / "t.xyz")
    with pytest.raises(InputError, match="one field on one grid"):
        write_transform(an_affine(), tmp_path / "t.nii.gz")


def test_impossible_transforms_are_refused():
    with pytest.raises(InputError, match="singular"):
        AffineTransform(np.diag([1.0, 1, 0, 1]))
    with pytest.raises(InputError, match="finite 4x4"):
        AffineTransform(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="field must be"):
        DisplacementTransform(torch.zeros(3, 4, 5, 6), Frame((6, 5, 4)))
    labels = Volume(torch.ones(MOVING.shape, dtype=torch.int16), MOVING)
    with pytest.raises(ValueError, match="mix labels"):
        warp_image(labels, an_affine(), FIXED)
