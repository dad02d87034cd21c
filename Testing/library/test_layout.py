"""Places of structures, robust maps between those of two heads, and the layout that a model file carries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SpikeRegLib.anatomy.cut import cut_structures
from SpikeRegLib.anatomy.layout import LEAST, Layout, Places, fit_affine, places
from SpikeRegLib.anatomy.structures import CLASSES
from SpikeRegLib.images.frames import Frame


def scattered(seed: int = 0) -> Places:
    random = np.random.default_rng(seed)
    centres = random.normal(0, 30, (CLASSES, 3))
    centres[0] = np.nan
    return Places(centres, np.full(CLASSES, 2.0))


def moved(source: Places, matrix: np.ndarray) -> Places:
    return Places(source.centres @ matrix[:3, :3].T + matrix[:3, 3], source.volumes_ml)


MATRIX = np.array([[1.1, 0.1, -0.05, 20], [-0.12, 0.95, 0.2, -35], [0.0, -0.15, 1.02, 8], [0, 0, 0, 1]])


def test_a_place_is_the_mean_of_a_map_in_mm_of_the_patient_and_its_volume_in_ml():
    maps = torch.zeros(CLASSES, 8, 10, 12)
    maps[3, 2:5, 4:6, 7:11] = 0.5
    frame = Frame((8, 10, 12), (5.0, -3.0, 40.0), (2.0, 3.0, 1.5), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    found = places(maps, frame)
    assert np.allclose(found.centres[3], frame.to_mm(np.array([8.5, 4.5, 3.0])))
    assert found.volumes_ml[3] == pytest.approx(24 * 0.5 * 9 / 1000)
    assert found.there.sum() == 1 and np.isnan(found.centres[4]).all()


def test_what_fills_the_background_is_no_structure():
    maps = torch.zeros(CLASSES, 8, 8, 8)
    maps[0] = 1
    assert not places(maps, Frame((8, 8, 8), spacing=(4.0,) * 3)).there.any()


def test_an_affine_map_is_found_although_some_structures_were_named_wrongly():
    source = scattered()
    target = moved(source, MATRIX)
    wrong = target.centres.copy()
    wrong[[4, 11, 17, 25]] += np.array([40.0, -30, 50])
    fit = fit_affine(source, Places(wrong, target.volumes_ml))
    reached = moved(source, fit.matrix).centres
    right = [n for n in range(1, CLASSES) if n not in (4, 11, 17, 25)]
    assert np.abs(reached - target.centres)[right].max() < 1.5
    assert fit.off_mm[[4, 11, 17, 25]].min() > 40 and np.isnan(fit.off_mm[0])
    # The same without doubt about any structure: what the weights are for.
    plain = np.linalg.lstsq(np.c_[source.centres[1:], np.ones(CLASSES - 1)], wrong[1:], rcond=None)[0].T
    assert np.abs(source.centres[right] @ plain[:, :3].T + plain[:, 3] - target.centres[right]).max() > 8


def test_a_rigid_fit_turns_and_sizes_but_never_mirrors():
    source = scattered(1)
    mirrored = Places(source.centres * np.array([-1.0, 1, 1]), source.volumes_ml)
    fit = fit_affine(source, mirrored, rigid=True)
    assert np.linalg.det(fit.matrix[:3, :3]) > 0
    turn = np.eye(4)
    turn[:3, :3] = 1.3 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turn[:3, 3] = 5, 6, 7
    assert np.allclose(fit_affine(source, moved(source, turn), rigid=True).matrix, turn, atol=1e-6)


def test_too_few_structures_in_common_give_no_map():
    source = scattered()
    few = source.centres.copy()
    few[LEAST:] = np.nan
    assert fit_affine(source, Places(few, source.volumes_ml)) is None


def test_a_layout_is_kept_in_words_and_refused_when_it_is_none():
    layout = Layout.of([moved(scattered(), MATRIX), scattered(), moved(scattered(), np.diag([0.9, 1.1, 1, 1]))])
    again = Layout.from_json(layout.to_json())
    assert np.allclose(again.places.centres, layout.places.centres, atol=1e-3, equal_nan=True)
    assert np.allclose(again.spread_mm[1:], layout.spread_mm[1:], atol=1e-3)
    assert np.abs(np.nanmean(layout.places.centres, 0)).max() < 1e-6
    for wrong in (None, {"rows": [[1, 2, 3, 4, 5]]}, {"rows": [["x"] * 5] * (CLASSES - 1)}):
        with pytest.raises(ValueError, match="no layout"):
            Layout.from_json(wrong)


@pytest.mark.parametrize("degrees", [0, 30])
def test_structures_at_a_face_of_the_image_are_cut(degrees):
    """Along the grid of the maps or across it; what is inside is not, nor what only comes near."""
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(a := np.radians(degrees)), -np.sin(a)], [np.sin(a), np.cos(a)]]
    axes = tuple(float(v) for v in turn.ravel())
    image = Frame((40, 40, 40), spacing=(2.0,) * 3, direction=axes)
    frame = Frame((60, 60, 60), origin=(-40.0, -20.0, -20.0), spacing=(2.0,) * 3)
    index = np.moveaxis(np.indices(frame.shape)[::-1], 0, -1)
    where = image.to_index(frame.to_mm(index.reshape(-1, 3).astype(float))).reshape(60, 60, 60, 3)
    where = where * 2.0  # mm from the first voxel, along the axes of the image
    inside = ((where > -1) & (where < 79)).all(-1)
    maps = np.zeros((CLASSES, 60, 60, 60), np.float32)
    for place, centre in enumerate([(40, 40, 40), (77, 40, 40), (40, 2, 40), (40, 40, 60)], 1):
        maps[place] = (((where - centre) ** 2).sum(-1) < 12**2) & inside
    assert cut_structures(torch.from_numpy(maps), frame, image)[1:5].tolist() == [False, True, True, False]


def test_a_cut_structure_says_little_of_where_the_others_go():
    source = scattered(5)
    target = moved(source, MATRIX)
    centres = target.centres.copy()
    cut = np.zeros(CLASSES, bool)
    cut[1:17] = True
    centres[cut] += np.array([0.0, 0.0, 12.0])
    true = fit_affine(source, target).matrix
    told = fit_affine(source, Places(centres, target.volumes_ml, cut)).matrix
    untold = fit_affine(source, Places(centres, target.volumes_ml)).matrix
    points = np.c_[source.centres[1:], np.ones(CLASSES - 1)]
    off = [np.linalg.norm((points @ (matrix - true).T)[:, :3], axis=1).mean() for matrix in (told, untold)]
    assert off[0] < 0.5 and off[1] > 2
