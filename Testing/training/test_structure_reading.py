"""What the network that names structures reads does not depend on how an image is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from SpikeRegLib.anatomy.reading import VIEWS, Reader, StructureMaps, _add_look
from SpikeRegLib.anatomy.structures import CLASS_OF, CLASSES, WHITE_MATTER, mirrored_classes
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import silent
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


def read(network: AnalogUNet, image: Volume) -> StructureMaps:
    return Reader(network).begin(image).look(1)


def test_the_maps_cover_the_image_at_two_mm_along_the_axes_of_the_patient(network, image):
    maps = read(network, image)
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
    stored = read(network, Volume(image.data.flip(2), frame))
    assert stored.frame == read(network, image).frame
    assert torch.allclose(stored.logits, read(network, image).logits, atol=1e-4)


def test_an_image_elsewhere_has_its_maps_there(network, image):
    moved = replace(image, frame=replace(image.frame, origin=(30.0, -43.0, 53.0)))
    here, there = read(network, image), read(network, moved)
    assert torch.allclose(here.logits, there.logits, atol=1e-4)
    assert np.allclose(np.subtract(there.frame.origin, here.frame.origin), (50.0, -50.0, 50.0))


@pytest.mark.parametrize("factor", [0.01, 300.0])
def test_the_unit_of_intensities_does_not_matter(network, image, factor):
    scaled = read(network, replace(image, data=image.data * factor))
    assert torch.allclose(scaled.logits, read(network, image).logits, atol=1e-2)


class Copies(AnalogUNet):
    """Says of every voxel how bright it is, in logits that differ from class to class but not from side to side."""

    def output(self, image, recorder=None):
        patches = torch.nn.functional.unfold(image[0].movedim(1, 0), 2, stride=2)  # planes as batch, rows of 2 x 2
        depth, height, width = (n // 2 for n in image.shape[2:])
        patches = patches.view(depth, 2, 4, height, width).permute(1, 2, 0, 3, 4).reshape(8, depth, height, width)
        factors = torch.tensor([1.0 + min(c, mirrored_classes()[c]) for c in range(CLASSES)])
        return (factors[:, None, None, None, None] * patches).flatten(0, 1)[None]


def test_looks_from_other_sides_say_the_same_of_the_same_place(image):
    """Each is turned back; the mean is that of them all, whether they are made at once or one after the other."""
    spec = structures_unet(encoder=(4, 6, 8, 8), decoder=(8, 6, 4))
    reader = Reader(Copies(spec))
    reader.ready = reader.network
    reading = reader.begin(replace(image, frame=replace(image.frame, spacing=(2.0,) * 3)))
    one = reading.look(1).logits.clone()
    assert float(one[1].std()) > 0.1
    for view in VIEWS:
        look = torch.zeros_like(one)
        _add_look(look, reading._look(view, silent), view)
        assert torch.equal(look[:, :-1, :-1, :-1], one[:, :-1, :-1, :-1]), view
    assert torch.allclose(reading.look(4).logits[:, :-1, :-1, :-1], one[:, :-1, :-1, :-1])
    energies = [Reader(AnalogUNet(spec)).begin(image).look(views).energy.dense_twin_macs for views in (1, 4)]
    assert energies[1] == 4 * energies[0]


def test_names_of_both_sides_are_exchanged_with_the_image():
    """A network that only knows on which side of the grid a voxel lies: left and right must not change places."""

    class Sides(AnalogUNet):
        def output(self, image, recorder=None):
            out = torch.zeros(1, 8 * CLASSES, *(n // 2 for n in image.shape[2:]))
            half = out.shape[-1] // 2
            left, right = (8 * CLASS_OF[label] for label in WHITE_MATTER)
            out[:, right : right + 8, ..., :half] = 1.0
            out[:, left : left + 8, ..., half:] = 1.0
            return out

    reader = Reader(Sides(structures_unet(encoder=(4, 6, 8, 8), decoder=(8, 6, 4))))
    reader.ready = reader.network
    maps = reader.begin(Volume(torch.ones(32, 32, 32), Frame((32, 32, 32), spacing=(2.0,) * 3))).look(4)
    left, right = (CLASS_OF[label] for label in WHITE_MATTER)
    assert bool((maps.classes[..., 2:14] == right).all()) and bool((maps.classes[..., 18:30] == left).all())
    assert float(maps.logits[left, 8, 8, 24]) == 1.0
