"""The fine pass: sees the pair as the coarse pass left it, and is composed with it from fixed to moving."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.networks.fine_pass import PREFIX, predict_fine
from SpikeRegLib.networks.passes import Prediction
from SpikeRegLib.progress import silent
from SpikeRegLib.similarity.contrast import Comparison
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.spiking.energy import dense_table
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet

SPEC = velocity_unet("small", encoder=(4, 6), decoder=(4,), input_spacing_mm=1.0)
FRAME = Frame((32, 40, 32), origin=(5.0, -7.0, 11.0))
COARSE_GRID = Grid((16, 20, 16), 2.0)


class Probe(RegistrationUNet):
    """A network that keeps what it sees and gives a constant velocity, in voxels of its head (x, y, z)."""

    def __init__(self, *velocity: float) -> None:
        super().__init__(SPEC)
        self.velocity = torch.tensor(velocity).view(1, 3, 1, 1, 1)
        self.seen = torch.empty(0)

    def forward(self, image, *, recorder=None):
        self.seen = image
        depth, height, width = (n // 2 for n in image.shape[2:])
        return self.velocity.expand(1, 3, depth, height, width)


def coarse(field: torch.Tensor) -> Prediction:
    table = dense_table(SPEC, COARSE_GRID.shape)
    return Prediction(
        displacement=field,
        passes=1,
        passes_run=3,
        views=1,
        layers=[],
        energy=table,
        maps={},
        timesteps=4,
        device="cpu",
        warnings=["noted"],
    )


def run(network, field: torch.Tensor, fixed=None, moving=None):
    images = (torch.rand(FRAME.shape) if image is None else image for image in (fixed, moving))
    pair = Pair(FRAME, *images, torch.ones(FRAME.shape, dtype=torch.bool), Comparison())
    return predict_fine(
        network, pair, coarse=coarse(field), coarse_grid=COARSE_GRID, device="cpu", spike_maps=True, listener=silent
    )  # fmt: skip


def positions(grid: Grid) -> torch.Tensor:
    """[3, D, H, W] mm from the first voxel, as (x, y, z)."""
    z, y, x = torch.meshgrid(*(torch.arange(float(n)) * grid.spacing_mm for n in grid.shape), indexing="ij")
    return torch.stack((x, y, z))


def interior(field: torch.Tensor) -> torch.Tensor:
    return field[:, 5:-5, 5:-5, 5:-5]


def test_a_fine_pass_that_finds_nothing_leaves_the_coarse_displacement() -> None:
    field = positions(COARSE_GRID) * 0.05
    prediction, grid = run(Probe(0.0, 0.0, 0.0), field)
    assert grid == COARSE_GRID
    assert torch.allclose(interior(prediction.displacement), interior(field), atol=1e-4)
    assert prediction.warnings == ["noted"]
    assert (prediction.passes, prediction.passes_run) == (2, 4)


def test_the_coarse_displacement_is_read_where_the_fine_one_leads() -> None:
    """total(x) = c + u(x + c), which for u = a x differs from the sum by a c."""
    slope, constant = 0.1, torch.tensor([2.0, -1.0, 0.5])
    prediction, grid = run(Probe(*(constant / 2).tolist()), positions(COARSE_GRID) * slope)
    shift = constant.view(3, 1, 1, 1)
    expected = shift + slope * (positions(grid) + shift)
    assert torch.allclose(interior(prediction.displacement), interior(expected), atol=1e-3)


def test_the_network_sees_the_moving_image_at_the_displaced_points() -> None:
    moving = torch.rand(FRAME.shape)
    field = torch.zeros(3, *COARSE_GRID.shape)
    field[0], field[2] = 3.0, -2.0  # mm along x and z: whole voxels of the images
    network = Probe(0.0, 0.0, 0.0)
    fixed = torch.rand(FRAME.shape)
    run(network, field, fixed, moving)
    assert torch.equal(network.seen[0, 0], fixed)
    seen = network.seen[0, 1]
    assert torch.allclose(seen[2:, :, :-3], moving[:-2, :, 3:], atol=1e-4)


@pytest.mark.parametrize("kind", [AnalogUNet, SpikingUNet])
def test_layers_maps_and_operations_of_both_passes_are_kept(kind) -> None:
    torch.manual_seed(0)
    network = kind(SPEC).eval()
    prediction, _ = run(network, torch.zeros(3, *COARSE_GRID.shape))
    first, second = dense_table(SPEC, COARSE_GRID.shape), dense_table(SPEC, FRAME.shape)
    assert prediction.energy.dense_twin_macs == first.dense_twin_macs + second.dense_twin_macs
    assert prediction.energy.analog_macs == first.analog_macs + second.analog_macs
    assert prediction.energy.paper_baseline_macs == second.paper_baseline_macs
    assert prediction.energy.synaptic_ops is None  # the first pass was dense
    names = [PREFIX + layer.name for layer in SPEC.layers] if kind is SpikingUNet else []
    assert [layer.name for layer in prediction.layers] == names
    assert set(prediction.maps) == {n for n in names if not n.endswith("head")}


def test_the_operations_add_up_where_both_passes_spike() -> None:
    torch.manual_seed(0)
    network = SpikingUNet(SPEC).eval()
    before = replace(
        coarse(torch.zeros(3, *COARSE_GRID.shape)),
        energy=replace(dense_table(SPEC, COARSE_GRID.shape), synaptic_ops=1000, neuron_updates=50),
    )
    mask = torch.ones(FRAME.shape, dtype=torch.bool)
    pair = Pair(FRAME, torch.rand(FRAME.shape), torch.rand(FRAME.shape), mask, Comparison())
    prediction, _ = predict_fine(
        network, pair, coarse=before, coarse_grid=COARSE_GRID, device="cpu", spike_maps=False, listener=silent
    )  # fmt: skip
    assert prediction.energy.synaptic_ops == 1000 + sum(layer.synaptic_ops for layer in prediction.layers)
    assert prediction.energy.neuron_updates == 50 + sum(layer.neuron_updates for layer in prediction.layers)


def test_rate_maps_lie_in_the_patient_where_the_layers_do() -> None:
    torch.manual_seed(0)
    prediction, _ = run(SpikingUNet(SPEC).eval(), torch.zeros(3, *COARSE_GRID.shape))
    rates = prediction.maps[PREFIX + "enc1.conv"]
    assert rates.frame.origin == FRAME.origin and rates.frame.spacing == (4.0, 4.0, 4.0)
    assert rates.data.shape == (8, 10, 8)
