"""Spike maps over the anatomy: each layer where it belongs, at its own scale, and the views as they were."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicer_scene import makeVolume, rotation, translation
from SpikeRegSlicerLib.display.spikes import SpikeOverlay
from SpikeRegSlicerLib.scene.hierarchy import LAYER

HOT_RAS = np.array([22.0, -14.0, 10.0])
FINE = translation(-60, -60, -60) @ np.diag([2.0, 2.0, 2.0, 1.0])


def spot(spacing: float, rate: float, layer: str, degrees: float = 0):
    """A layer's rates on a coarse grid of its own, whose middle lies off the image's: one Gaussian at `HOT_RAS`."""
    count = int(140 / spacing)
    matrix = rotation(degrees) @ translation(-70, -70, -70) @ np.diag([spacing, spacing, spacing, 1.0])
    index = np.stack([*np.meshgrid(*[np.arange(count)] * 3, indexing="ij")][::-1], -1)
    points = index @ matrix[:3, :3].T + matrix[:3, 3]
    values = rate * np.exp(-((points - HOT_RAS) ** 2).sum(-1) / (2 * 12.0**2))
    values[values < 0.1 * rate] = 0
    volume = makeVolume(values.astype(np.float32), matrix, f"spike rate {layer}")
    volume.SetAttribute(LAYER, layer)
    return volume


@pytest.fixture
def fixed(scene):
    return makeVolume(np.full((60, 60, 60), 50, np.float32), FINE, "fixed")


@pytest.fixture
def layers(scene) -> list:
    """An early layer on a fine grid, a deep one on a coarse oblique grid with a hundredth of the rate."""
    return [spot(4.0, 0.3, "enc0.conv"), spot(14.0, 0.003, "bottleneck", degrees=20)]


def coloured(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from grey."""
    return np.ptp(pixels.astype(int), axis=-1).astype(float)


@pytest.mark.parametrize("index", [0, 1])
def test_a_layer_is_drawn_at_its_anatomical_place(panel, fixed, layers, index):
    panel.setVolumes(fixed)
    panel.fit()
    panel.jump(tuple(HOT_RAS))
    before = [view.pixels().astype(int) for view in panel.views]
    SpikeOverlay(panel.scene, fixed, layers).show(index, 1.0, ownScale=True)
    for view, plain in zip(panel.views, before, strict=True):
        gain = (view.pixels() - plain).mean(-1)
        gain[:, 330:] = 0  # the legend
        rows, columns = np.nonzero(gain > 0.5 * gain.max())
        assert np.linalg.norm(view.ras(rows.mean(), columns.mean()) - HOT_RAS) < (2.0, 7.0)[index]  # half a voxel


def test_where_nothing_fires_the_anatomy_stays_as_it_is(panel, fixed, layers):
    panel.setVolumes(fixed)
    panel.fit()
    panel.jump(tuple(HOT_RAS))
    before = panel.views[0].pixels()
    SpikeOverlay(panel.scene, fixed, layers).show(0, 1.0)
    after, view = panel.views[0].pixels(), panel.views[0]
    silent, firing = (view.pixel((x, y, HOT_RAS[2])) for x, y in ((-40, 40), HOT_RAS[:2]))
    assert tuple(after[silent]) == tuple(before[silent])
    assert coloured(after)[firing] > 50 or after[firing].min() > 150


def test_walking_through_the_layers_names_each_and_keeps_one_legend(panel, fixed, layers):
    overlay = SpikeOverlay(panel.scene, fixed, layers)
    assert [overlay.show(index) for index in (0, 1, 0, 1)] == ["enc0.conv", "bottleneck"] * 2
    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert len(legends) == 1
    assert legends[0].GetTitleText() == "bottleneck\nrate, one scale"
    overlay.show(1, ownScale=True)
    assert legends[0].GetScene() is None, "a new legend, not the old one"
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert legend.GetLabelFormat() == "%.4f"
    assert legend.GetTitleText() == "bottleneck\nrate, own scale"
    with pytest.raises(IndexError, match="layer 2: this run has 2 layers"):
        overlay.show(2)


def test_all_layers_share_the_scale_of_the_highest(scene, fixed, layers):
    overlay = SpikeOverlay(scene, fixed, layers)
    overlay.show(0, ownScale=True)
    highest = layers[0].GetDisplayNode().GetWindowLevelMax()
    for index, layer in enumerate(layers):
        overlay.show(index)
        assert layer.GetDisplayNode().GetWindowLevelMax() == pytest.approx(highest)


def test_each_layer_can_have_a_scale_that_fits_its_rates(scene, fixed, layers):
    overlay = SpikeOverlay(scene, fixed, layers)
    for index, rate in enumerate((0.3, 0.003)):
        overlay.show(index, ownScale=True)
        display = layers[index].GetDisplayNode()
        assert display.GetWindowLevelMin() == pytest.approx(0)
        assert 0.4 * rate < display.GetWindowLevelMax() <= rate
        assert not display.GetInterpolate(), "the layer's own grid is drawn"


def test_a_silent_layer_is_drawn_as_nothing(panel, fixed):
    silent = makeVolume(np.zeros((10, 10, 10), np.float32), FINE @ np.diag([6, 6, 6, 1.0]), "silent")
    panel.setVolumes(fixed)
    panel.fit()
    before = panel.pixels()[:200]  # above the legend
    SpikeOverlay(panel.scene, fixed, [silent]).show(0, 1.0)
    np.testing.assert_array_equal(panel.pixels()[:200], before)


def test_the_legend_is_drawn_and_goes_with_the_overlay(panel, fixed, layers):
    panel.setVolumes(fixed)
    panel.fit()
    before = panel.pixels()
    nodes = panel.scene.GetNumberOfNodes()
    overlay = SpikeOverlay(panel.scene, fixed, layers)
    overlay.show(0, 0.0)
    for view in panel.views:
        corner = view.pixels()[250:, 330:]
        assert coloured(corner).max() > 100, "the colours of the scale"
        assert corner.min(-1).max() > 200, "white text"
    overlay.hide()
    np.testing.assert_array_equal(panel.pixels(), before)
    assert panel.scene.GetNumberOfNodes() == nodes + 1, "only the colour table has come"
