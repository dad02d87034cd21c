"""The spiking network's activity over the anatomy: one layer at a time, from encoder to head."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from SpikeRegSlicerLib.display import style
from SpikeRegSlicerLib.display.views import SliceViews
from SpikeRegSlicerLib.scene.hierarchy import LAYER


class SpikeOverlay:
    """Walks through the spike-rate volumes of a run, each on its own grid, over the fixed image in all slice views.

    All layers share one colour window, from 0 to a round rate near the highest, so that colours can be compared. Rates
    differ between layers by a factor of a hundred; to see into a quiet one, each can have its own window. The
    legend says which it is. A rate is the share of time steps in which a neuron fires.

    Args:
        scene: whose slice views are used.
        fixed: volume node under the overlay.
        volumes: one volume node per layer, encoder -> head, rates in [0, 1].
    """

    def __init__(self, scene: Any, fixed: Any, volumes: list[Any]) -> None:
        self.scene, self.fixed, self.volumes = scene, fixed, list(volumes)
        self._views = SliceViews(scene)
        self._legend: Any = None
        self._common: float | None = None

    def show(self, index: int, opacity: float = 0.7, ownScale: bool = False) -> str:
        """Show one layer and return its name.

        Args:
            ownScale: colour it by its own rates alone.

        Raises:
            IndexError: if there is no such layer.
        """
        if not 0 <= index < len(self.volumes):
            raise IndexError(f"layer {index}: this run has {len(self.volumes)} layers with spike maps")
        volume = self.volumes[index]
        name = layerName(volume)
        self._removeLegend()
        style.styleSpikes(volume, None if ownScale else self._highest())
        self._views.show(self.fixed, volume, opacity)
        decimals = 3 if volume.GetDisplayNode().GetWindowLevelMax() >= 0.01 else 4
        title = _("{layer}\nrate, own scale") if ownScale else _("{layer}\nrate, one scale")
        self._legend = style.addLegend(volume, title.format(layer=name), 3, f"%.{decimals}f", width=0.11)
        return name

    def _highest(self) -> float:
        """The end of the scale that all layers share; looked for once."""
        if self._common is None:
            self._common = max(style.highRate(volume) for volume in self.volumes)
        return self._common

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
