"""The spiking network's activity over the anatomy: one layer at a time, from encoder to head."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from SpikeRegSlicerLib.display import style
from SpikeRegSlicerLib.display.views import SliceViews
from SpikeRegSlicerLib.scene.hierarchy import LAYER


class SpikeOverlay:
    """Walks through the spike-rate volumes of a run, each on its own grid, over the fixed image in all slice views.

    Each layer has its own colour window (0 to a round rate near its highest), because rates differ between layers by
    a factor of a hundred; the legend says so. A rate is the share of time steps in which a neuron fires.

    Args:
        scene: whose slice views are used.
        fixed: volume node under the overlay.
        volumes: one volume node per layer, encoder -> head, rates in [0, 1].
    """

    def __init__(self, scene: Any, fixed: Any, volumes: list[Any]) -> None:
        self.scene, self.fixed, self.volumes = scene, fixed, list(volumes)
        self._views = SliceViews(scene)
        self._legend: Any = None

    def show(self, index: int, opacity: float = 0.7) -> str:
        """Show one layer and return its name.

        Raises:
            IndexError: if there is no such layer.
        """
        if not 0 <= index < len(self.volumes):
            raise IndexError(f"layer {index}: this run has {len(self.volumes)} layers with spike maps")
        volume = self.volumes[index]
        name = layerName(volume)
        self._removeLegend()
        style.styleSpikes(volume)
        self._views.show(self.fixed, volume, opacity)
        decimals = 3 if volume.GetDisplayNode().GetWindowLevelMax() >= 0.01 else 4
        self._legend = style.addLegend(
            volume, _("{layer}\nrate, own scale").format(layer=name), 3, f"%.{decimals}f", width=0.11
        )
        return name

    def hide(self) -> None:
        """Put the slice views back to what they showed before, and remove the legend."""
        self._views.restore()
        self._removeLegend()

    def _removeLegend(self) -> None:
        if self._legend is not None and self.scene.IsNodePresent(self._legend):
            self.scene.RemoveNode(self._legend)
        self._legend = None


def layerName(volume: Any) -> str:
    """The network's name of a layer, as in result.json."""
    return volume.GetAttribute(LAYER) or volume.GetName()
