"""The ways to compare fixed and warped in the slice views, each one click, with one slider."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib.display.compare import MODES, Comparison, valueText
from SpikeRegSlicerLib.parameters import COMPARE_VALUES
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.widgets.part import Part

DECIMALS = {"flicker": 1, "checkerboard": 0, "grid": 0, "glyph": 0, "contour": 1}
STEPS = {"flicker": 0.5, "checkerboard": 1.0, "grid": 1.0, "glyph": 1.0, "contour": 0.5}
SLIDERS = {
    "blend": lambda: _("Warped"),
    "flicker": lambda: _("Rate (Hz)"),
    "checkerboard": lambda: _("Square (mm)"),
    "difference": lambda: _("Window"),
    "jacobian": lambda: _("Opacity"),
    "grid": lambda: _("Lines (mm)"),
    "glyph": lambda: _("Arrows (mm)"),
    "contour": lambda: _("Step (mm)"),
    "error": lambda: _("Opacity"),
    "surface": lambda: _("Opacity"),
    "errorSurface": lambda: _("Opacity"),
}


class ComparePart(Part):
    """In charge of the mode buttons, their slider, and the key that swaps the two images."""

    KEY = "Ctrl+Shift+F"

    def setUp(self) -> None:
        self._comparison: Comparison | None = None
        self._shown: tuple[str, float] | None = None
        self._flicker = qt.QTimer()
        self._flicker.timeout.connect(self._onFlicker)
        self._buttons = {mode: getattr(self.ui, f"{mode}Button") for mode in MODES}
        for mode, button in self._buttons.items():
            button.clicked.connect(lambda checked, mode=mode: self._onClicked(mode, checked))
        self.ui.compareSlider.valueChanged.connect(self._onSlider)
        self._key = qt.QShortcut(self.panel.top)
        self._key.setKey(qt.QKeySequence(self.KEY))
        self._key.activated.connect(self.flickerOnce)

    def cleanUp(self) -> None:
        super().cleanUp()
        self.leave()
        self._comparison = None

    def leave(self) -> None:
        self._flicker.stop()
        if self._comparison is not None and self._shown is not None:
            self._comparison.hide()
        self._shown = None

    def showRun(self, run: Run | None) -> None:
        """Compare the volumes of this run from now on, or nothing."""
        self._comparison = None
        if run is None:
            return
        images = run.images()
        if images is not None:
            known = run.transform.GetTransformFromParent() is not None  # not so where its file was lost
            transform = run.transform if known else None
            self._comparison = Comparison(slicer.mrmlScene, *images, transform, run.errors())

    def update(self) -> None:
        """Show the mode that the parameter node says."""
        parameters, comparison = self.parameters, self._comparison
        modes = comparison.modes() if comparison is not None else []
        mode = parameters.compareMode if parameters.compareMode in modes else ""
        for name, button in self._buttons.items():
            isError = name in ("error", "errorSurface")
            why = _("No error was predicted for this run.") if isError and comparison is not None else ""
            self.enable(f"{name}Button", name in modes, "" if name in modes else why)
            button.checked = name == mode
        self._showSlider(mode)
        wanted = (mode, getattr(parameters, COMPARE_VALUES[mode])) if mode else None
        if wanted == self._shown or comparison is None:
            return
        self._flicker.stop()
        self._shown = wanted  # first, as showing adds nodes to the scene, which ends here again
        if wanted is None:
            comparison.hide()
        else:
            comparison.show(*wanted)
            if mode == "flicker" and self.panel.isEntered:
                self._flicker.start(round(1000 / wanted[1]))

    def flickerOnce(self) -> None:
        """Swap the two images by hand; the first time, show them in turns and stand still."""
        if self._comparison is None:
            return
        if self._shown is None or self._shown[0] != "flicker":
            self.write(compareMode="flicker", showSpikes=False)
        self._flicker.stop()
        self._comparison.tick()

    def enter(self) -> None:
        """Go on flickering."""
        if self._shown is not None and self._shown[0] == "flicker":
            self._flicker.start(round(1000 / self._shown[1]))

    def exit(self) -> None:
        """Stand still while another module is looked at."""
        self._flicker.stop()

    def _showSlider(self, mode: str) -> None:
        slider = self.ui.compareSlider
        slider.enabled = bool(mode)
        if not mode:
            return
        about = MODES[mode]
        blocked = slider.blockSignals(True)
        slider.decimals, slider.singleStep = DECIMALS.get(mode, 2), STEPS.get(mode, 0.01)
        slider.minimum, slider.maximum = about.minimum, about.maximum
        slider.value = getattr(self.parameters, COMPARE_VALUES[mode])
        slider.blockSignals(blocked)
        self.ui.compareSliderLabel.text = f"{SLIDERS[mode]()}:"
        slider.toolTip = valueText(mode)

    def _onClicked(self, mode: str, checked: bool) -> None:
        if checked:
            self.write(compareMode=mode, showSpikes=False)
        else:
            self.write(compareMode="")

    def _onSlider(self, value: float) -> None:
        mode = self.parameters.compareMode
        if mode:
            self.write(**{COMPARE_VALUES[mode]: float(value)})

    def _onFlicker(self) -> None:
        if self._comparison is not None:
            self._comparison.tick()
