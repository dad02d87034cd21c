"""Rigid and affine registrations are what they say: the map, its file, its inverse, and what contradicts them."""

from __future__ import annotations

import brains
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.folder import write_outputs
from SpikeRegLib.pipeline import register
from SpikeRegLib.space.transforms import AffineTransform

POINTS = {"fixed_points": "a.csv", "moving_points": "b.csv"}
ABSENT = ("missing.nii.gz", "missing.nii.gz")


@pytest.fixture(scope="module")
def moved():
    """A brain, the same one turned, shifted and grown by a tenth, and the map between them."""
    fixed = brains.on_grid(brains.sample("fixed"))
    points = brains.brain_points(fixed)
    middle = points.mean(0).numpy()
    turned = brains.rigid((6, -5, 8), (5.0, -4.0, 3.0), middle)
    grown = np.eye(4)
    grown[:3, :3] *= 1.1
    grown[:3, 3] = middle - 1.1 * middle
    truth = AffineTransform(turned.matrix @ grown)
    return fixed, brains.carried(fixed, truth), truth, points


@pytest.fixture(scope="module", params=["rigid", "affine"])
def found(request, moved, quick):
    return request.param, register(*moved[:2], preset=quick, transform_type=request.param, threads=1)


def test_the_map_is_of_its_type_and_only_that(moved, found):
    kind, registration = found
    assert isinstance(registration.transform, AffineTransform)
    scales = np.linalg.svd(registration.transform.matrix[:3, :3], compute_uv=False)
    if kind == "rigid":
        np.testing.assert_allclose(scales, 1, atol=1e-6)
        assert np.linalg.det(registration.transform.matrix[:3, :3]) > 0
    else:
        np.testing.assert_allclose(scales, 1.1, atol=0.02)
        assert brains.error_mm(registration.transform, moved[2], moved[3]) < 1.0
    result = registration.result
    assert result["transform_type"] == kind and result["method"] == "optimize"
    assert result["deformation"]["inverse_consistency_mm"] < 1e-3 and result["deformation"]["folding_percent"] == 0
    jacobian = registration.jacobian.data
    assert float(jacobian.max() - jacobian.min()) < 1e-3, "nothing is deformed"


def test_its_file_holds_a_linear_transform_and_warps_alike(moved, found, tmp_path):
    kind, registration = found
    folder = write_outputs(registration, tmp_path / kind)
    stored = sitk.ReadTransform(str(folder / "transform.h5"))
    assert stored.IsLinear()
    points = moved[3][::997].double()
    expected = registration.transform.map_points(points)
    np.testing.assert_allclose([stored.TransformPoint(p) for p in points.tolist()], expected, atol=1e-3)
    back = registration.inverse.map_points(expected)
    assert torch.allclose(back, points, atol=1e-3)


def test_a_registration_says_that_it_is_deformable_where_nothing_else_is_asked(known, quick):
    result = register(known.fixed, known.moving, preset=quick, threads=1).result
    assert result["transform_type"] == "deformable"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "spikereg"}, "--method spikereg: is of a deformation; leave it out, or --transform-type rigid"),
        ({"refine_iterations": 3}, "--refine-iterations 3: is of a deformation"),
        ({"landmark_weight": 0.1, **POINTS}, "--landmark-weight 0.1: is of a deformation"),
        ({"region": "r.nii"}, "--region: is of a deformation"),
        ({"structures": "mask,refinement"}, "--structures refinement: is of a deformation"),
        ({"structures": "start"}, "--structures start: finds an affine map"),
        ({"skip_affine": True}, "--transform-type rigid: --skip-affine leaves nothing to find"),
        ({"initial_transform": "a.h5"}, "--initial-transform without --align leaves nothing to find"),
        ({"timesteps": 2}, "--timesteps: no registration network runs with --transform-type rigid"),
        ({"field_iterations": 2}, "--field-iterations: method optimize has no neural field"),
    ],
)
def test_what_only_a_deformation_can_do_is_refused_by_name(given, message):
    with pytest.raises(InputError, match=message) as caught:
        register(*ABSENT, transform_type="rigid", **given)
    assert "\n" not in str(caught.value)


def test_a_type_by_another_name_is_refused():
    with pytest.raises(InputError, match=r"transform.type.*deformable, affine.*rigid"):
        register(*ABSENT, transform_type="similarity")


def test_a_start_that_bends_or_scales_is_no_start_of_a_rigid_registration(moved, known, quick):
    grown = np.diag([1.1, 1.1, 1.1, 1.0])
    for given, kind, message in (
        (known.truth, "rigid", "bends"),
        (known.truth, "affine", "bends"),
        (AffineTransform(grown), "rigid", "scales or shears"),
    ):
        with pytest.raises(InputError, match=message):
            register(*moved[:2], preset=quick, transform_type=kind, initial_transform=given, align=True, threads=1)
