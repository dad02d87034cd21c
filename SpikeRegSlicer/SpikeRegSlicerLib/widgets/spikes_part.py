"""The network's activity over the fixed volume: a slider that walks from the first layer to the last."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display.spikes import SpikeOverlay, layerName
from SpikeRegSlicerLib.display.tables import firingLayers
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.scene.transforms import fixedOf
from SpikeRegSlicerLib.widgets.part import Part


class SpikesPart(Part):
    """In charge of the layer slider and what it shows."""

    def setUp(self) -> None:
        self._overlay: SpikeOverlay | None = None
        self._rates: dict[str, float] = {}
        self._names: list[str] = []
        self._shown: tuple[int, float, bool] | None = None
        self.ui.showSpikesCheckBox.toggled.connect(self._onToggled)
        self.ui.layerSlider.valueChanged.connect(self._onLayer)

    def cleanUp(self) -> None:
        super().cleanUp()
        self.leave()
        self._forget()

    def _forget(self) -> None:
        self._overlay, self._names, self._rates = None, [], {}

    def leave(self) -> None:
        if self._overlay is not None and self._shown is not None:
            self._overlay.hide()
        self._shown = None

    def showRun(self, run: Run | None) -> None:
        """Walk through the layers of this run from now on, or of none."""
        self._forget()
        if run is None:
            return
        fixed = fixedOf(run.transform)
        if fixed is None or not run.spikes:
            return
        self._overlay = SpikeOverlay(slicer.mrmlScene, fixed, run.spikes)
        self._names = [layerName(volume) for volume in run.spikes]
        layers = (run.result.get("spikes") or {}).get("layers") or []
        self._rates = {layer["name"]: layer["rate"] for layer in layers}

    def update(self) -> None:
        """Show the layer that the parameter node says, if it says so."""
        parameters, overlay = self.parameters, self._overlay
        last = max(0, len(self._names) - 1)
        layer = min(parameters.spikeLayer, last)
        on = parameters.showSpikes and overlay is not None
        for widget, value in ((self.ui.showSpikesCheckBox, on), (self.ui.layerSlider, layer)):
            blocked = widget.blockSignals(True)
            if widget is self.ui.layerSlider:
                widget.maximum = last
                widget.value = value
            else:
                widget.checked = value
            widget.blockSignals(blocked)
            widget.enabled = overlay is not None
        self.ui.spikeOpacitySlider.enabled = self.ui.ownSpikeScaleCheckBox.enabled = overlay is not None
        self.ui.layerLabel.text = self._describe(layer)
        wanted = (layer, parameters.spikeOpacity, parameters.ownSpikeScale) if on else None
        if wanted == self._shown or overlay is None:
            return
        self._shown = wanted  # first, as showing adds a node to the scene, which ends here again
        if wanted is None:
            overlay.hide()
        else:
            overlay.show(*wanted)

    def _describe(self, layer: int) -> str:
        run = self.panel.run
        if run is not None and not firingLayers(run.result):
            return _("No spiking network took part in this run.")
        if self._overlay is None:
            return _("This run has no spike maps.")
        name = self._names[layer]
        where = _("{number} of {count}: {name}").format(number=layer + 1, count=len(self._names), name=name)
        if name not in self._rates:
            return where
        return where + _(", mean rate {rate:.1f} %").format(rate=100 * self._rates[name])

    def _onToggled(self, checked: bool) -> None:
        if checked:
            self.write(showSpikes=True, compareMode="")
        else:
            self.write(showSpikes=False)

    def _onLayer(self, layer: int) -> None:
        self.write(spikeLayer=int(layer))
