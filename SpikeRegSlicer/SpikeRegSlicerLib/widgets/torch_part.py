"""The offer to install PyTorch: a line and a button, and nothing happens before it is pressed."""

from __future__ import annotations

from slicer.i18n import tr as _

from SpikeRegSlicerLib.library import torchIsInstalled
from SpikeRegSlicerLib.widgets.part import Part

REQUIREMENT = ">=2.4"


class TorchPart(Part):
    """In charge of the line that says PyTorch is missing."""

    def setUp(self) -> None:
        self.ui.installTorchButton.clicked.connect(self._onInstall)
        self._show()

    def enter(self) -> None:
        self._show()

    def _show(self) -> None:
        self.ui.torchOffer.setVisible(not torchIsInstalled())

    def _onInstall(self) -> None:
        try:
            import PyTorchUtils
        except ImportError:
            self.panel.say(
                _(
                    "The extension PyTorch installs it: choose PyTorch in View / Extensions Manager, restart Slicer "
                    "and come back."
                ),
                "check",
            )
            return
        try:
            PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=REQUIREMENT)
        except Exception as error:
            self.panel.logic.process.tellTraceback(error)
            self.panel.say(_("PyTorch could not be installed: {error}").format(error=error), "poor")
        self._show()
        self.panel.update()
