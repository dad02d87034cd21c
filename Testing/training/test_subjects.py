"""Label maps in the common space, whatever the header says: shares, distances and pushes mean what they say."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SpikeRegLib.anatomy.structures import CSF, FOLDED, LABELS, MIRRORED, VENTRICLES
from SpikeRegLib.errors import InputError
from SpikeRegLib.training.subjects import SHAPE, SPACING_MM, Subject, _common_centroids, fold_labels, load_subjects

DATA = Path(os.environ.get("SPIKEREG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
MAPS = sorted((DATA / "train").glob("synthseg_seg_*.nii.gz"))[:2]


def patches(seed: int = 0, *, without: int | None = None) -> np.ndarray:
    """[z, y, x] int16, an ovoid at 4 mm divided among the labels: every voxel has that of the nearest point.

    The points of every seed are those of one arrangement, a little displaced and stretched along the axes.
    """
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (36, 44, 36)), indexing="ij")
    arrangement = dict(zip(LABELS, np.random.default_rng(7).uniform(-11, 11, (len(LABELS), 3)), strict=True))
    random = np.random.default_rng(seed)
    stretch = random.uniform(0.85, 1.15, 3)
    best, labels = np.full(z.shape, np.inf), np.zeros(z.shape, np.int16)
    for label in LABELS:
        if label == without:
            continue
        point = (arrangement[label] + random.normal(0, 0.5, 3)) * stretch
        distance = (z - point[0]) ** 2 + (y - point[1]) ** 2 + (x - point[2]) ** 2
        nearer = distance < best
        best[nearer], labels[nearer] = distance[nearer], label
    labels[(z / 16) ** 2 + (y / 19) ** 2 + (x / 16) ** 2 > 1] = 0
    return labels


def written(path: Path, labels: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((4.0, 4.0, 4.0))
    sitk.WriteImage(image, str(path))
    return path


def test_codes_of_the_same_tissue_fold_together() -> None:
    codes = np.array([*LABELS, *FOLDED, 0, -1, 500, 530, 2035], np.int16)
    folded = fold_labels(codes)
    assert folded[: len(LABELS)].tolist() == list(LABELS)
    assert folded[len(LABELS) : -5].tolist() == list(FOLDED.values())
    assert folded[-5:].tolist() == [0] * 5
    assert set(FOLDED.values()) <= {0, *LABELS}


def test_every_label_has_a_side_or_lies_in_the_middle() -> None:
    sided = {*MIRRORED, *MIRRORED.values()}
    assert set(LABELS) - sided == {14, 15, 16, CSF}
    assert len(MIRRORED) == len(set(MIRRORED.values())) and not set(MIRRORED) & set(MIRRORED.values())
    assert len(LABELS) == len(set(LABELS))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """One head stored in two ways, and another head."""
    folder, labels = tmp_path_factory.mktemp("heads"), patches()
    plain = written(folder / "plain.nii.gz", labels)
    image = sitk.ReadImage(str(plain))
    turned = sitk.PermuteAxes(sitk.Flip(image, (True, False, True)), (2, 0, 1))
    turned.SetOrigin(tuple(o + shift for o, shift in zip(turned.GetOrigin(), (300.0, -70.0, 15.0), strict=True)))
    sitk.WriteImage(turned, str(folder / "turned.nrrd"))
    return load_subjects([plain, folder / "turned.nrrd", written(folder / "other.nii.gz", patches(1))])


def test_a_permuted_flipped_and_moved_file_gives_the_same_anatomy(drawn: list[Subject]) -> None:
    plain, turned = drawn[:2]
    assert (plain.name, turned.name) == ("plain.nii.gz", "turned.nrrd")
    differing = (plain.shares != turned.shares).any(0).float().mean()
    assert float(differing) < 1e-3  # ties of nearest neighbours
    assert (plain.distance - turned.distance).abs().max() < 2 * SPACING_MM


def test_shares_fill_the_head_and_nothing_else(drawn: list[Subject]) -> None:
    for anatomy in drawn:
        assert anatomy.shares.shape == (len(LABELS), *SHAPE) and anatomy.shares.dtype == torch.uint8
        total = anatomy.shares.sum(0)
        assert int(total.max()) == 8
        inside = total == 8
        assert 0.05 < float(inside.float().mean()) < 0.9
        middle = tuple(slice(n // 2 - 2, n // 2 + 2) for n in SHAPE)
        assert inside[middle].all() and not total[0].any() and not total[:, 0].any() and not total[..., 0].any()
        assert all(anatomy.shares[index].any() for index in range(len(LABELS)))


def test_structures_of_different_heads_lie_at_the_same_places(drawn: list[Subject]) -> None:
    """As far as an affine map can bring them: nearer than they were."""

    def centres(labels: torch.Tensor) -> torch.Tensor:
        axes = [torch.arange(float(n)) for n in labels.shape[1:]]
        weight = labels.float()
        mass = weight.sum((1, 2, 3))
        return torch.stack(
            [(weight.sum(tuple(b for b in (1, 2, 3) if b != a + 1)) * axes[a]).sum(1) / mass for a in range(3)], 1
        )

    kept = [index for index, label in enumerate(LABELS) if label != CSF]
    one, other = (centres(anatomy.shares)[kept] * SPACING_MM for anatomy in (drawn[0], drawn[2]))
    maps = [torch.stack([torch.from_numpy(patches(seed) == label) for label in LABELS]) for seed in (0, 1)]
    raw_one, raw_other = (centres(labels)[kept] * 4 for labels in maps)
    assert (one - other).norm(dim=1).square().mean() < (raw_one - raw_other).norm(dim=1).square().mean()


def test_distance_is_in_mm_and_negative_inside_the_brain(drawn: list[Subject]) -> None:
    anatomy = drawn[0]
    brain = [index for index, label in enumerate(LABELS) if label != CSF]
    full, empty = anatomy.shares[brain].sum(0) >= 5, anatomy.shares[brain].sum(0) == 0
    distance = anatomy.distance.float()
    assert (distance[full] <= 0).all() and (distance[empty] >= 0).all()
    for axis in range(3):
        assert distance.diff(dim=axis).abs().max() <= SPACING_MM * 1.05  # never steeper than the space itself
    assert float(distance.diff(dim=0).abs().max()) > SPACING_MM * 0.9


def test_the_push_leads_away_from_the_ventricles(drawn: list[Subject]) -> None:
    anatomy = drawn[0]
    ventricles = anatomy.shares[[LABELS.index(label) for label in VENTRICLES]].sum(0) >= 4
    push = anatomy.ventricle_push.float()
    length = push.norm(dim=0)
    assert 0.5 < float(length.max()) <= 1.5
    places = torch.nonzero(ventricles).float()
    # From just outside to the nearest voxel of the ventricles, the push points the other way.
    near = torch.nonzero((length > 0.5) & ~ventricles)[::50]
    away = torch.stack([place - places[(places - place).norm(dim=1).argmin()] for place in near.float()])
    pushed = push[:, near[:, 0], near[:, 1], near[:, 2]].flip(0).T
    cosine = torch.cosine_similarity(pushed, away)
    assert float(cosine.median()) > 0.8 and float((cosine > 0).float().mean()) > 0.95
    mask = sitk.GetImageFromArray(ventricles.to(torch.uint8).numpy())
    voxels = torch.from_numpy(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(mask, squaredDistance=False)))
    assert float(length[voxels * SPACING_MM > 40].max()) < 0.01


def test_label_maps_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    lacking = written(tmp_path / "lacking.nii.gz", patches(without=17))
    with pytest.raises(InputError, match=r"lacking.nii.gz: lacks the labels \[17\]; "):
        load_subjects([lacking])
    with pytest.raises(InputError, match=r"none.nii.gz: not a readable label map"):
        load_subjects([tmp_path / "none.nii.gz"])
    written(tmp_path / "slice.nii.gz", patches()[18])
    with pytest.raises(InputError, match=r"slice.nii.gz: has 2 dimensions; "):
        load_subjects([tmp_path / "slice.nii.gz"])


@pytest.mark.data
@pytest.mark.skipif(len(MAPS) < 2, reason=f"SPIKEREG_DATA: no label maps in {DATA / 'train'}")
def test_real_heads_overlap_in_the_common_space() -> None:
    one, other = load_subjects(MAPS)
    kept = [index for index, label in enumerate(LABELS) if label != CSF]
    brains = [anatomy.shares[kept].sum(0).float() / 8 for anatomy in (one, other)]
    hulls = [anatomy.distance.float() < 6 for anatomy in (one, other)]  # sulci differ, brains do not
    assert float(2 * (hulls[0] & hulls[1]).sum() / (hulls[0].sum() + hulls[1].sum())) > 0.9
    for label in (10, 49):  # thalami
        shares = [anatomy.shares[LABELS.index(label)].float() for anatomy in (one, other)]
        assert float(2 * torch.minimum(*shares).sum() / (shares[0].sum() + shares[1].sum())) > 0.6
    for brain in brains:
        litres = float(brain.sum()) * SPACING_MM**3 / 1e6
        assert 0.8 < litres < 2.0
        border = torch.ones(SHAPE, dtype=torch.bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert brain[border].sum() == 0, "cut off"
    # Left is at larger x (LPS): the left white matter lies on the side of the larger index.
    x = torch.arange(float(SHAPE[2]))
    for anatomy in (one, other):
        sides = [(anatomy.shares[LABELS.index(label)].sum((0, 1)) * x).sum() for label in (2, 41)]
        mass = [anatomy.shares[LABELS.index(label)].sum() for label in (2, 41)]
        assert sides[0] / mass[0] > sides[1] / mass[1] + 10


def _turn(degrees: float) -> np.ndarray:
    """[3, 3] a pitch, about the x axis."""
    angle = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def test_the_common_space_lies_and_looks_as_the_heads_do() -> None:
    """Heads that differ by pitch, size and place have a mean of their own shape, in their mean orientation and size."""
    random = np.random.default_rng(0)
    shape = random.normal(size=(30, 3)) * (30.0, 45.0, 25.0)
    shape -= shape.mean(0)
    heads = [
        size * shape @ _turn(pitch).T + random.normal(size=3) * 20
        for pitch, size in ((-20.0, 0.9), (-5.0, 1.1), (5.0, 1.05), (20.0, 0.95))
    ]
    for order in ([0, 1, 2, 3], [3, 0, 2, 1]):
        assert np.allclose(_common_centroids([heads[i] for i in order]), shape, atol=0.05)


def test_the_common_space_is_not_sheared_by_heads_that_are() -> None:
    random = np.random.default_rng(1)
    shape = random.normal(size=(30, 3)) * (30.0, 45.0, 25.0)
    shape -= shape.mean(0)
    stretches = [np.diag(s) for s in ((1.2, 0.9, 1.0), (0.85, 1.1, 1.0), (0.95, 1.0, 1.0))]
    common = _common_centroids([shape @ stretch for stretch in stretches])
    assert np.allclose(common, shape, rtol=0.08, atol=1.5)
