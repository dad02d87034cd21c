"""The neural field as a function: identity at the start, the same value however it is asked for, composition."""

from __future__ import annotations

import pytest
import torch
from field_examples import FRAME, SMALL, moving_decoders, random_codes, random_points

from SpikeRegLib.neural_field import field as field_module
from SpikeRegLib.neural_field.codes import positions_on
from SpikeRegLib.neural_field.decoder import Decoder
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.sizes import FieldSizes, paper_options
from SpikeRegLib.space.grids import Grid


@pytest.mark.parametrize("inverse", [False, True])
def test_a_new_field_is_the_identity_whatever_its_codes(inverse):
    field = NeuralField(Decoders(SMALL), [random_codes(8.0, seed=1), random_codes(4.0, seed=2)])
    points = random_points(200, seed=3)
    assert torch.equal(field.points(points, inverse=inverse), points)
    assert not field.displacement_on(FRAME.coarser(3.0), inverse=inverse).any()


@pytest.mark.parametrize(
    "options, count",
    [
        # features 2 * 8 + 6; sines 22-16-16, gates (10 + 22)-16 and (10 + 22 + 16)-16, last 16-3
        (SMALL, (22 * 16 + 16) + (16 * 16 + 16) + (32 * 16 + 16) + (48 * 16 + 16) + (16 * 3 + 3)),
        (FieldSizes(), (70 * 64 + 64) + (64 * 64 + 64) + (134 * 64 + 64) + (198 * 64 + 64) + (64 * 3 + 3)),
        (paper_options(), (256 * 128 + 128) + (128 * 128 + 128) + (320 * 128 + 128) + (448 * 128 + 128) + 387),
    ],
)
def test_the_number_of_parameters_follows_from_the_sizes(options, count):
    assert sum(p.numel() for p in Decoder(options).parameters()) == count


def test_the_same_seed_makes_the_same_decoder_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = Decoder(SMALL), Decoder(SMALL)
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(
    "grid",
    [
        FRAME,
        FRAME.coarser(4.0),
        Grid((9, 11, 7), 2.7, (1.3, 0.4, 2.2)),
        Grid((8, 8, 8), 6.0, (-5.0, -4.0, -3.0)),  # reaches beyond the codes on all sides
    ],
    ids=["frame", "on the codes", "between them", "beyond them"],
)
def test_a_grid_and_its_nodes_as_points_give_the_same_displacement(grid, inverse):
    field = NeuralField(moving_decoders(), [random_codes(8.0, seed=1), random_codes(4.0, seed=2)])
    nodes = positions_on(grid)
    by_point = (field.points(nodes, inverse=inverse) - nodes).detach()
    on_grid = field.displacement_on(grid, inverse=inverse).flatten(1).t()
    assert float(by_point.norm(dim=1).mean()) > 0.05
    assert float((by_point - on_grid).abs().max()) < 2e-4


def test_stages_are_composed_the_finest_first_and_back_the_coarsest_first():
    decoders = moving_decoders(largest=0.2)
    coarse, fine = random_codes(8.0, seed=1), random_codes(4.0, seed=2)
    field = NeuralField(decoders, [coarse, fine])
    x = random_points(300, seed=3)

    def step(at, codes, inverse):
        return at + decoders.displacement(codes, at, inverse=inverse)

    there = step(step(x, fine, False), coarse, False)
    back = step(step(x, coarse, True), fine, True)
    assert (field.points(x) - there).abs().max().item() < 1e-5
    assert (field.points(x, inverse=True) - back).abs().max().item() < 1e-5
    other = step(step(x, coarse, False), fine, False)
    assert (other - there).abs().max().item() > 0.05


def test_parts_of_limited_memory_change_nothing(monkeypatch):
    field = NeuralField(moving_decoders(), [random_codes(8.0, seed=1), random_codes(4.0, seed=2)])
    points, grid = random_points(257, seed=3), FRAME.coarser(3.0)
    whole, whole_grid = field.points(points), field.displacement_on(grid)
    monkeypatch.setattr(field_module, "POINTS_AT_ONCE", 50)
    heard: list[float] = []
    in_slabs = field.displacement_on(grid, tick=heard.append)
    assert float((field.points(points) - whole).abs().max()) < 1e-5
    assert float((in_slabs - whole_grid).abs().max()) < 2e-5
    assert heard == [n / grid.shape[0] for n in range(grid.shape[0])]


def test_codes_are_linear_between_their_nodes_and_constant_beyond():
    codes = random_codes(8.0, seed=1)
    node = codes.grid.spacing_mm * torch.tensor([[2.0, 1.0, 3.0]])
    next_node = node + torch.tensor([[8.0, 0.0, 0.0]])
    between = codes.at(0.75 * node + 0.25 * next_node)
    assert torch.allclose(between, 0.75 * codes.at(node) + 0.25 * codes.at(next_node), atol=1e-5)
    assert torch.allclose(codes.at(node)[0, : SMALL.local_size], codes.local[:, 3, 1, 2], atol=1e-5)
    outside = torch.tensor([[-50.0, 8.0, 8.0]])
    assert torch.allclose(codes.at(outside), codes.at(torch.tensor([[0.0, 8.0, 8.0]])), atol=1e-6)
