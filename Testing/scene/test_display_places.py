"""The worst places are found where they were put, apart from each other, and the views go there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from slicer_scene import makeLinearTransform, makeVolume, obliqueMatrix, rotation, translation
from SpikeRegSlicerLib.display import places

MATRIX = obliqueMatrix(spacing=(2.0, 2.5, 3.0), origin=(-70, -60, -50))
SHAPE = (40, 48, 56)


def head() -> np.ndarray:
    """A bright ellipsoid in darkness, [K, J, I]."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    return (100 * ((grid**2).sum(0) < 0.8)).astype(np.float32)


def ras(index: tuple[int, int, int]) -> np.ndarray:
    return (MATRIX @ (*index[::-1], 1))[:3]


def distance(first, second) -> float:
    return float(np.linalg.norm(np.subtract(first, second)))


def volumes(jacobianAt: dict, residualAt: dict):
    """A head, its warped image with blocks of other brightness, and a Jacobian of 1 with single voxels of others."""
    fixed, jacobian = head(), np.ones(SHAPE, np.float32)
    warped = fixed.copy()
    for index, value in jacobianAt.items():
        jacobian[index] = value
    for index, value in residualAt.items():
        warped[tuple(slice(n - 2, n + 3) for n in index)] += value
    return [makeVolume(array, MATRIX, name) for array, name in
            ((fixed, "fixed"), (warped, "warped"), (jacobian, "jacobian"))]  # fmt: skip


def test_the_places_are_those_that_were_made_strongest_first(scene):
    jacobianAt = {(20, 24, 14): 0.2, (20, 10, 28): 3.0, (10, 24, 28): -0.5}
    residualAt = {(30, 24, 28): 60.0, (20, 36, 28): -40.0}
    found = places.worstPlaces(*volumes(jacobianAt, residualAt), count=5)
    expected = [("jacobian", (10, 24, 28)), ("residual", (30, 24, 28)), ("jacobian", (20, 24, 14)),
                ("residual", (20, 36, 28)), ("jacobian", (20, 10, 28))]  # fmt: skip
    assert [place.kind for place in found] == [kind for kind, _ in expected]
    for place, (kind, index) in zip(found, expected, strict=True):
        assert distance(place.ras, ras(index)) < (0.01 if kind == "jacobian" else 4)
    assert [found[n].value for n in (0, 2, 4)] == pytest.approx([-0.5, 0.2, 3.0])
    assert found[1].value > 0.3 and found[3].value < -0.2
    assert found[0].text == "folded (Jacobian -0.50)"
    assert found[2].text == "shrinks to 20 % of its volume (Jacobian 0.20)"
    assert found[4].text == "grows to 3.0 times its volume (Jacobian 3.00)"
    assert found[1].text.startswith("warped image brighter by ")


def test_places_keep_apart(scene):
    random = np.random.default_rng(0)
    fixed = makeVolume(head(), MATRIX, "fixed")
    jacobian = makeVolume(np.exp(random.normal(0, 0.5, SHAPE)).astype(np.float32), MATRIX, "noise")
    noisy = makeVolume((head() + random.normal(0, 20, SHAPE)).astype(np.float32), MATRIX, "warped")
    found = places.worstPlaces(fixed, noisy, jacobian, count=12)
    assert len(found) == 12
    assert min(distance(a.ras, b.ras) for a, b in itertools.combinations(found, 2)) >= places.APART_MM - 1e-6


def test_nothing_outside_the_head_is_a_place(scene):
    found = places.worstPlaces(*volumes({(0, 0, 0): 50.0, (1, 2, 55): -3.0}, {}), count=5)
    assert found == []


def test_a_place_of_a_transformed_volume_is_in_the_world(scene):
    nodes = volumes({(20, 24, 14): 0.2}, {})
    turn = translation(10, -5, 3) @ rotation(25)
    parent = makeLinearTransform(turn)
    for node in nodes:
        node.SetAndObserveTransformNodeID(parent.GetID())
    (place,) = places.worstPlaces(*nodes, count=1)
    np.testing.assert_allclose(place.ras, (turn @ (*ras((20, 24, 14)), 1))[:3], atol=1e-4)


def test_jumping_centres_every_slice_view(panel):
    panel.setVolumes(makeVolume(head(), MATRIX))
    panel.fit()
    target = (7.0, -12.0, 21.0)
    places.jumpTo(panel.scene, target)
    for view in panel.views:
        np.testing.assert_allclose(view.ras(199.5, 199.5), target, atol=1.5 * view.node.GetFieldOfView()[0] / 400)
    crosshair = panel.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    np.testing.assert_allclose(crosshair.GetCrosshairRAS(), target)
