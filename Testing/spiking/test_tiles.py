"""Tiles: the whole image's field away from cuts, a smooth one everywhere, each neuron counted once."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import image, random_spiking, tiny_paper, tiny_patches, tiny_velocity

from SpikeRegLib.networks import tiles
from SpikeRegLib.networks.integer import IntegerUNet
from SpikeRegLib.networks.tiles import extents, reach, tiled_output
from SpikeRegLib.spiking.activity import ActivityRecorder
from SpikeRegLib.spiking.spec import NetworkSpec, velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, merge_inputs

# Twice the reach of the shallow network and more, in whole steps of its stride.
OVERLAP = 48


def shallow() -> NetworkSpec:
    """Two levels, so that a small image is larger than what an output depends on."""
    return velocity_unet("shallow", encoder=(4, 6), decoder=(6,))


def network_of(kind: str, spec: NetworkSpec) -> RegistrationUNet:
    torch.manual_seed(3)
    if kind == "dense":
        return AnalogUNet(spec).eval()
    return random_spiking(spec) if kind == "spiking" else IntegerUNet(random_spiking(spec), native=False)


@pytest.mark.parametrize(
    "spec", [shallow(), tiny_velocity(), tiny_paper(), tiny_patches()], ids=["shallow", "velocity", "paper", "patches"]
)
def test_outputs_depend_on_the_image_up_to_the_reach_and_no_further(spec: NetworkSpec) -> None:
    """From the gradients of the dense twin, at outputs in every place of the coarsest grid's voxels."""
    length, multiple, stride = 2 * reach(spec) + 64, spec.input_multiple(), spec.output_stride()
    network = AnalogUNet(spec).eval()
    for weight in network.weights.values():  # all paths open
        torch.nn.init.uniform_(weight, 0.01, 0.1)
    x = image((1, 1, length)).requires_grad_(True)
    middle, seen = length // 2 // multiple * multiple // stride, 0
    output = network.output(x)
    for place in range(middle, middle + multiple // stride):
        (gradient,) = torch.autograd.grad(output[..., place].sum(), x, retain_graph=True)
        where = gradient.abs().sum((0, 1, 2, 3)).nonzero()[:, 0]
        seen = max(seen, int((where - place * stride).abs().max()))
    assert seen == reach(spec)


@pytest.mark.parametrize("kind", ["dense", "spiking", "integer"])
@torch.inference_mode()
def test_with_enough_overlap_tiles_give_the_field_of_the_whole(kind: str) -> None:
    """Everywhere: integers to rounding of the blend; floats as far as sums in another order allow."""
    network, x = network_of(kind, shallow()), image((66, 23, 87))
    whole, tiled = network(x), tiled_output(network, x, size=60, overlap=OVERLAP)
    assert reach(network.spec) == 21 and whole.shape == tiled.shape
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-6 * float(whole.abs().max()))


@torch.inference_mode()
def test_with_little_overlap_tiles_differ_near_the_cuts_only_and_smoothly() -> None:
    network, x = network_of("dense", tiny_velocity()), image((32, 32, 352))
    size, overlap, depends = 256, 64, reach(tiny_velocity())
    whole, tiled = network(x), tiled_output(network, x, size=size, overlap=overlap)
    assert overlap < 2 * depends < size
    difference = (tiled - whole).abs().amax((0, 1, 2, 3))
    # Of the first tile alone up to 192, cut at 256; the second, cut at 192, is alone from 256 on.
    assert float(difference[: (256 - depends) // 2].max()) < 1e-5 * float(whole.abs().max())
    assert float(difference[(192 + depends) // 2 + 1 :].max()) < 1e-5 * float(whole.abs().max())
    assert float(difference.max()) > 0
    jumps = [(values[..., 1:] - values[..., :-1]).abs().amax((0, 1, 2, 3)) for values in (whole, tiled)]
    assert float(jumps[1].max()) < 1.1 * float(jumps[0].max())


@torch.inference_mode()
def test_with_little_overlap_the_quarters_next_to_the_cuts_are_taken_from_the_other_tile() -> None:
    network, x = network_of("dense", tiny_velocity()), image((16, 16, 352))
    tiled, prepared = tiled_output(network, x, size=256, overlap=64), network.prepared(x)
    first, second = (network.output(prepared[..., part].contiguous()) for part in (slice(0, 256), slice(192, 352)))
    near = 1e-6 * float(tiled.abs().max())
    # In outputs, two voxels each: shared are those from 96 to 128, blended those between 104 and 120.
    torch.testing.assert_close(tiled[..., :105], first[..., :105], rtol=1e-5, atol=near)
    torch.testing.assert_close(tiled[..., 120:], second[..., 24:], rtol=1e-5, atol=near)
    for tile, within in ((first[..., 106:], tiled[..., 106:128]), (second[..., 10:], tiled[..., 106:])):
        apart = (tile[..., : within.shape[-1]] - within).abs().amax((0, 1, 2, 3))
        assert bool((apart[:13] > near).all())


@pytest.mark.parametrize("depends", [23, 24])
@torch.inference_mode()
def test_an_overlap_of_twice_the_reach_leaves_no_room_for_a_ramp(monkeypatch: pytest.MonkeyPatch, depends: int) -> None:
    """Then it takes the inner half, as where the overlap is smaller; everywhere some tile has its say."""
    network, x = network_of("dense", shallow()), image((8, 8, 160))
    monkeypatch.setattr(tiles, "reach", lambda spec: depends)
    tiled, prepared = tiled_output(network, x, size=72, overlap=OVERLAP), network.prepared(x)
    first, second = (network.output(prepared[..., begin : begin + 72].contiguous()) for begin in (0, 24))
    assert bool(torch.isfinite(tiled).all())
    # Shared are outputs from 12 to 36; those in the middle are blended, with 24 up to those between 18 and 30.
    shared = [tile[..., place - begin] for place in (20, 28) for tile, begin in ((first, 0), (second, 12))]
    near = 1e-6 * float(tiled.abs().max())
    for place, (one, other) in ((20, shared[:2]), (28, shared[2:])):
        apart = [float((tiled[..., place] - tile).abs().max()) > near for tile in (one, other)]
        assert apart == ([True, True] if depends == 24 else [place != 20, place == 20])


@pytest.mark.parametrize(
    ("length", "size", "overlap", "multiple"), [(100, 32, 16, 8), (97, 48, 8, 4), (64, 64, 16, 16)]
)
def test_weights_add_up_to_one_and_every_voxel_has_one_owner(
    length: int, size: int, overlap: int, multiple: int
) -> None:
    for keep_off in (0, overlap // 4):
        weights, owners = torch.zeros(length), torch.zeros(length)
        for extent in extents(length, size, overlap, multiple):
            assert extent.begin % multiple == 0 and extent.own_begin % multiple == 0
            assert extent.begin <= extent.own_begin < extent.own_end <= extent.end
            weights[extent.begin : extent.end] += extent.weights(length, overlap, keep_off, 1)
            owners[extent.own_begin : extent.own_end] += 1
        torch.testing.assert_close(weights, torch.ones(length))
        assert bool((owners == 1).all())


@pytest.mark.parametrize("kind", ["spiking", "integer"])
@torch.inference_mode()
def test_activity_of_tiles_is_that_of_the_whole(kind: str) -> None:
    network, x = network_of(kind, shallow()), image((66, 23, 87))
    tables = []
    for size in (None, 60):
        recorder = ActivityRecorder(network.spec, (66, 23, 87), maps=True)
        sums: dict[str, torch.Tensor] = {"image": x}

        def record(layer, inputs, output, recorder=recorder, sums=sums) -> None:
            sums[layer.name] = output.float()
            recorder(layer, merge_inputs(layer, sums), output)

        if size is None:
            network(x, recorder=record)
        else:
            tiled_output(network, x, size=size, overlap=OVERLAP, recorder=record)
        tables.append(recorder)
    assert tables[0].layers == tables[1].layers
    assert all(torch.equal(tables[0].maps[name], tables[1].maps[name]) for name in tables[0].maps)


@torch.inference_mode()
def test_the_image_is_standardised_whole() -> None:
    """One half bright, one dark: standardised alone, each tile would look the same."""
    network, x = network_of("dense", shallow()), image((8, 8, 160))
    x[..., 80:] *= 0.3
    whole, tiled = network(x), tiled_output(network, x, size=72, overlap=OVERLAP)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_tiles_smaller_than_the_stride_allows_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        tiled_output(network_of("dense", tiny_velocity()), image((32, 32, 32)), size=16)


@torch.inference_mode()
def test_progress_is_heard_for_every_layer_of_every_tile() -> None:
    network, heard = network_of("dense", shallow()), []
    tiled_output(network, image((8, 8, 160)), size=72, heard=lambda fraction, layer: heard.append(fraction))
    count = len(tiles.extents(160, 72, 36, 4))
    assert len(heard) % len(network.spec.layers) == 0 and len(heard) // len(network.spec.layers) >= count
    assert heard == sorted(heard) and heard[-1] == pytest.approx(1.0)
