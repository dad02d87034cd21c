"""A region limits the refinement: the same to the bit outside, smooth at its edge, free inside."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.landmarks import landmarks_on
from SpikeRegLib.pipeline.region import read_region, region_on
from SpikeRegLib.refinement import region as region_module
from SpikeRegLib.refinement.landmarks import Landmarks, displacement_at
from SpikeRegLib.refinement.refine import Level, RefinementSchedule, refine
from SpikeRegLib.refinement.region import Region
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.folds import smallest_jacobian
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.transforms import AffineTransform

FRAME = Grid((64, 64, 64), 2.0)
SCHEDULE = RefinementSchedule((Level.usual(4.0, 5), Level.usual(2.0, 4)))


def noise(sigma: float, seed: int, *shape: int) -> torch.Tensor:
    smooth = gaussian(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), sigma)
    return smooth / smooth.abs().max()


@pytest.fixture(scope="module")
def pair():
    """(fixed, moving, start): the start is a field that the images do not agree with."""
    moving = (0.5 + 0.5 * noise(2.0, 1, 64, 64, 64)).clamp(0, 1)
    fixed = warp(moving[None, None], 3 * noise(6.0, 2, 1, 3, 64, 64, 64))[0, 0]
    return fixed, moving, 3 * noise(6.0, 3, 3, 64, 64, 64)


@pytest.fixture(scope="module")
def box() -> torch.Tensor:
    inside = torch.zeros(64, 64, 64, dtype=torch.bool)
    inside[12:52, 14:50, 10:54] = True
    return inside


@pytest.mark.parametrize("landmark", [False, True], ids=["images", "with a landmark"])
def test_the_field_outside_is_the_same_to_the_bit_and_inside_it_improves(pair, box, landmark):
    fixed, moving, start = pair
    settings = {"spacing_mm": 2.0, "schedule": SCHEDULE}
    before = refine(fixed, moving, initial=start, spacing_mm=2.0, schedule=RefinementSchedule(()))
    here = torch.tensor([[64.0, 64.0, 64.0]], dtype=torch.float64)
    pull = Landmarks(here, here + 4.0, 10.0) if landmark else None
    after = refine(fixed, moving, initial=before.field, initial_grid=before.grid, region=Region(box, FRAME),
                   landmarks=pull, **settings)  # fmt: skip
    assert after.accepted
    # On the voxels of the image, not only on the nodes of the field.
    fields = [resample(r.field, r.grid, FRAME) for r in (before, after)]
    assert torch.equal(*(field[:, ~box] for field in fields))
    assert float((fields[1] - fields[0]).norm(dim=0)[box].max()) > 2
    assert float(smallest_jacobian(after.field / after.grid.spacing_mm).min()) > 0.04
    if pull is not None:
        assert float(pull.distances_mm(after.field, after.grid)) < 0.2


def test_changes_fade_in_from_the_edge(box):
    for grid in (FRAME, FRAME.coarser(4.0)):
        region = Region(box, FRAME)
        weight = region.weight_on(grid)
        ratio = round(grid.spacing_mm / 2)
        nodes = box[::ratio, ::ratio, ::ratio]
        assert float(weight[: len(nodes), : nodes.shape[1], : nodes.shape[2]][~nodes].abs().max()) == 0
        centre = weight[:, 32 // ratio, 32 // ratio]
        assert float(centre.max()) == 1 and float(centre.diff().abs().max()) < 0.8
        rising = centre[: len(centre) // 2].diff()
        assert bool((rising >= 0).all())


def test_a_thin_region_changes_nothing(pair):
    fixed, moving, _ = pair
    thin = torch.zeros(64, 64, 64, dtype=torch.bool)
    thin[30:33, 20:40, 20:40] = True
    region = Region(thin, FRAME)
    found = refine(fixed, moving, spacing_mm=2.0, schedule=SCHEDULE, region=region)
    assert float(found.field.abs().max()) == 0
    assert region.thinnest_mm(found.grid) > 20


OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 3.0), (2.5, 2.5, 2.5)])
def test_no_voxel_outside_the_mask_is_inside_on_the_working_frame(spacing):
    given = Frame((40, 40, 40), (-10.0, 5.0, -30.0), spacing, OBLIQUE)
    mask = (noise(4.0, 5, 40, 40, 40) > 0.1).short()
    working = Frame((48, 48, 48), (-60.0, -20.0, -40.0), (2.0, 2.0, 2.0))
    weight = region_on(working, Volume(mask, given)).weight_on(Grid(working.shape, 2.0))
    outside = (mask == 0).nonzero().flip(1).double()
    matrix = torch.from_numpy(given.matrix)
    points = outside @ matrix[:3, :3].t() + matrix[:3, 3] - torch.tensor(working.origin, dtype=torch.float64)
    field = weight[None].expand(3, -1, -1, -1)
    within = ((points >= 0) & (points <= 94)).all(1)
    assert int(within.sum()) > 1000
    assert float(displacement_at(field, Grid(working.shape, 2.0), points[within]).abs().max()) == 0


@pytest.mark.parametrize("unit", [0.25, 3.0])
def test_a_region_and_its_edge_scale_with_the_unit_of_length(unit):
    mask = torch.zeros(32, 32, 32, dtype=torch.short)
    mask[4:28, 4:28, 4:28] = 1
    weights = []
    for scale in (1.0, unit):
        frame = Frame((32, 32, 32), (0.0, 0.0, 0.0), (2 * scale, 2 * scale, 2 * scale))
        region = region_on(frame, Volume(mask, frame), scale=scale)
        weights.append(region.weight_on(Grid(frame.shape, 2 * scale)))
    assert float(weights[0].max()) == 1 and bool(((weights[0] > 0.1) & (weights[0] < 0.9)).any())
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-5)


def test_a_landmark_outside_the_region_is_named_and_left_out(box):
    working = Frame((64, 64, 64), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    points = torch.tensor([[64.0, 64.0, 64.0], [10.0, 64.0, 64.0]], dtype=torch.float64)
    identity = AffineTransform(torch.eye(4).numpy())
    found, warnings = landmarks_on(working, points, points, identity, weight=1.0, region=Region(box, FRAME))
    assert found.fixed.tolist() == points[:1].tolist()
    assert warnings == ["landmark 2 lies outside the region or at its edge; only measured"]


@pytest.mark.parametrize(
    ("data", "frame", "remedy"),
    [(torch.zeros(16, 16, 16), Frame((16, 16, 16)), "mark where to refine"),
     (torch.ones(16, 16, 17), Frame((16, 16, 17)), "resample it onto that image")],
)  # fmt: skip
def test_a_region_that_cannot_be_used_is_refused_with_a_remedy(data, frame, remedy):
    image = Volume(torch.rand(16, 16, 16), Frame((16, 16, 16)))
    with pytest.raises(InputError, match=remedy):
        read_region(Volume(data.short(), frame, "region.nii.gz"), image)


def test_a_change_is_whole_six_millimetres_inside_what_may_move_and_not_before():
    inside = torch.zeros(40, 40, 40, dtype=torch.bool)
    inside[5:35, 5:35, 5:35] = True
    weight = Region(inside, Grid((40, 40, 40), 1.0)).weight_on(Grid((40, 40, 40), 1.0))[20, 20]
    moves = int((weight > 0).nonzero()[0])
    assert not weight[:moves].any() and bool((weight[moves + 5 : 20] == 1).all()) and 0.9 < float(weight[moves + 4]) < 1
    assert float(weight[moves]) == pytest.approx(3 / 6**2 - 2 / 6**3)


@pytest.mark.parametrize(("most", "share"), [(1.0, 1.0), (0.8, 0.75), (0.6, 0.5), (0.3, 0.25), (0.1, 0.0)])
def test_a_change_that_folds_at_the_edge_is_made_as_small_as_it_takes(monkeypatch, most, share):
    """Where mending does not help: of the start, no more than this is left behind."""
    monkeypatch.setattr(
        region_module, "remove_folds", lambda field, *, linear: (field, int(float(field.abs().max()) > most))
    )
    inside = torch.zeros(4, 5, 6, dtype=torch.bool)
    inside[1:3, 1:4, 2:5] = True
    start, field = torch.zeros(3, 4, 5, 6), torch.full((3, 4, 5, 6), -1.0)
    found = region_module.changed_only_inside(inside, field, start)
    assert torch.equal(found, torch.where(inside, share * field, start))
