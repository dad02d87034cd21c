"""Contrast by structures: the same order of intensities in two images, whatever their scale."""

from __future__ import annotations

import numpy as np
import torch

from SpikeRegLib.anatomy.reading import StructureMaps
from SpikeRegLib.anatomy.structures import CLASSES
from SpikeRegLib.anatomy.tissue import contrast_agreement, structure_means
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume

FRAME = Frame((20, 20, 20), spacing=(2.0,) * 3)


def head() -> StructureMaps:
    logits = torch.full((CLASSES, 20, 20, 20), -20.0)
    logits[0] = 0
    for place in range(1, 11):
        logits[place, 2 * place - 2 : 2 * place] = 20
    return StructureMaps(logits, FRAME)


def image(*values: float) -> Volume:
    data = torch.zeros(20, 20, 20)
    for place, value in enumerate(values):
        data[2 * place : 2 * place + 2] = value
    return Volume(data, FRAME)


def test_means_are_those_of_the_structures_on_any_grid():
    means = structure_means(image(*range(10, 20)), head())
    assert np.allclose(means[1:11], np.arange(10, 20)) and np.isnan(means[0]) and np.isnan(means[11:]).all()
    finer = Volume(image(*range(10, 20)).data.repeat_interleave(2, 2), Frame((20, 20, 40), (-0.5, 0, 0), (1.0, 2, 2)))
    assert np.allclose(structure_means(finer, head())[2:10], np.arange(11, 19))


def test_one_contrast_is_known_by_its_order_and_not_by_its_scale():
    bright = [9.0, 6, 3, 8, 5, 7, 2, 1, 4, 6]
    first = structure_means(image(*bright), head())
    scaled = structure_means(image(*(3 * value + 2 for value in bright)), head())
    turned = structure_means(image(*(10 - value for value in bright)), head())
    assert contrast_agreement(first, scaled) > 0.999 and contrast_agreement(first, turned) < -0.999
    assert contrast_agreement(first, np.full(CLASSES, np.nan)) == 0
    assert contrast_agreement(first, np.where(np.isfinite(first), 5.0, np.nan)) == 0
