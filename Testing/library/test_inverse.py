"""The inverse on a finer grid: closer to a true inverse than one on the deformation's own grid."""

from __future__ import annotations

import pytest
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.space import fine_inversion as inverse_module
from SpikeRegLib.space import inversion
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.fine_inversion import fine_inverse
from SpikeRegLib.space.folds import remove_folds
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import DisplacementTransform


@pytest.fixture(scope="module")
def deformation() -> DisplacementTransform:
    """Large and rough: on a 2 mm grid, near the guard's smallest Jacobian."""
    generator = torch.Generator().manual_seed(3)
    field = hold_border(gaussian(torch.randn(3, 28, 30, 26, generator=generator), 2.5))
    field, _ = remove_folds(field * (2.2 / float(field.abs().max())))
    return DisplacementTransform(field * 2.0, Frame((28, 30, 26), (-20.0, 5.0, 11.0), (2.0, 2.0, 2.0)))


def test_finer_grid_is_more_consistent_wherever_the_deformation_reaches(deformation):
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([50.0, 58.0, 54.0])
    points = points + torch.tensor(deformation.frame.origin)

    def remaining(inverse: DisplacementTransform) -> float:
        return float((inverse.map_points(deformation.map_points(points)) - points).norm(dim=1).mean())

    assert remaining(fine_inverse(deformation)) < 0.85 * remaining(deformation.inverse())


def test_a_newton_step_solves_where_the_map_is_one_to_one_and_is_the_residual_where_it_nearly_folds():
    generator = torch.Generator().manual_seed(6)
    slope, residual = 0.5 * torch.randn(3, 3, 400, generator=generator), torch.randn(3, 400, generator=generator)
    jacobian = slope.permute(2, 1, 0) + torch.eye(3)  # [N, component, axis]
    determinant = torch.linalg.det(jacobian.double())
    sound = determinant > 0.05
    assert int((sound & (determinant < 0.9)).sum()) > 40 and int((~sound).sum()) > 40
    solved = torch.linalg.solve(jacobian[sound].double(), residual.t()[sound].double())
    step = inversion._newton_step(slope, residual).t()
    torch.testing.assert_close(step[sound].double(), solved, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(step[~sound], residual.t()[~sound])
    stretched = torch.tensor([[0.04 - 1, 0.06 - 1]])  # along one axis, next to the bound
    slope = torch.zeros(3, 3, 2)
    slope[0, 0] = stretched
    step = inversion._newton_step(slope, torch.ones(3, 2))
    torch.testing.assert_close(step, torch.tensor([[1.0, 1 / 0.06], [1.0, 1.0], [1.0, 1.0]]))


def test_too_large_a_grid_keeps_the_spacing(deformation, monkeypatch):
    monkeypatch.setattr(inverse_module, "_MOST_NODES", 1000)
    assert fine_inverse(deformation).frame.spacing == deformation.frame.spacing


def test_only_nodes_where_the_inverse_bends_are_worked_on_and_no_figure_falls(deformation, monkeypatch):
    """A push in one corner: correcting all nodes gains less than a micrometre over correcting those near it."""
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in deformation.frame.shape), indexing="ij"))
    push = 7.0 * torch.exp(-(index - torch.tensor([9, 9, 8]).view(3, 1, 1, 1)).square().sum(0) / 18)
    local = DisplacementTransform(hold_border(torch.stack((push, -0.7 * push, 0.4 * push))), deformation.frame)
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)).double() * 50 + 3
    points = points + torch.tensor(deformation.frame.origin)
    worked, correct = [], inverse_module._corrected

    def counted(*given):
        worked.append(len(given[-1]))
        return correct(*given)

    def remaining() -> tuple[float, int]:
        worked.clear()
        inverse = fine_inverse(local)
        error = (inverse.map_points(local.map_points(points)) - points).norm(dim=1)
        return float(error.mean()), sum(worked)

    monkeypatch.setattr(inverse_module, "_corrected", counted)
    some, few = remaining()
    monkeypatch.setattr(inverse_module, "_STRAIGHT_MM", -1.0)
    every, many = remaining()
    assert some < every + 1e-3 and few < 0.5 * many


def test_where_a_field_is_straight_there_is_nothing_to_correct_however_little_is_tolerated(monkeypatch):
    monkeypatch.setattr(inverse_module, "_STRAIGHT_MM", 0.0)
    index = torch.stack(torch.meshgrid(*(torch.arange(8.0),) * 3, indexing="ij"))
    assert not inverse_module._bent(0.5 * index + 3.0).any()
    index[1, 4, 4, 4] += 0.25
    assert inverse_module._bent(0.5 * index + 3.0).sum() > 26


def test_ticks_say_how_much_is_done(deformation, monkeypatch):
    monkeypatch.setattr(inverse_module, "_CHUNK", 2**13)
    heard: list[float] = []
    fine_inverse(deformation, tick=heard.append)
    assert len(heard) > 4 and heard == sorted(set(heard)) and heard[0] > 0 and heard[-1] == 1


def test_the_finer_grid_has_what_the_nearest_node_has_but_for_its_outermost_layer():
    source = Grid((7, 8, 9), 2.0)
    target = source.coarser(2.0 / inverse_module.FINER)
    everywhere = inverse_module._on_finer(torch.ones(source.shape, dtype=torch.bool), source, target)
    inner = torch.zeros(target.shape, dtype=torch.bool)
    inner[1:-1, 1:-1, 1:-1] = True
    assert torch.equal(everywhere, inner)
    one = torch.zeros(source.shape, dtype=torch.bool)
    one[3, 4, 5] = True
    away = (
        inverse_module._on_finer(one, source, target).nonzero() * target.spacing_mm - torch.tensor([6, 8, 10])
    ).abs()
    assert len(away) > 1 and float(away.max()) <= 1.0 + 1e-6


def test_a_long_step_that_makes_the_error_larger_is_not_taken():
    """From (1, 0, 0), where 2 mm are missing, the step leads to (-1, 0, 0), where 4 mm would be."""
    grid, frame = Grid((7, 7, 7), 1.0), Frame((7, 7, 7), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    push, guess = torch.zeros(3, 7, 7, 7), torch.zeros(3, 7, 7, 7)
    guess[0] = 1.0
    node = torch.tensor([3 + 7 * (3 + 7 * 3)])
    for missing, expected in ((-3.0, 1.0), (1.0, -1.0)):  # the second time the step ends where nothing is missing
        push[0, :, :, 4], push[0, :, :, 2] = 1.0, missing
        deformation = DisplacementTransform(push, frame)
        corrected = inverse_module._corrected(guess, grid, frame.origin, deformation, node)
        torch.testing.assert_close(corrected, torch.tensor([[expected], [0.0], [0.0]]))
