"""The runs of the scene: choose one, read its verdict, open its tables and chart, undo or remove it."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from SpikeRegSlicerLib import products
from SpikeRegSlicerLib.display.tables import firingLayers
from SpikeRegSlicerLib.scene.results import Run
from SpikeRegSlicerLib.widgets import layouts, text
from SpikeRegSlicerLib.widgets.part import Part


class ResultsPart(Part):
    """In charge of the list of runs, the verdict and the buttons of figures."""

    def setUp(self) -> None:
        ui = self.ui
        ui.resultComboBox.elideMode = qt.Qt.ElideMiddle
        ui.resultComboBox.currentIndexChanged.connect(self._onChosen)
        ui.undoButton.clicked.connect(self._onUndo)
        ui.removeRunButton.clicked.connect(self._onRemove)
        for kind, button in (
            ("metrics", ui.metricsButton),
            ("energy", ui.energyButton),
            ("provenance", ui.provenanceButton),
        ):
            button.clicked.connect(lambda checked=False, kind=kind: self._showTable(kind))
        ui.ratesButton.clicked.connect(self._showChart)

    def showRun(self, run: Run | None) -> None:
        """List the runs of the scene, and show this one of them."""
        runs, combo = self.panel.runs, self.ui.resultComboBox
        blocked = combo.blockSignals(True)
        combo.clear()
        for each in runs:
            combo.addItem(each.name)
        combo.currentIndex = runs.index(run) if run in runs else -1
        combo.blockSignals(blocked)
        combo.toolTip = text.tip(run.name) if run else ""
        self.ui.resultsCollapsibleButton.enabled = bool(runs)
        if not runs:
            self.ui.resultsCollapsibleButton.collapsed = True
        self.ui.verdictLabel.text = verdictText(run.result) if run else ""
        self.ui.figuresLabel.text = figuresText(run.result) if run else ""
        for name in ("metricsButton", "provenanceButton"):
            self.enable(name, run is not None)
        rates = firingLayers(run.result) if run else []
        none = _("No spiking network took part in this run.")
        notOfThis = _("The energy is of networks that register; in this run none did.") if rates else none
        given = {"energyButton": (run and run.result.get("energy"), notOfThis), "ratesButton": (rates, none)}
        for name, (figures, why) in given.items():  # not every method gives them
            self.enable(name, bool(figures), why if run and not figures else "")

    def update(self) -> None:
        run = self.panel.run
        self.enable("undoButton", run is not None and self.panel.logic.history.canUndo(run.transform))
        self.enable("removeRunButton", run is not None)

    def _onChosen(self, index: int) -> None:
        if 0 <= index < len(self.panel.runs):
            self.write(result=self.panel.runs[index].transform)

    def _onUndo(self) -> None:
        if self.panel.logic.undo(self.panel.run):
            self.panel.say(_("The transform is the one from before its last run; the figures are still of that run."))
            self.panel.showRun()

    def _onRemove(self) -> None:
        self.panel.removeRun()

    def _showTable(self, kind: str) -> None:
        assert self.panel.run is not None  # else the button is not enabled
        node = products.table(self.panel.run, kind)
        if node is None or not layouts.showTable(node):
            self._tellWhere(node)

    def _showChart(self) -> None:
        assert self.panel.run is not None
        node = products.chart(self.panel.run)
        if node is None or not layouts.showChart(node):
            self._tellWhere(node)

    def _tellWhere(self, node: Any) -> None:
        if node is not None:
            self.panel.say(_("{name} is in the folder of the run (module Data).").format(name=node.GetName()))


def verdictText(result: dict[str, Any]) -> str:
    """The verdict and its reasons as rich text, and the warnings below them."""
    verdict = result.get("verdict") or {}
    level = verdict.get("level", "")
    words = {"good": _("Good"), "check": _("Check"), "poor": _("Poor")}
    reasons = "; ".join(verdict.get("reasons") or [])
    lines = [f"{text.coloured(words.get(level, _('No verdict')), level)}&nbsp; {text.plain(reasons)}"]
    lines += [f"{text.coloured(_('Note'), 'check')}&nbsp; {text.plain(each)}" for each in result.get("warnings") or []]
    return "<br>".join(lines)


def figuresText(result: dict[str, Any]) -> str:
    """The figures that most people look at, in one line or two."""
    aligned = {"rigid": _("rigid only"), "affine": _("affine only")}
    said = [aligned[kind] for kind in [result.get("transform_type")] if isinstance(kind, str) and kind in aligned]
    for table, before, after, name, unit in (
        ("similarity", "lncc_before", "lncc_after", "LNCC", ""),
        ("dice", "before_mean", "after_mean", "Dice", ""),
        ("tre_mm", "before_mean", "after_mean", _("landmarks"), " mm"),
    ):
        entry = result.get(table) or {}
        if entry.get(before) is not None and entry.get(after) is not None:
            said.append(f"{name} {entry[before]:.2f} → {entry[after]:.2f}{unit}")
    folding = (result.get("deformation") or {}).get("folding_percent")
    if folding is not None:
        said.append(_("folds {percent:.3f} %").format(percent=folding))
    seconds = (result.get("timing_s") or {}).get("total")
    if seconds is not None:
        spent = f"{seconds:.1f} s" if seconds >= 0.05 else _("less than 0.1 s")
        text = _("{spent} on {device}, the rest known from the run before") if result.get("reused") else None
        said.append((text or _("{spent} on {device}")).format(spent=spent, device=result.get("device", "?")))
    return "  ·  ".join(figure.replace(" ", "\u00a0") for figure in said)
