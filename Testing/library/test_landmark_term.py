"""Landmarks in the refinement: they meet, nothing folds, nothing far away moves, and their weight is weighed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.pipeline.landmarks import landmarks_on, unmet
from SpikeRegLib.refinement.landmarks import Landmarks, Pull, _kernel, add_within, displacement_at, preimage
from SpikeRegLib.refinement.refine import Level, RefinementSchedule, refine
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.folds import smallest_jacobian
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform

FRAME = Grid((64, 64, 64), 2.0)
SCHEDULE = RefinementSchedule((Level.usual(4.0, 4), Level.usual(2.0, 2)))
NONE = RefinementSchedule(())
POINTS = torch.tensor([[40.0, 62.0, 60.0], [70.0, 50.0, 66.0], [60.0, 84.0, 56.0]], dtype=torch.float64)
AWAY = torch.tensor([[5.0, 0.0, 0.0], [0.0, -3.0, 4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """A textured ball."""
    texture = gaussian(torch.randn(FRAME.shape, generator=torch.Generator().manual_seed(1)), 2.0)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, 64),) * 3, indexing="ij")
    inside = torch.sigmoid((0.8 - torch.stack(axes).square().sum(0).sqrt()) * 30)
    return inside * (0.5 + 0.15 * texture / texture.std()).clamp(0, 1)


def at(result, points: torch.Tensor) -> torch.Tensor:
    return displacement_at(result.field, result.grid, points)


@pytest.mark.parametrize("schedule", [SCHEDULE, NONE], ids=["with images", "landmarks alone"])
def test_a_large_weight_brings_landmarks_together_where_they_are_and_nowhere_else(image, schedule):
    pull = Landmarks(POINTS, POINTS + AWAY, weight=10.0)
    found = refine(image, image, spacing_mm=2.0, schedule=schedule, landmarks=pull)
    assert found.accepted
    torch.testing.assert_close(at(found, POINTS), AWAY, atol=0.1, rtol=0)
    assert float(smallest_jacobian(found.field / found.grid.spacing_mm).min()) > 0.04
    far = torch.tensor([[100.0, 100.0, 100.0], [20.0, 20.0, 110.0], [64.0, 64.0, 110.0]], dtype=torch.float64)
    assert float(torch.cdist(far, POINTS).min()) > 34
    assert float(at(found, far).norm(dim=1).max()) < 0.01


def test_weight_decides_between_images_and_landmarks(image):
    left, similarity = [], []
    for weight in (1e-7, 1e-2):
        pull = Landmarks(POINTS, POINTS + AWAY, weight)
        found = refine(image, image, spacing_mm=2.0, schedule=SCHEDULE, landmarks=pull)
        left.append(float(pull.distances_mm(found.field, found.grid).mean()))
        similarity.append(found.similarity_after / found.similarity_before)
    assert left[0] > 3 and similarity[0] > 0.99  # two identical images: they want no change at all
    assert left[1] < 0.5 * left[0] and similarity[1] < similarity[0]


def test_landmarks_lead_where_the_images_alone_are_caught(image):
    """A shift of 24 mm, several periods of the texture; looked at away from the landmarks themselves."""
    shift = torch.tensor([24.0, 0.0, 0.0], dtype=torch.float64)
    hints = torch.tensor([[x, y, z] for x in (44.0, 76.0) for y in (50.0, 78.0) for z in (50.0, 78.0)]).double()
    coarse = RefinementSchedule((Level.usual(4.0, 4),))
    left = []
    for pull in (None, Landmarks(hints, hints + shift, 1.0)):
        found = refine(image, torch.roll(image, 12, 2), spacing_mm=2.0, schedule=coarse, landmarks=pull)
        left.append(float((at(found, hints + 4) - shift).norm(dim=1).mean()))
    assert left[1] < 0.2 * left[0]


def test_contradicting_landmarks_are_averaged_without_a_fold(image):
    pair = torch.tensor([[60.0, 60.0, 60.0], [60.5, 60.0, 60.0]], dtype=torch.float64)
    pull = Landmarks(pair, pair + torch.tensor([[0.0, 6.0, 0.0], [0.0, -6.0, 0.0]]).double(), 10.0)
    found = refine(image, image, spacing_mm=2.0, schedule=SCHEDULE, landmarks=pull)
    assert float(smallest_jacobian(found.field / found.grid.spacing_mm).min()) > 0.04
    assert float(pull.distances_mm(found.field, found.grid).min()) > 2


def test_settling_composes_with_the_field_that_is_there():
    """The landmarks meet through a strong deformation, too, and only within reach of them does it change."""
    field = gaussian(torch.randn(3, *FRAME.shape, generator=torch.Generator().manual_seed(2)), 5.0)
    field = 4 * field / field.abs().max()
    pull = Landmarks(POINTS, POINTS + AWAY, 1.0, reach_mm=20.0)
    settled = Pull(pull, FRAME).settle(field)
    assert float(pull.distances_mm(settled * 2.0, FRAME).max()) < 0.05
    k, j, i = (2.0 * torch.arange(64).double() for _ in range(3))
    nodes = torch.stack(torch.meshgrid(k, j, i, indexing="ij"), -1).flip(-1).reshape(-1, 3)
    beyond = (torch.cdist(nodes, POINTS).min(1).values > 20.0).view(FRAME.shape)
    torch.testing.assert_close(settled[:, beyond], field[:, beyond], atol=1e-4, rtol=0)  # rounding alone


def test_preimage_undoes_a_map():
    field = 6 * gaussian(torch.randn(3, *FRAME.shape, generator=torch.Generator().manual_seed(3)), 6.0) / 0.05
    field = field * (6 / field.abs().max())

    def forward(points: torch.Tensor) -> torch.Tensor:
        return points + displacement_at(field, FRAME, points)

    torch.testing.assert_close(preimage(forward, forward(POINTS), POINTS, step_mm=1.0), POINTS, atol=2e-3, rtol=0)


# From patient coordinates to the working frame, and what is said about landmarks that cannot pull ---------------------

WORKING = Frame((64, 64, 64), (-60.0, -70.0, -50.0), (2.0, 2.0, 2.0))
ORIGIN = torch.tensor(WORKING.origin, dtype=torch.float64)


@pytest.mark.parametrize("bent", [False, True], ids=["affine", "bent"])
def test_goals_are_where_the_map_that_follows_needs_them(bent):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] = torch.tensor([[0.9, 0.2, 0, 10], [-0.2, 1.1, 0, -5], [0, 0.1, 1, 3]])
    base = AffineTransform(matrix.numpy())
    if bent:
        field = gaussian(torch.randn(3, 64, 64, 64, generator=torch.Generator().manual_seed(4)), 6.0)
        base = DisplacementTransform(5 * field / field.abs().max(), WORKING)
    targets = base.map_points(POINTS + ORIGIN + AWAY)
    found, warnings = landmarks_on(WORKING, POINTS + ORIGIN, targets, base, weight=1.0)
    torch.testing.assert_close(found.fixed, POINTS)
    torch.testing.assert_close(found.moving, POINTS + AWAY, atol=5e-3, rtol=0)
    assert warnings == [] and found.reach_mm == 30.0
    assert landmarks_on(WORKING, POINTS + ORIGIN, targets, base, weight=1.0, reach=0.5)[0].reach_mm == 15.0


def test_warnings_name_landmarks_by_number():
    identity = AffineTransform(torch.eye(4).numpy())
    points = torch.cat((POINTS, POINTS[:1] + 0.5, torch.tensor([[500.0, 0, 0]]).double())) + ORIGIN
    targets = points.clone()
    targets[3] += 5.0
    found, warnings = landmarks_on(WORKING, points, targets, identity, weight=1.0)
    assert len(found.fixed) == 4
    assert [w.split(":")[0] for w in warnings] == [
        "landmark 5 lies too far from the anatomy to pull; only measured",
        "landmarks 1 and 4 contradict each other",
    ]
    assert unmet([0.1, 1.9]) == []
    assert unmet([0.1, 2.5, 3.0])[0].startswith("landmarks 2 (2.5 mm), 3 (3.0 mm) could not")


@pytest.mark.parametrize("swapped", [False, True], ids=["fixed", "moving"])
def test_landmarks_that_lie_together_in_one_image_alone_contradict_each_other(swapped):
    """Whichever image it is; eight pairs are named, the others counted."""
    together = ORIGIN + torch.tensor([[60.0 + 0.25 * n, 60.0, 60.0] for n in range(5)]).double()
    apart = ORIGIN + torch.tensor([[40.0 + 10 * n, 60.0, 60.0] for n in range(5)]).double()
    identity = AffineTransform(torch.eye(4).numpy())
    points, targets = (apart, together) if swapped else (together, apart)
    _, (warning,) = landmarks_on(WORKING, points, targets, identity, weight=1.0)
    assert "landmarks 1 and 2, 1 and 3, 1 and 4, 1 and 5, 2 and 3" in warning
    assert "3 and 4 and 2 more pairs contradict" in warning


def test_eight_landmarks_are_named_and_the_others_counted():
    assert "8 (9.0 mm) and 2 more could not" in unmet([9.0] * 10)[0]
    assert unmet([9.0] * 8)[0].startswith("landmarks 1 (9.0 mm)") and "more could" not in unmet([9.0] * 8)[0]
    assert unmet([0.0, 9.0])[0].startswith("landmark 2 (9.0 mm) could")
    identity = AffineTransform(torch.eye(4).numpy())
    far = ORIGIN + torch.full((10, 3), 900.0).double()
    found, (warning,) = landmarks_on(WORKING, far, far, identity, weight=1.0)
    assert found is None and warning.startswith("landmarks 1, 2, 3, 4, 5, 6, 7, 8 and 2 more lie too far")


# On one node; between two on one axis; over many.
@pytest.mark.parametrize(
    ("place", "reach", "shape"), [(16.0, 1.9, (1, 1, 1)), (16.5, 1.9, (1, 1, 2)), (16.5, 9.0, None)]
)
@pytest.mark.parametrize("away", [(20.0, 0.0, 0.0), (12.0, -9.0, 8.0), (0.0, 0.0, -20.0)])
def test_no_velocity_is_steeper_than_what_cannot_fold(place, reach, shape, away):
    """Three tenths between neighbours, along every axis, and no less than that allows."""
    point = torch.tensor([[place, 16.0, 16.0]]).double()
    pull = Pull(Landmarks(point, point + torch.tensor([away]).double(), 1.0, reach_mm=reach), Grid((17, 18, 19), 2.0))
    velocity, start = pull.step(torch.zeros(3, 17, 18, 19))
    assert shape is None or (tuple(velocity.shape[1:]) == shape and start == (8, 8, 8))
    steepest = [velocity.diff(dim=axis).norm(dim=0) for axis in (1, 2, 3)]
    steepest = max((float(change.max()) for change in steepest if change.numel()), default=0.0)
    assert steepest == pytest.approx(0.0 if shape == (1, 1, 1) else 0.3, rel=1e-5)


def test_a_velocity_that_cannot_fold_is_left_as_it_is():
    """A landmark is carried as far as it should go, but for the ridge that averages landmarks close together."""
    away = torch.tensor([[0.6, 0.0, -0.8]]).double()
    pull = Landmarks(POINTS[:1], POINTS[:1] + away, 1.0)
    part, start = Pull(pull, FRAME).step(torch.zeros(3, *FRAME.shape))
    velocity = add_within(torch.zeros(3, *FRAME.shape), part, start)
    reached = displacement_at(FRAME.to_mm(velocity), FRAME, POINTS[:1])
    torch.testing.assert_close(reached, away / 1.02, atol=1e-4, rtol=0)


def test_what_is_near_a_landmark_goes_with_it_half_as_far_at_nine_millimetres_and_not_at_thirty():
    """And smoothly, to the second derivative: it is Wendland's function."""
    away = torch.tensor([0.0, 0.3, 9.0, 15.0, 30.0, 60.0]).double()
    carried = _kernel(away / 30)
    torch.testing.assert_close(carried, torch.tensor([1, 0.999, 0.528, 0.1875, 0, 0]).double(), atol=1e-3, rtol=0)
    near = _kernel(torch.tensor([0.0, 1e-3, 2e-3, 0.998, 0.999, 1.0]).double())
    assert float(near.diff()[:2].abs().max()) < 1e-4 and float(near.diff()[3:].abs().max()) < 1e-7


def test_the_penalty_is_the_weighted_mean_distance():
    pull = Landmarks(POINTS, POINTS + AWAY, weight=0.3)
    zero = torch.zeros(3, *FRAME.shape)
    assert pull.penalty(zero, FRAME) == pytest.approx(0.3 * 10 / 3, rel=0.02)
    assert replace(pull, moving=POINTS).penalty(zero, FRAME) == 0
