"""The worst places of a run, looked for when a person opens their section: that takes a second on a large volume."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from SpikeRegSlicerLib.display.places import Place, apart, jumpTo, predictedPlaces, worstPlaces
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.widgets.part import Part


class PlacesPart(Part):
    """In charge of the section of worst places, and of the key that goes from one to the next."""

    KEY = "Ctrl+Shift+N"

    def setUp(self) -> None:
        self._places: list[Place] | None = None  # None: not looked for yet
        self.ui.placesCollapsibleButton.contentsCollapsed.connect(self._onCollapsed)
        self.ui.placesList.itemClicked.connect(self._onPlace)
        self._next = qt.QShortcut(self.panel.top)
        self._next.setKey(qt.QKeySequence(self.KEY))
        self._next.activated.connect(self.showNext)

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
            run = self.panel.run
            images = run.images() if run is not None else None
            self._places = []
            if run is not None and images is not None:
                self._places = apart([*predictedPlaces(run.result), *worstPlaces(*images)])
        return self._places

    def showNext(self) -> None:
        """Show the place after the one that is chosen, the first one after the last; nothing without a run."""
        places = self.places()
        if not places:
            return
        if self.ui.placesList.count != len(places):
            self._list()
        row = (self.ui.placesList.currentRow + 1) % len(places)
        self.ui.placesList.setCurrentRow(row)
        jumpTo(slicer.mrmlScene, places[row].ras)
        self.panel.say(places[row].text)

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
