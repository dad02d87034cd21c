"""The preset: chosen from a list, described below it, loaded from and saved to TOML."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from SpikeRegSlicerLib import presets
from SpikeRegSlicerLib.widgets.part import Part

FILES = "TOML (*.toml)"


class PresetPart(Part):
    """In charge of the preset's drop-down list, its description and its two buttons."""

    def setUp(self) -> None:
        ui = self.ui
        self._shipped = presets.shipped()
        self._shown: tuple[str, str] | None = None
        for preset in self._shipped:
            ui.presetComboBox.addItem(preset.name)
        ui.presetComboBox.currentIndexChanged.connect(self._onChosen)
        ui.loadPresetButton.clicked.connect(self._onLoad)
        ui.savePresetButton.clicked.connect(self._onSave)
        ui.restoreDefaultsButton.clicked.connect(self._onRestoreDefaults)

    def update(self) -> None:
        parameters, combo = self.parameters, self.ui.presetComboBox
        shown = (parameters.preset, parameters.customPreset)
        if shown == self._shown:
            return
        self._shown = shown
        blocked = combo.blockSignals(True)
        while combo.count > len(self._shipped):
            combo.removeItem(combo.count - 1)
        if parameters.customPreset:
            combo.addItem(_("{name} (in this scene)").format(name=parameters.preset))
            combo.currentIndex = combo.count - 1
        else:
            combo.currentIndex = combo.findText(parameters.preset)
        combo.blockSignals(blocked)
        try:
            self.ui.presetDescriptionLabel.text = presets.presetOf(parameters).description
        except presets.InputError as error:
            self.ui.presetDescriptionLabel.text = str(error)

    def _onChosen(self, index: int) -> None:
        if self.panel.parameters and 0 <= index < len(self._shipped):
            presets.choose(self.parameters, self._shipped[index].name)

    def _onLoad(self) -> None:
        path = qt.QFileDialog.getOpenFileName(self.panel.top, _("Load a preset"), "", FILES)
        if path:
            try:
                preset = presets.load(self.parameters, path)
            except presets.InputError as error:
                self.panel.say(str(error), "poor")
            else:
                self.panel.say(_("The preset {name} is now kept in the scene.").format(name=preset.name))

    def _onSave(self) -> None:
        start = f"{self.parameters.preset}-changed.toml"
        path = qt.QFileDialog.getSaveFileName(self.panel.top, _("Save the preset"), start, FILES)
        if path:
            try:
                written = presets.save(self.parameters, path)
            except presets.InputError as error:
                self.panel.say(str(error), "poor")
            else:
                self.panel.say(_("The preset was saved as {path}.").format(path=written))

    def _onRestoreDefaults(self) -> None:
        self.panel.restoreDefaults()
