"""What every part of the panel is: some widgets of the .ui file, and one class that is in charge of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import slicer
from slicer.util import VTKObservationMixin

if TYPE_CHECKING:
    from SpikeRegSlicerLib.parameters import Parameters
    from SpikeRegSlicerLib.scene.results import Run
    from SpikeRegSlicerLib.widgets.panel import Panel


class Part(VTKObservationMixin, ABC):
    """One part of the panel. Another one is a file with a subclass, and a line in `Panel.PARTS`.

    The panel calls every method below on every part, in the order of that list. A part overrides those in which it has
    something to do; only `setUp` is always there.

    Args:
        ui: the widgets of the .ui file by name; a part touches its own alone.
        panel: what the parts share, and through which one asks for what another does.
    """

    def __init__(self, ui: Any, panel: Panel) -> None:
        VTKObservationMixin.__init__(self)
        self.ui, self.panel = ui, panel
        self._tips: dict[str, str] = {}
        self.setUp()

    # --- what the panel calls ---------------------------------------------------------------------------------------

    @abstractmethod
    def setUp(self) -> None:
        """Once, when the panel was made: connect the widgets. There is no parameter node yet, and no run."""

    def enter(self) -> None:
        """The panel comes to the front; `update` follows where there is a parameter node."""

    def exit(self) -> None:
        """Another module comes to the front."""

    def update(self) -> None:
        """Show what the parameter node says, and enable what can be done. Called after each change of it."""

    def showRun(self, run: Run | None) -> None:
        """From now on this run is looked at, or none, or it has new content; `leave` went before, `update` follows."""

    def onInputsChanged(self) -> None:
        """A chosen node may have new content; `update` follows."""

    def leave(self) -> None:
        """Leave the slice views as they were before; the next `update` shows the same again."""

    def cleanUp(self) -> None:
        """Another parameter node is followed now, or none: let go of every node, and of the slice views."""
        self.removeObservers()

    # --- what a part does -------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Parameters:
        """The parameter node; between two scenes there is none, and `panel.parameters` is None."""
        assert self.panel.parameters is not None
        return self.panel.parameters

    def write(self, **values: Any) -> None:
        """Set parameters, as one change of the parameter node."""
        with slicer.util.NodeModify(self.parameters):
            for name, value in values.items():
                setattr(self.parameters, name, value)

    def enable(self, name: str, isPossible: bool, why: str = "") -> None:
        """Enable a widget or not; its tooltip is that of the .ui file, or `why` where it is given."""
        widget = getattr(self.ui, name)
        tip = self._tips.setdefault(name, widget.toolTip)
        widget.enabled, widget.toolTip = isPossible, why or tip
