"""What is left out of an image, and what lies beyond its field of view, counts in no stage of a registration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import brains
import numpy as np
import pytest
import torch

from SpikeRegLib.affine import align
from SpikeRegLib.cli import main
from SpikeRegLib.commands.requests import Request, Understanding
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume, foreground_mask
from SpikeRegLib.pipeline import register
from SpikeRegLib.space.transforms import Transform, warp_image

RADIUS_MM = 15.0


def places(volume: Volume) -> torch.Tensor:
    """[D, H, W, 3] LPS mm of the voxel centres."""
    index = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in volume.data.shape), indexing="ij"), -1)
    matrix = torch.from_numpy(volume.frame.matrix)
    return index.flip(-1) @ matrix[:3, :3].t() + matrix[:3, 3]


def ball(volume: Volume, centre: torch.Tensor) -> Volume:
    inside = (places(volume) - centre).norm(dim=-1) < RADIUS_MM
    return Volume(inside.to(torch.int16), volume.frame, "lesion.nii.gz")


def ruined(volume: Volume, where: Volume, seed: int) -> Volume:
    """With dark, noisy tissue where there was healthy one."""
    noise = 20 + 30 * torch.rand(volume.data.shape, generator=torch.Generator().manual_seed(seed))
    return replace(volume, data=torch.where(where.data > 0, noise * (1 + seed), volume.data))


@pytest.fixture(scope="module")
def lesion(known, quick):
    """A lesion near where the deformation is largest, in the moving image, and the run without it."""
    centre = known.points.mean(0) + torch.tensor([25.0, -20.0, 25.0], dtype=torch.float64)
    where = ball(known.moving, known.truth.map_points(centre[None])[0])
    where = replace(where, data=where.data * foreground_mask(known.moving))
    return where, register(known.fixed, known.moving, **how(known, quick))


def how(known, quick) -> dict[str, Any]:
    """From the rigid part of the truth on, which takes the second of an alignment."""
    return {"preset": quick, "threads": 1, "device": "cpu", "initial_transform": known.truth.transforms[1]}


def options(kind: str, side: str, image: Volume, where: Volume) -> dict[str, Volume]:
    if kind == "leave_out":
        return {f"{side}_leave_out": where}
    counts = foreground_mask(image) & (where.data == 0)
    return {f"{side}_mask": replace(where, data=counts.to(torch.int16))}


@pytest.fixture(scope="module")
def ignored(known, lesion, quick):
    """The run in which nothing says that there is a lesion."""
    return register(known.fixed, ruined(known.moving, lesion[0], 0), **how(known, quick))


@pytest.mark.parametrize("kind", ["leave_out", "mask"])
def test_a_lesion_that_is_left_out_keeps_its_volume_and_its_surroundings(known, lesion, ignored, quick, kind):
    where, healthy = lesion
    masks = options(kind, "moving", known.moving, where)
    found = register(known.fixed, ruined(known.moving, where, 0), **how(known, quick), **masks)
    grown = {
        name: float(warp_image(replace(where, data=where.data.float()), run.transform, known.fixed.frame).data.sum())
        for name, run in (("found", found), ("healthy", healthy))
    }
    assert grown["found"] == pytest.approx(grown["healthy"], rel=0.15)
    points = brains.brain_points(known.fixed, 20_000)
    there = healthy.transform.map_points(points)
    centre = places(known.moving)[where.data > 0].mean(0)
    distance = (there - centre).norm(dim=1) - RADIUS_MM
    wrong = (found.transform.map_points(points) - there).norm(dim=1)
    assert float(wrong[(distance > 0) & (distance < 10)].mean()) < 0.7
    worse = (ignored.transform.map_points(points) - there).norm(dim=1)  # what the mask is there for
    assert float(worse[distance < 10].mean()) > 2 * float(wrong[distance < 10].mean())


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_lesion_that_is_left_out_does_not_shift_the_alignment(side):
    """Of two subjects, so that the pose depends on what is compared: nothing but the lesion may be lost."""
    images = {name: brains.sample(name) for name in ("fixed", "moving")}
    centre = brains.brain_points(images[side]).mean(0) + torch.tensor([30.0, -20.0, 20.0])
    where = ball(images[side], centre)
    ill: dict[str, Any] = {**images, side: ruined(images[side], where, 0), f"{side}_left_out": where}
    runs = [align(**pair).transform.map_points(brains.brain_points(images["fixed"])) for pair in (images, ill)]
    assert 0 < float((runs[1] - runs[0]).norm(dim=1).max()) < 0.5


CUTS = {"sagittal": (2, 0.3, 0.7), "above": (0, 0.0, 0.72), "below": (0, 0.28, 1.0), "front": (1, 0.25, 1.0)}


def part(volume: Volume, kind: str) -> Volume:
    """What is left of a volume cut across the brain."""
    axis, begin, end = CUTS[kind]
    there = foreground_mask(volume).movedim(axis, 0).flatten(1).any(1).nonzero()[:, 0]
    first, last = int(there[0]), int(there[-1]) + 1
    low = first + round(begin * (last - first)) if begin > 0 else 0
    high = first + round(end * (last - first)) if end < 1 else volume.data.shape[axis]
    index = np.zeros(4)
    index[2 - axis], index[3] = low, 1
    x, y, z = (float(v) for v in (volume.frame.matrix @ index)[:3])
    data = volume.data.narrow(axis, low, high - low).contiguous()
    depth, height, width = data.shape
    return replace(volume, data=data, frame=replace(volume.frame, shape=(depth, height, width), origin=(x, y, z)))


def shown(seen: Volume, points: torch.Tensor) -> torch.Tensor:
    lower, upper = (torch.from_numpy(v) for v in (seen.frame.corners().min(0), seen.frame.corners().max(0)))
    return ((points >= lower) & (points <= upper)).all(-1)


@pytest.fixture(scope="module")
def slab(known, quick):
    """The upper part of a brain cut off, and a sagittal slab of the same one."""
    pair = part(known.fixed, "above"), part(known.fixed, "sagittal")
    return pair, register(*pair, preset=quick, threads=1, device="cpu")


@pytest.fixture(scope="module")
def spoilt(known):
    """Where bright noise lies in the fixed image of `corner`."""
    seen = part(known.fixed, "front")
    middle = places(known.fixed)[foreground_mask(known.fixed)].mean(0)
    return ball(seen, middle + torch.tensor([25.0, 0.0, 10.0]))


@pytest.fixture(scope="module")
def corner(known, spoilt, quick):
    """The front cut off and noise left out, and the lower part; the alignment goes on from the headers."""
    pair = ruined(part(known.fixed, "front"), spoilt, 3), part(known.fixed, "below")
    start = {"initial_transform": Transform.identity(), "align": True}
    return pair, register(*pair, preset=quick, threads=1, device="cpu", fixed_leave_out=spoilt, **start)


@pytest.mark.parametrize("name", ["slab", "corner"])
def test_two_parts_of_an_image_stay_where_they_are(known, name, request):
    (fixed, moving), run = request.getfixturevalue(name)
    points = places(known.fixed)[foreground_mask(known.fixed)]
    moved = (run.transform.map_points(points) - points).norm(dim=1)
    inside = shown(fixed, points) & shown(moving, points)
    assert 0.2 < float(inside.double().mean()) < 0.8
    assert float(moved[inside].mean()) <= 0.1
    assert float(moved[inside].quantile(0.99)) <= 0.5
    assert float(moved[~inside].max()) < 3.0


def test_what_is_left_out_of_the_fixed_image_has_no_say(corner, spoilt):
    (fixed, _), run = corner
    points = places(fixed)[spoilt.data > 0]
    assert float(fixed.data[spoilt.data > 0].mean()) > 120
    assert float((run.transform.map_points(points) - points).norm(dim=1).mean()) < 0.1


def test_outside_the_field_of_view_a_deformation_fades_into_the_alignment(known, lesion, quick):
    """The other image's upper part: inside it is aligned as well as by the whole; far below, nothing is made up."""
    seen = part(known.moving, "below")
    runs = [lesion[1], register(known.fixed, seen, **how(known, quick))]
    points = places(known.fixed)[foreground_mask(known.fixed)]
    truth = known.truth.map_points(points)
    floor = float(seen.frame.corners().min(0)[2])
    inside, far = truth[:, 2] > floor + 6, truth[:, 2] < floor - 25
    errors = [(run.transform.map_points(points) - truth).norm(dim=1) for run in runs]
    assert float(errors[1][inside].mean()) < 1.3 * float(errors[0][inside].mean())
    deformation = runs[1].transform.transforms[0]
    assert float((deformation.map_points(points[far]) - points[far]).norm(dim=1).mean()) < 1.0


def test_too_little_in_common_is_no_good_result(slab):
    _, run = slab
    known_percent = run.result["similarity"]["known_percent"]
    assert 30 < known_percent < 60
    assert run.result["verdict"]["level"] == "check"
    assert any(
        f"only {known_percent:.0f} % of the fixed anatomy" in reason for reason in run.result["verdict"]["reasons"]
    )


def test_leaving_out_everything_is_refused(known, quick):
    everything = Volume(torch.ones(known.fixed.data.shape, dtype=torch.int16), known.fixed.frame, "all.nii.gz")
    with pytest.raises(InputError, match=r"all\.nii\.gz: it leaves out all of the anatomy"):
        register(known.fixed, known.moving, preset=quick, fixed_leave_out=everything)


def test_a_leave_out_mask_on_another_grid_is_refused(known, quick):
    other = ball(part(known.moving, "below"), known.points.mean(0))
    with pytest.raises(InputError, match=r"lesion\.nii\.gz: the mask of what is left out is on another grid"):
        register(known.fixed, known.moving, preset=quick, moving_leave_out=other)


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_command_and_worker_hand_the_mask_of_what_is_left_out_on(side, tmp_path, capsys):
    images = [str(brains.SAMPLE / f"{name}.nii.gz") for name in ("fixed", "moving")]
    absent = str(tmp_path / "absent.nii.gz")
    assert main(["register", *images, "--out", str(tmp_path / "out"), f"--{side}-leave-out", absent]) == 2
    assert "absent.nii.gz" in capsys.readouterr().err
    table = {"id": "1", "fixed": images[0], "moving": images[1], "out": "out", f"{side}_leave_out": absent}
    request = Understanding()(table)
    assert isinstance(request, Request) and str(getattr(request.options, f"{side}_leave_out")) == absent


def test_bright_electrodes_on_the_surface_do_not_move_what_is_deep(known, lesion, quick):
    """A hundredth of the head four times as bright as the rest, on its surface."""
    _, healthy = lesion
    inside = foreground_mask(known.moving)
    core = torch.nn.functional.max_pool3d((~inside)[None].float(), 5, stride=1, padding=2)[0] < 0.5
    drawn = torch.rand(inside.shape, generator=torch.Generator().manual_seed(0)) < 0.05
    brightest = 4 * float(known.moving.data.max())
    moving = replace(known.moving, data=torch.where(inside & ~core & drawn, brightest, known.moving.data))
    assert 0.005 < float((moving.data == brightest).sum()) / float(inside.sum()) < 0.03
    found = register(known.fixed, moving, **how(known, quick))
    points = brains.brain_points(known.fixed, 20_000)
    deep = points[(points - points.mean(0)).norm(dim=1) < 35]
    apart = (found.transform.map_points(deep) - healthy.transform.map_points(deep)).norm(dim=1)
    assert float(apart.mean()) < 0.3
