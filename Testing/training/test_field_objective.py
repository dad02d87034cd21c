"""The objective of a neural field: what it measures at cubes of points is what whole images give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.similarity.losses import lncc_map
from SpikeRegLib.space.fields import values_at
from SpikeRegLib.spiking.conversion import calibrate, convert
from SpikeRegLib.spiking.spec import code_unet
from SpikeRegLib.spiking.unet import AnalogUNet
from SpikeRegLib.training.field_objective import FieldWeights, field_objective
from SpikeRegLib.training.synthetic import SPACING_MM, SyntheticPair

EXACT = Precision("cpu", False)
OPTIONS = FieldSizes(global_size=4, local_size=8, frequencies=4, width=16)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    """Smooth noise, and the same moved by one voxel along x."""
    random = torch.Generator().manual_seed(1)
    noise = functional.avg_pool3d(torch.rand(1, 1, 36, 36, 37, generator=random), 5, stride=1)
    image = (noise - noise.amin()) / (noise.amax() - noise.amin()) * 0.9 + 0.05
    shares = torch.rand(1, 3, 16, 16, 16, generator=random)
    return SyntheticPair(image[..., :-1].contiguous(), image[..., 1:].contiguous(), shares, shares)


@pytest.fixture
def network() -> FieldNetwork:
    torch.manual_seed(0)
    return FieldNetwork(AnalogUNet(code_unet(OPTIONS.local_size)), OPTIONS).eval()


def loss_of(network, pair, seed=0, **weights):
    with torch.random.fork_rng():
        return field_objective(network, pair, FieldWeights(cube=12, **weights), precision=EXACT, seed=seed)


def moved_along_x(network: FieldNetwork, millimetres: float) -> FieldNetwork:
    """Decoders that give a constant displacement, and its opposite for the inverse."""
    for decoder, sign in ((network.decoders.forward_map, 1), (network.decoders.inverse_map, -1)):
        nn.init.constant_(decoder.last.bias[:1], sign * millimetres / OPTIONS.code_spacing_mm)
    return network


def test_points_of_the_grid_have_the_values_of_its_voxels(pair):
    image = pair.fixed[0]
    position = torch.tensor([[0.0, 0.0, 0.0], [3.0, 5.0, 7.0], [31.0, 30.0, 2.0], [3.5, 5.0, 7.0]])
    wanted = [image[0, 0, 0, 0], image[0, 7, 5, 3], image[0, 2, 30, 31], image[0, 7, 5, 3:5].mean()]
    assert torch.allclose(values_at(image, position)[:, 0], torch.stack(wanted), atol=1e-5)


def test_without_a_displacement_the_correlation_is_that_of_the_images(network, pair):
    _, terms = loss_of(network, pair, cubes=200, window=5)
    whole = lncc_map(pair.fixed, pair.moving, window=5)[..., 6:-6, 6:-6, 6:-6].mean()
    assert terms["lncc"] == pytest.approx(float(whole), abs=0.02)
    assert terms["diffusion"] == 0 and terms["consistency"] == pytest.approx(0, abs=1e-9)


def test_the_true_displacement_is_found_best_in_both_directions(network, pair):
    # fixed(x) = moving(x - 1 voxel): the map fixed -> moving goes down x.
    found = {mm: loss_of(moved_along_x(network, mm), pair, window=5)[1]["lncc"] for mm in (SPACING_MM, 0, -SPACING_MM)}
    assert found[-SPACING_MM] > 0.98
    assert found[-SPACING_MM] > found[0] + 0.1 > found[SPACING_MM] + 0.15


def test_the_same_seed_draws_the_same_points_and_another_one_others(network, pair):
    losses = [loss_of(network, pair, seed)[0].item() for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_every_part_of_the_model_learns(network, pair):
    network.train()
    for decoder in (network.decoders.forward_map, network.decoders.inverse_map):
        nn.init.normal_(decoder.last.weight, std=0.1)
    loss_of(network, pair)[0].backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert still == []
    assert "consistency" not in loss_of(network, pair, consistency=0.0)[1]


def test_operations_of_a_spiking_encoder_have_their_price(network, pair):
    image = torch.cat((pair.fixed, pair.moving), 1)
    thresholds = calibrate(network.encoder, [image], (99.5,))[99.5]
    spiking = FieldNetwork(convert(network.encoder, thresholds), OPTIONS)
    free, terms = loss_of(spiking, pair)
    assert "operations_share" not in terms
    paid, terms = loss_of(spiking, pair, operations=8.0, operations_target=0.01)
    assert paid.item() == pytest.approx(free.item() + 8 * (terms["operations_share"] - 0.01), abs=1e-4)


def test_an_encoder_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not give codes of 5 channels"):
        FieldNetwork(AnalogUNet(code_unet(8)), replace(OPTIONS, local_size=5))
    with pytest.raises(ValueError, match=r"gives codes 8.0 mm apart, not 4.0"):
        FieldNetwork(AnalogUNet(code_unet(8)), replace(OPTIONS, code_spacing_mm=4.0))


def test_the_global_code_of_spikes_is_in_the_units_of_the_dense_encoder(network, pair):
    image = torch.cat((pair.fixed, pair.moving), 1)
    thresholds = calibrate(network.encoder, [image], (100.0,))[100.0]
    spiking = FieldNetwork(convert(network.encoder, thresholds, timesteps=200), OPTIONS)
    spiking.overall.load_state_dict(network.overall.state_dict())
    with torch.no_grad():
        dense, spikes = (one.encode(image, spacing_mm=SPACING_MM) for one in (network, spiking.eval()))
    assert torch.allclose(dense.overall, spikes.overall, atol=0.02 * float(dense.overall.abs().max()))
    assert dense.grid == spikes.grid and dense.grid.spacing_mm == OPTIONS.code_spacing_mm
