"""Whole heads and images of them: the right place, the right side, and classes that lie where the image shows them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from whole_heads import GRID, label_map, write

from SpikeRegLib.anatomy.structures import CLASS_OF, CLASSES, LABELS, MIRRORED, OUTSIDE, mirrored_classes
from SpikeRegLib.errors import InputError
from SpikeRegLib.training.structures.heads import CODES, WholeHead, code_table, load_heads
from SpikeRegLib.training.structures.images import HeadGenerator, HeadOptions

STILL = HeadOptions(
    shape=(40, 44, 40), rotation_degrees=0.0, most_degrees=0.0, scale=0.0, shear=0.0, shift_mm=0.0, elastic_mm=0.0,
    ventricle_mm=0.0, stripped=0.0, cut=0.0, lesions=0.0, thick_slices=0.0, bias=0.0, noise=0.0,
)  # fmt: skip
BENT = dataclasses.replace(
    STILL, rotation_degrees=10.0, most_degrees=20.0, scale=0.1, shear=0.04, shift_mm=4.0, elastic_mm=1.5
)


@pytest.fixture(scope="module")
def a_head(tmp_path_factory) -> WholeHead:
    return load_heads([write(tmp_path_factory.mktemp("maps") / "a.nii.gz")], GRID)[0]


def test_a_head_is_read_alike_however_its_voxels_are_ordered(a_head, tmp_path):
    other = load_heads([write(tmp_path / "b.nii.gz", permuted=True)], GRID)[0]
    assert torch.equal(a_head.codes, other.codes)


def test_every_label_has_a_code_and_the_head_holds_them_all(a_head):
    table = code_table()
    assert [table[label] for label in LABELS] == list(range(1, CLASSES))
    assert [table[label] for label in OUTSIDE] == list(range(CLASSES, CODES))
    assert set(a_head.codes.unique().tolist()) == {0, *range(1, CLASSES), CLASSES, CLASSES + 1}
    assert table[25] == CLASS_OF[2] and table[85] == 0


def test_distance_is_negative_in_the_brain_and_grows_by_millimetres(a_head):
    brain = torch.nn.functional.avg_pool3d(((a_head.codes > 0) & (a_head.codes < CLASSES))[None].float(), 2)[0] == 1
    assert float(a_head.distance[20, 22, 20]) < -10
    line = a_head.distance[20, 22].float()
    assert bool((line[~brain[20, 22]] > -4).all())
    assert torch.allclose(line[-4:].diff(), torch.full((3,), 2.0), atol=0.35)


@pytest.mark.parametrize("spoiled, words", [("outside", "no labels around the brain"), ("lacking", "lacks the labels")])
def test_maps_that_cannot_train_are_refused(spoiled, words, tmp_path):
    labels = label_map()
    labels[labels >= 500 if spoiled == "outside" else labels == 17] = 0
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "bad.nii.gz"))
    with pytest.raises(InputError, match=words):
        load_heads([tmp_path / "bad.nii.gz"], GRID)


def test_the_same_step_gives_the_same_image_and_another_another(a_head):
    first, second = (HeadGenerator([a_head], options=BENT, seed=3) for _ in range(2))
    assert torch.equal(first.image(5).image, second.image(5).image)
    assert torch.equal(first.image(5).classes, second.image(5).classes)
    assert not torch.equal(first.image(5).image, first.image(6).image)


@pytest.mark.parametrize("options", [STILL, BENT])
def test_left_stays_on_its_side_also_in_mirrored_heads(a_head, options):
    """Half of the images are mirrored; what is called left in them is what lies on the left."""
    generator = HeadGenerator([a_head], options=options, seed=1)
    side = {}
    for label in (2, 3, 17):
        where = (a_head.codes == CLASS_OF[label]).nonzero()[:, 2].float().mean() - (GRID[2] - 1) / 2
        side[label] = float(where.sign())
    for step in range(4):
        classes = generator.image(step).classes
        for label, sign in side.items():
            left, right = (
                (classes == CLASS_OF[code]).nonzero()[:, 2].float().mean() for code in (label, MIRRORED[label])
            )
            assert (left - right).sign() == sign


def unexplained(image: torch.Tensor, classes: torch.Tensor) -> float:
    """Variance of an image about the means of its classes, inside all of them."""
    inside = classes > 0
    count = torch.bincount(classes[inside], minlength=CLASSES).clamp_min(1)
    mean = torch.zeros(CLASSES).index_add(0, classes[inside], image[inside]) / count
    return float((image[inside] - mean[classes[inside]]).var())


@pytest.mark.parametrize("options", [STILL, BENT])
def test_classes_lie_where_the_image_shows_them(a_head, options):
    """Moved by one voxel in any direction they explain the image worse."""
    generator = HeadGenerator([a_head], options=options, seed=2)
    for step in range(2):
        drawn = generator.image(step)
        image, classes = drawn.image[0, 0], drawn.classes
        moved = [unexplained(image, classes.roll(by, axis)) for axis in range(3) for by in (-1, 1)]
        assert unexplained(image, classes) < 0.9 * min(moved)


def test_a_stripped_image_holds_nothing_far_from_the_brain(a_head):
    whole = HeadGenerator([a_head], options=STILL, seed=4)
    stripped = HeadGenerator([a_head], options=dataclasses.replace(STILL, stripped=1.0), seed=4)
    far = a_head.distance > 12
    assert float(stripped.image(0).image[0, 0][far].max()) == 0
    assert float(whole.image(0).image[0, 0][far].max()) > 0


def test_nothing_is_named_where_the_field_of_view_is_cut(a_head):
    cut = HeadGenerator([a_head], options=dataclasses.replace(STILL, cut=1.0), seed=5)
    whole = HeadGenerator([a_head], options=STILL, seed=5)
    fewer = 0
    for step in range(3):
        drawn = cut.image(step)
        for axis in range(3):
            empty = torch.tensor([not bool(part.any()) for part in drawn.image[0, 0].unbind(axis)])
            assert not bool(drawn.classes.movedim(axis, 0)[empty].any())
        fewer += int((drawn.classes > 0).sum()) < int((whole.image(step).classes > 0).sum())
    assert fewer > 0


def test_mirroring_classes_twice_changes_nothing_and_the_middle_never():
    other = np.array(mirrored_classes())
    assert (other[other] == np.arange(CLASSES)).all()
    assert [other[CLASS_OF[label]] for label in (14, 15, 16, 24)] == [CLASS_OF[label] for label in (14, 15, 16, 24)]
    assert other[CLASS_OF[2]] == CLASS_OF[41] and other[0] == 0
