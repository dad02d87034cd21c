"""What the network that names structures reads does not depend on how an image is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from SpikeRegLib.anatomy.reading import read_structures
from SpikeRegLib.anatomy.structures import CLASSES
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.spiking.spec import structures_unet
from SpikeRegLib.spiking.unet import AnalogUNet


@pytest.fixture(scope="module")
def network() -> AnalogUNet:
    torch.manual_seed(0)
    return AnalogUNet(structures_unet(encoder=(4, 6, 8, 8), decoder=(8, 6, 4)))


@pytest.fixture(scope="module")
def image() -> Volume:
    data = 100 * torch.rand(30, 40, 35, generator=torch.Generator().manual_seed(1))
    return Volume(data, Frame((30, 40, 35), origin=(-20.0, 7.0, 3.0), spacing=(1.5, 1.0, 2.0)))


def test_the_maps_cover_the_image_at_two_mm_along_the_axes_of_the_patient(network, image):
    maps = read_structures(network, image)
    assert maps.logits.shape == (CLASSES, *maps.frame.shape) and maps.frame.spacing == (2.0, 2.0, 2.0)
    assert np.array_equal(maps.frame.direction, Frame((1, 1, 1)).direction)
    for place in (maps.frame.inverse_matrix @ image.frame.matrix @ np.array([*corner, 1.0]) for corner in (
        (0, 0, 0), np.array(image.frame.size) - 1)):  # fmt: skip
        assert (place[:3] > -1).all() and (place[:3] < maps.frame.size).all()
    assert torch.equal(maps.classes, maps.logits.argmax(0))


def test_an_image_stored_the_other_way_round_is_read_alike(network, image):
    """The first axis reversed, and the header saying so."""
    turned = np.diag([-1.0, 1.0, 1.0])
    last = (image.frame.matrix @ np.array([image.frame.size[0] - 1, 0, 0, 1.0]))[:3]
    frame = replace(image.frame, origin=tuple(map(float, last)), direction=tuple(map(float, turned.ravel())))
    stored = read_structures(network, Volume(image.data.flip(2), frame))
    assert stored.frame == read_structures(network, image).frame
    assert torch.allclose(stored.logits, read_structures(network, image).logits, atol=1e-4)


def test_an_image_elsewhere_has_its_maps_there(network, image):
    moved = replace(image, frame=replace(image.frame, origin=(30.0, -43.0, 53.0)))
    here, there = read_structures(network, image), read_structures(network, moved)
    assert torch.allclose(here.logits, there.logits, atol=1e-4)
    assert np.allclose(np.subtract(there.frame.origin, here.frame.origin), (50.0, -50.0, 50.0))


@pytest.mark.parametrize("factor", [0.01, 300.0])
def test_the_unit_of_intensities_does_not_matter(network, image, factor):
    scaled = read_structures(network, replace(image, data=image.data * factor))
    assert torch.allclose(scaled.logits, read_structures(network, image).logits, atol=1e-2)
