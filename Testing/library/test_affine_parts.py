"""The parts of an alignment on small images: what they measure, where they look, what they leave out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from SpikeRegLib.affine import _one_itk_thread, align, steps
from SpikeRegLib.affine.alignment_images import BINS, SEARCH_SAMPLES, AlignmentImages, _correlation
from SpikeRegLib.affine.evidence import Evidence
from SpikeRegLib.affine.matrices import angle_between, homogeneous
from SpikeRegLib.affine.reduced import Prepared, ReducedImage, _holes, find, prepare
from SpikeRegLib.affine.search import _quaternions, _rotation, search
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, set_frame
from SpikeRegLib.progress import Progress, silent
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import Transform

STEP = 0.1  # between voxels, in radii


def frame_around(shape: tuple[int, int, int], spacing: float = STEP) -> Frame:
    """Centred on the origin."""
    depth, height, width = shape
    return Frame(shape, *((-(width - 1) * spacing / 2, -(height - 1) * spacing / 2, -(depth - 1) * spacing / 2),
                          (spacing,) * 3))  # fmt: skip


def ball(shape: tuple[int, int, int], radius: float) -> torch.Tensor:
    """[D, H, W] bool, `radius` in voxels."""
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    return sum(axis.square() for axis in axes) < radius**2


def texture(shape: tuple[int, int, int], sigma: float, seed: int = 0) -> torch.Tensor:
    """Smooth noise, mean 0, deviation 1."""
    smooth = gaussian(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), sigma)
    return (smooth - smooth.mean()) / smooth.std()


def prepared(
    frame: Frame, contrast: torch.Tensor, foreground: torch.Tensor, known: torch.Tensor | None = None
) -> Prepared:
    blurred = (0.5 + 0.2 * contrast).clamp(0, 1) * foreground
    images = (set_frame(sitk.GetImageFromArray(image.numpy()), frame) for image in (contrast, blurred))
    return Prepared(*images, foreground.numpy(), None if known is None else known.numpy())


def information(a: np.ndarray, b: np.ndarray, low: float, high: float) -> float:
    """Mutual information in nats, written out."""
    both = np.histogram2d(*(np.clip(x, low, high) for x in (a, b)), BINS, [[low, high]] * 2)[0]
    both = both / both.sum()
    apart = both.sum(1, keepdims=True) * both.sum(0, keepdims=True)
    return float((both[both > 0] * np.log(both[both > 0] / apart[both > 0])).sum())


def between_bins(values: torch.Tensor) -> torch.Tensor:
    """Odd multiples of 1/32, which lie on no border between the bins."""
    return ((values * 16).round() + 0.5) / 16


SMALL = (12, 14, 16)


@pytest.fixture(scope="module")
def small() -> AlignmentImages:
    """Two images that agree in part; no more voxels around the foreground than the search samples."""
    first, second = (between_bins(1.2 * texture(SMALL, 1.0, seed)) for seed in (0, 1))
    frame, inside = frame_around(SMALL), ball(SMALL, 4.5)
    images = AlignmentImages(
        prepared(frame, first, inside), prepared(frame, between_bins(first + 0.7 * second), inside), 0
    )
    assert 500 < sitk.GetArrayFromImage(images.masks["blurred"]).sum() < SEARCH_SAMPLES
    return images


def values(images: AlignmentImages, name: str) -> tuple[np.ndarray, np.ndarray]:
    """An image of the fixed and one of the moving side, float64."""
    fixed, moving = (
        sitk.GetArrayFromImage(getattr(side, name)).astype(float) for side in (images.fixed, images.moving)
    )
    return fixed, moving


def test_mutual_information_counts_local_contrast_from_minus_two_to_two(small):
    fixed, moving = values(small, "contrast")
    expected = information(fixed[small.domain], moving[small.domain], -2, 2)
    assert small.similarity(np.eye(4), "mutual information") == pytest.approx(expected, rel=1e-9)


def test_correlation_is_that_of_the_domain_and_of_the_interior(small):
    fixed, moving = values(small, "contrast")
    for where, found in (
        (small.domain, small.similarity(np.eye(4), "correlation")),
        (small.interior, small.interior_correlation(np.eye(4))),
    ):
        assert found == pytest.approx(np.corrcoef(fixed[where], moving[where])[0, 1], abs=1e-6)
    assert small.interior.sum() < small.fixed.foreground.sum() < small.domain.sum()


@pytest.mark.parametrize("shift", [(0, 0, 0), (3, 0, 0), (0, -4, 1)])
def test_the_quick_measure_reads_the_nearest_voxels_and_background_beyond(small, shift):
    fixed, moving = values(small, "blurred")
    around = sitk.GetArrayFromImage(small.masks["blurred"]) > 0
    padded = np.pad(moving, 8)
    x, y, z = (8 + n for n in shift)
    seen = padded[z : z + SMALL[0], y : y + SMALL[1], x : x + SMALL[2]]
    expected = information(fixed[around], seen[around], 0, 1)
    found = small.quick_similarity(homogeneous(np.eye(3), np.array(shift) * STEP))
    assert found == pytest.approx(expected, rel=1e-3)


def test_what_the_moving_image_does_not_know_is_not_compared_unless_it_is_most_of_it():
    contrast, frame, inside = texture(SMALL, 1.0), frame_around(SMALL), ball(SMALL, 4.5)
    left = torch.arange(SMALL[2]).expand(SMALL)
    for columns, agrees in ((9, True), (4, False)):
        known = left < columns
        garbage = torch.where(known, contrast, texture(SMALL, 1.0, 5))
        images = AlignmentImages(prepared(frame, contrast, inside), prepared(frame, garbage, inside, known), 0)
        assert (images.similarity(np.eye(4), "correlation") > 0.999) is agrees


MEDIUM = (26, 28, 30)


def medium(shift: tuple[float, float, float], *, inverted: bool = False, seed: int = 0) -> AlignmentImages:
    """An image and itself, moved by `shift` radii."""
    frame, contrast, inside = frame_around(MEDIUM), texture(MEDIUM, 2.0), ball(MEDIUM, 9.5)
    moved = replace(frame, origin=tuple(np.add(frame.origin, shift)))
    return AlignmentImages(
        prepared(frame, contrast, inside), prepared(moved, -contrast if inverted else contrast, inside), seed
    )


@pytest.mark.parametrize(
    ("step", "measure", "inverted"),
    [
        ("rigid", "blurred", False),
        ("rigid", "correlation", False),
        ("rigid", "mutual information", True),
        ("similarity", "mutual information", True),
        ("affine", "correlation", False),
    ],
)
def test_every_step_finds_a_shift_by_its_measure(step, measure, inverted):
    shift = (0.12, -0.1, 0.08)
    found = steps.optimise(medium(shift, inverted=inverted), np.eye(4), step, measure, silent)
    np.testing.assert_allclose(found, homogeneous(np.eye(3), np.array(shift)), atol=0.03)


def test_a_step_looks_at_a_sample_that_follows_the_seed():
    with _one_itk_thread():
        found = [
            steps.optimise(medium((0.1, 0, 0), seed=seed), np.eye(4), "rigid", "blurred", silent) for seed in (0, 0, 1)
        ]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_the_orientations_of_the_search_are_turns_spread_over_all():
    quaternions = _quaternions(600)
    turns = np.stack([_rotation(q) for q in quaternions])
    np.testing.assert_allclose(turns, Rotation.from_quat(quaternions).as_matrix(), atol=1e-12)
    any_turns = Rotation.random(400, random_state=0).as_matrix()
    cosine = (np.einsum("aij,bij->ab", any_turns, turns).max(1) - 1) / 2
    assert np.degrees(np.arccos(cosine)).max() < 25


def test_a_turn_is_no_angle_away_from_itself_and_half_of_it_at_most_from_any_other():
    turns = [_rotation(q) for q in _quaternions(600)]
    assert max(angle_between(turn, turn) for turn in turns) < 1e-5  # although some traces round to more than three
    back = [turn @ np.diag([1.0, -1.0, -1.0]) for turn in turns]
    assert min(angle_between(*both) for both in zip(turns, back, strict=True)) > 179.99
    assert angle_between(np.eye(3), Rotation.from_rotvec([0, 0, 0.5]).as_matrix()) == pytest.approx(np.degrees(0.5))


def test_the_search_starts_from_the_headers_and_goes_on_with_what_may_win(monkeypatch):
    """An image turned by 120 degrees: the orientation is found; the other starts are not worth a closer look."""
    turn = Rotation.from_rotvec(np.radians(120) * np.array([0.6, 0.0, 0.8])).as_matrix()
    frame, contrast, inside = frame_around(MEDIUM), texture(MEDIUM, 2.0), ball(MEDIUM, 11)
    turned = replace(frame, origin=tuple(turn @ frame.origin), direction=tuple(turn.ravel()))
    images = AlignmentImages(prepared(frame, contrast, inside), prepared(turned, contrast, inside), 0)
    header = homogeneous(np.eye(3), np.array([0.3, -0.2, 0.1]))
    given: list[tuple[str, np.ndarray]] = []
    ended: list[float] = []
    optimise = steps.optimise

    def watched(images, start, step, measure, *rest):
        given.append((measure, start))
        found = optimise(images, start, step, measure, *rest)
        if measure == "blurred":
            ended.append(images.quick_similarity(found))
        return found

    monkeypatch.setattr(steps, "optimise", watched)
    heard: list[Progress] = []
    found = search(images, header, heard.append)
    np.testing.assert_allclose(found, homogeneous(turn), atol=0.05)
    coarse = [start for measure, start in given if measure == "blurred"]
    fine = [start for measure, start in given if measure == "mutual information"]
    assert np.array_equal(coarse[0], header) and np.array_equal(coarse[1][:3, :3], np.eye(3))
    # The better of the two that the headers suggest in any case, then only what reaches half of the best.
    assert images.quick_similarity(fine[0]) == pytest.approx(max(ended[:2]))
    assert all(images.quick_similarity(start) >= 0.5 * max(ended) for start in fine[1:]) and max(ended) > 3 * ended[0]
    fractions = [progress.fraction for progress in heard]
    assert fractions[0] == 0.2 and fractions == sorted(fractions) and fractions[-1] <= 0.5 + 1e-9


BODY = (44, 48, 40)


def body(frame: Frame | None = None) -> Volume:
    """A ball of tissue between 50 and 100, on an empty background, in voxels of 4 mm."""
    tissue = (75 + 10 * texture(BODY, 2.0)).clamp(50, 100)
    return Volume(torch.where(ball(BODY, 15), tissue, torch.zeros(())), frame or frame_around(BODY, 4.0))


@pytest.fixture(scope="module")
def found() -> ReducedImage:
    return find(body(), None, "image")


def test_the_foreground_is_measured_in_millimetres(found):
    assert found.radius == pytest.approx(60 * math.sqrt(3 / 5), rel=0.02)
    assert found.volume == pytest.approx(4 / 3 * math.pi * 60**3, rel=0.02)
    np.testing.assert_allclose(found.centre, 0, atol=1e-6)
    np.testing.assert_allclose(found.box, [[-58] * 3, [58] * 3], atol=2.1)
    assert not found.cut


@pytest.mark.parametrize("side", ["first", "last"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_anatomy_that_goes_on_beyond_any_face_is_cut_and_behind_an_empty_layer_is_not(axis, side):
    data = body().data
    data = data.narrow(axis, *((0, BODY[axis] // 2) if side == "last" else (BODY[axis] // 2, BODY[axis] // 2))).clone()
    faces = [[False, False] for _ in range(3)]
    for empty in (False, True):
        if empty:
            data.narrow(axis, 0 if side == "first" else data.shape[axis] - 1, 1).zero_()
        image = find(Volume(data, frame_around(tuple(data.shape), 4.0)), None, "image")
        faces[2 - axis][side == "last"] = not empty
        assert image.cut is not empty
        assert [list(face) for face in image.faces] == faces


def test_where_the_view_cuts_the_anatomy_there_is_no_edge_in_its_contrast():
    """The contrast is what it is in the whole image, but for what lies next to the cut, where less is seen."""
    whole, cut = body(), body().data[: BODY[0] // 2]
    half = Volume(cut, replace(whole.frame, shape=tuple(cut.shape)))
    images = [find(image, None, "image") for image in (whole, half)]
    contrasts = []
    for image in images:
        contrast = prepare(replace(image, centre=images[0].centre), 60.0).contrast
        place = sitk.Image(24, 24, 12, sitk.sitkUInt8)  # millimetres below the cut and next to it, in radii
        place.SetOrigin((-0.6, -0.6, -0.6))
        place.SetSpacing((0.05, 0.05, 0.05))
        contrasts.append(sitk.GetArrayFromImage(sitk.Resample(contrast, place)))
    assert contrasts[0].std() > 0.3
    assert np.corrcoef(contrasts[0][:6].ravel(), contrasts[1][:6].ravel())[0, 1] > 0.95
    assert np.corrcoef(contrasts[0].ravel(), contrasts[1].ravel())[0, 1] > 0.9


def test_a_mask_says_where_the_anatomy_ends_so_that_nothing_is_cut():
    half = Volume(body().data[: BODY[0] // 2], frame_around((BODY[0] // 2, *BODY[1:]), 4.0))
    found = find(half, replace(half, data=half.data > 0), "image")
    assert not found.cut and not any(face for faces in found.faces for face in faces)


def test_what_is_left_out_does_not_scale_the_intensities(found):
    metal = ball(BODY, 15) & (torch.arange(BODY[2]) < 14)
    image = body()
    broken = replace(image, data=torch.where(metal, torch.tensor(900.0), image.data))
    marked = find(broken, None, "image", replace(image, data=metal.to(torch.uint8)))
    rest = (ball(BODY, 15) & ~metal).numpy()
    np.testing.assert_allclose(
        *(sitk.GetArrayFromImage(anatomy.intensity)[rest] for anatomy in (marked, found)), atol=0.05
    )


def test_a_constant_image_is_refused_and_named():
    flat = Volume(torch.ones(BODY), frame_around(BODY, 4.0), "flat.nii.gz")
    with pytest.raises(InputError, match=r"flat\.nii\.gz: the image is constant"):
        find(flat, None, "image")


def test_holes_are_what_was_cut_out_of_a_mask():
    whole, hole = ball(BODY, 15), ball(BODY, 5)
    assert not _holes(whole.numpy()).any()
    cut_out = _holes((whole & ~hole).numpy())
    assert (cut_out & ~hole.numpy()).sum() == 0 and cut_out.sum() > 0.7 * int(hole.sum())


def test_a_brain_is_compared_in_voxels_of_three_millimetres_a_part_of_it_in_two(found):
    adult_mm = 54.5
    spacings = [prepare(found, found.radius, in_part=part).contrast.GetSpacing()[0] for part in (False, True)]
    np.testing.assert_allclose(np.array(spacings) * adult_mm, [3, 2], rtol=0.05)


def test_gradients_agree_at_the_right_pose_whatever_their_sign_and_not_at_all_far_away(found):
    negative = replace(found, intensity=1.0 - found.intensity)
    turned = homogeneous(Rotation.from_rotvec([0.0, 0.0, 0.5]).as_matrix())
    far = homogeneous(np.eye(3), np.array([1000.0, 0, 0]))
    for other in (found, negative):
        evidence = Evidence(found, other, found.radius, 0, nested=False)
        assert evidence.agreement(np.eye(4)).mean() > 0.5 > 0.05 + evidence.agreement(turned).mean()
        assert np.abs(evidence.agreement(far)).max() == 0
        assert evidence.clearly_better(np.eye(4), turned) and not evidence.clearly_better(turned, np.eye(4))
        assert not evidence.clearly_better(np.eye(4), np.eye(4))


def test_one_contrast_is_compared_by_correlation_another_by_mutual_information():
    image = body()
    other = replace(image, data=torch.where(ball(BODY, 15), 150 - image.data, torch.zeros(())))
    start = Transform.identity()
    measures = [align(image, moving, model="rigid", initial=start).measure for moving in (image, other)]
    assert measures == ["correlation", "mutual information"]


def test_an_agreement_does_not_depend_on_the_unit_of_the_intensities(small):
    random = np.random.default_rng(0)
    first, second = random.normal(size=500), random.normal(size=500)
    expected = np.corrcoef(first, second)[0, 1]
    for scale in (1e-4, 1.0, 1e4):
        assert _correlation(scale * first, scale * second) == pytest.approx(expected, rel=1e-6)
    assert _correlation(first, np.ones(500)) == 0


@pytest.mark.parametrize("smaller", ["fixed", "moving"])
def test_the_smaller_of_two_images_is_looked_for_in_the_larger_whichever_it_is(smaller):
    whole, shift = body(), np.array([6.0, -4.0, 3.0])
    inner = replace(whole, data=torch.where(ball(BODY, 11), whole.data, torch.zeros(())))
    moved = replace(whole.frame, origin=tuple(np.add(whole.frame.origin, shift)))
    fixed, moving = (inner, whole) if smaller == "fixed" else (whole, inner)
    found = align(fixed, replace(moving, frame=moved), model="rigid", initial=Transform.identity())
    np.testing.assert_allclose(found.transform.matrix[:3, 3], shift, atol=0.8)
    np.testing.assert_allclose(found.transform.matrix[:3, :3], np.eye(3), atol=0.02)


class Landscape:
    """What a search sees of two images, for poses that it can tell apart: scores, and none gained by a refinement."""

    nested = False

    def __init__(self, header: np.ndarray, *, header_score: float, centre_score: float) -> None:
        self.header, self.header_score, self.centre_score = header, header_score, centre_score

    def quick_similarity(self, matrix: np.ndarray) -> float:
        if np.array_equal(matrix, self.header):
            return self.header_score
        return self.centre_score if np.array_equal(matrix[:3, :3], np.eye(3)) else 1.0

    def similarity(self, matrix: np.ndarray, measure: str) -> float:
        return self.centre_score - self.quick_similarity(matrix)


@pytest.mark.parametrize(("score", "looked_at"), [(0.985, True), (0.97, False)])
def test_of_starts_that_are_as_good_as_equal_those_of_the_headers_get_a_closer_look(monkeypatch, score, looked_at):
    """Within two percent. Five others are better, and four in all are looked at."""
    header = homogeneous(np.eye(3), np.array([0.3, 0.0, 0.0]))
    looked: list[np.ndarray] = []
    monkeypatch.setattr(steps, "optimise", lambda images, start, step, measure, heard: looked.append(start) or start)
    heard: list[Progress] = []
    search(Landscape(header, header_score=0.99, centre_score=score), header, heard.append)
    fine = looked[7:]
    assert len(fine) == 4 and np.array_equal(fine[0], header)
    assert any(np.array_equal(start, np.eye(4)) for start in fine) is looked_at
    searching = [progress.fraction for progress in heard if progress.message == "searching the orientation"]
    assert searching[0] == 0.2 and 0 < np.diff(searching).max() <= 0.1 / 30 + 1e-9 and searching[-1] > 0.296
    assert len(searching) < 40
