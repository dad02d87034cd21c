"""What a run adds to its folder besides what the worker wrote: looks, tables and a chart; and reruns into its nodes."""

from __future__ import annotations

from typing import Any

import slicer

from SpikeRegSlicerLib.display import charts, style, tables
from SpikeRegSlicerLib.scene import grids, transforms
from SpikeRegSlicerLib.scene.hierarchy import KEPT
from SpikeRegSlicerLib.scene.results import Outputs, Run, loadRun, runs

TABLES = {
    "metrics": tables.metricsTable,
    "labels": tables.labelsTable,
    "structures": tables.structuresTable,
    "errors": tables.errorsTable,
    "energy": tables.energyTable,
    "rates": tables.ratesTable,
    "provenance": tables.provenanceTable,
}
CHART = "chart"


def replaceRun(folder: str, inputs: Any, outputs: Outputs, name: str, options: dict[str, Any] | None = None) -> Run:
    """Load a registration's files as a run. A run that used the same transform node before is replaced by it.

    Args:
        folder, inputs, outputs, name: see `loadRun`.
        options: of the request, for the table of provenance.
    """
    before = runOf(outputs.transform)
    made = [node for node in (outputs.transform, outputs.warped) if before and _isMadeBy(before, node)]
    run = loadRun(folder, inputs, outputs, name)
    for node in made:
        node.RemoveAttribute(KEPT)  # it was made by a run before this one: removing this one removes it
    if before is not None:
        before.remove()
    style.styleRun(run)
    for kind in TABLES:
        table(run, kind, options)
    chart(run)
    return run


def runOf(transform: Any) -> Run | None:
    """The run that a transform node belongs to."""
    if transform is None:
        return None
    return next((run for run in runs(slicer.mrmlScene) if run.transform is transform), None)


def table(run: Run, kind: str, options: dict[str, Any] | None = None) -> Any:
    """The run's table of this kind, made if it is not there; None where the run has nothing to put into it."""
    found = run.folder.nodes(f"table {kind}")
    if found:
        return found[0]
    made = TABLES[kind](slicer.mrmlScene, run.result, *([options] if kind == "provenance" else []))
    if made is not None:
        made.SetName(f"{run.name} {made.GetName()}")
        run.folder.add(made, f"table {kind}")
    return made


def chart(run: Run) -> Any:
    """The run's bar chart of spike rates, made if it is not there; None where no spiking network ran."""
    found = run.folder.nodes(CHART)
    if found:
        return found[0]
    rates = table(run, "rates")
    if rates is None:
        return None
    made = charts.ratesChart(slicer.mrmlScene, rates)
    made.SetName(f"{run.name} {made.GetName()}")
    run.folder.add(made, CHART)
    for node in charts.ownNodes(made, rates):
        run.folder.add(node, "series")
    return made


def warpAgain(run: Run) -> None:
    """Make the warped volume with the transform as it is now, after that was put back."""
    fixed, moving = transforms.fixedOf(run.transform), transforms.movingOf(run.transform)
    if run.warped is None or fixed is None or moving is None or moving.GetImageData() is None:
        return
    background = run.result.get("background")  # as a person set it for this run
    if not isinstance(background, (int, float)):
        background = moving.GetImageBackgroundScalarComponentAsDouble(0)
    image = grids.resample(
        moving.GetImageData(),
        grids.ownGrid(moving).matrix,
        grids.worldGrid(fixed, transforms.standing(fixed, (fixed, moving), "fixed")),
        run.transform.GetTransformFromParent(),
        background=background,
    )
    run.warped.SetAndObserveImageData(image)


def _isMadeBy(run: Run, node: Any) -> bool:
    return node is not None and node in run.folder.nodes() and not node.GetAttribute(KEPT)
