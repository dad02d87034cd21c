"""The worst places of a run, looked for when a person opens their section: that takes a second on a large volume."""

from __future__ import annotations

from typing import Any

import slicer

from SpikeRegSlicerLib.display.places import Place, jumpTo, worstPlaces
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.widgets.part import Part


class PlacesPart(Part):
    """In charge of the section of worst places."""

    def setUp(self) -> None:
        self._places: list[Place] | None = None  # None: not looked for yet
        self.ui.placesCollapsibleButton.contentsCollapsed.connect(self._onCollapsed)
        self.ui.placesList.itemClicked.connect(self._onPlace)

    def showRun(self, run: Run | None) -> None:
        """List the places of this run from now on, once the section is open."""
        self._places = None
        self.ui.placesList.clear()
        self.enable("placesCollapsibleButton", run is not None)
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
