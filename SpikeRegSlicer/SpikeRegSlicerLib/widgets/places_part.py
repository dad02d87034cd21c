"""The worst places of a run, looked for when a person opens their section: that takes a second on a large volume."""

from __future__ import annotations

from typing import Any

import slicer

from SpikeRegSlicerLib.display.places import Place, jumpTo, worstPlaces


class PlacesPart:
    """In charge of the section of worst places."""

    def __init__(self, ui: Any, panel: Any) -> None:
        self.ui, self.panel = ui, panel
        self._places: list[Place] | None = None  # None: not looked for yet
        ui.placesCollapsibleButton.contentsCollapsed.connect(self._onCollapsed)
        ui.placesList.itemClicked.connect(self._onPlace)

    def setRun(self, run: Any) -> None:
        """List the places of this run from now on, once the section is open."""
        self._places = None
        self.ui.placesList.clear()
        self.ui.placesCollapsibleButton.enabled = run is not None
        if not self.ui.placesCollapsibleButton.collapsed:
            self._list()

    def places(self) -> list[Place]:
        """Of the run that is looked at; looked for on the first call."""
        if self._places is None:
            images = self.panel.run.images() if self.panel.run is not None else None
            self._places = worstPlaces(*images) if images is not None else []
        return self._places

    def _list(self) -> None:
        self.ui.placesList.clear()
        for place in self.places():
            self.ui.placesList.addItem(place.text)

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self._list()

    def _onPlace(self, _item: Any) -> None:
        row = self.ui.placesList.currentRow
        if 0 <= row < len(self.places()):
            jumpTo(slicer.mrmlScene, self.places()[row].ras)
