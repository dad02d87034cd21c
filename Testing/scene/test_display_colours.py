"""Colours of the Jacobian, the spike rates and the difference: their order, their middle, and as they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicer_scene import makeVolume
from SpikeRegSlicerLib.display import colours, style

GRID = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (32, 32, 32)


def table(node) -> np.ndarray:
    """[256, 4] RGBA in [0, 1]."""
    lookup = node.GetLookupTable()
    return np.array([lookup.GetTableValue(n) for n in range(lookup.GetNumberOfTableValues())])


def luminance(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., :3] @ (0.2126, 0.7152, 0.0722)


def drawnColour(panel, value: float) -> np.ndarray:
    """RGB in 0..255 at the middle of a slice view that shows a Jacobian of one value everywhere."""
    volume = makeVolume(np.full(SHAPE, value, np.float32), GRID)
    style.styleJacobian(volume)
    panel.setVolumes(volume)
    panel.fit()
    return panel.views[0].pixels()[200, 200].astype(int)


def test_each_table_is_made_once_per_scene(scene):
    tables = (colours.jacobianColours, colours.spikeRateColours, colours.differenceColours, colours.errorColours)
    for make in (*tables, colours.sideColours):
        node = make(scene)
        assert make(scene) is node
        assert node.GetNumberOfColors() == 256


def test_no_change_of_volume_is_white(panel):
    assert drawnColour(panel, 1.0).min() >= 253


@pytest.mark.parametrize("factor", [1.1, 1.5, 2.0, 3.9])
def test_expansion_is_red_and_contraction_blue_with_equal_strength(panel, factor):
    grown, shrunk = drawnColour(panel, factor), drawnColour(panel, 1 / factor)
    assert grown[0] > grown[2] + 5, "expansion is on the red side"
    assert shrunk[2] > shrunk[0] + 5, "contraction is on the blue side"
    assert abs(luminance(grown) - luminance(shrunk)) < 45, "the scale is symmetric in the logarithm"


def test_stronger_change_is_darker_on_both_sides(panel):
    for values in ((1.0, 1.4, 2.1, 3.6), (1.0, 0.71, 0.48, 0.28)):
        drawn = [luminance(drawnColour(panel, value)) for value in values]
        assert np.all(np.diff(drawn) < -5)


@pytest.mark.parametrize("value", [-5.0, -0.5, -0.02])
def test_a_fold_has_a_colour_of_its_own(panel, value):
    assert tuple(drawnColour(panel, value)) == (255, 0, 255)
    scale = table(colours.jacobianColours(panel.scene))
    magenta = np.abs(scale[:, :3] - (1, 0, 1)).max(1) < 0.3
    low, high = colours.JACOBIAN_RANGE
    assert magenta.sum() == pytest.approx(256 * -low / (high - low), abs=1), "no volume that is left looks folded"


def test_spike_rates_grow_lighter_evenly_and_silence_is_transparent(scene):
    scale = table(colours.spikeRateColours(scene))
    assert scale[0, 3] == 0
    assert np.all(scale[1:, 3] == 1)
    steps = np.diff(luminance(scale))
    assert np.all(steps > -1e-3)
    assert luminance(scale[-1]) > 0.9


def test_the_difference_is_dark_in_the_middle_and_alike_on_both_sides(scene):
    scale = table(colours.differenceColours(scene))
    assert np.all(scale[127:129, :3] == 0)
    assert np.all(scale[:100, 2] > scale[:100, 0]), "below: blue"
    assert np.all(scale[156:, 0] > scale[156:, 2]), "above: orange"
    assert luminance(scale[20]) == pytest.approx(luminance(scale[235]), abs=0.12)


def test_a_window_set_for_a_volume_is_kept_when_its_values_change(scene):
    volume = makeVolume(np.ones(SHAPE, np.float32), GRID)
    style.styleJacobian(volume)
    slicer.util.updateVolumeFromArray(volume, np.full(SHAPE, 900, np.float32))
    display = volume.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == colours.JACOBIAN_RANGE
