"""Render the pictures of the tutorial: `python Docs/make_screenshots.py` writes Docs/screenshots/*.png.

The bundled sample pair is registered (or a run folder taken with --run) and shown by the module's own display code in
Slicer's slice logic and displayable managers, off screen; needs slicer-core and an off-screen OpenGL. The window, the
slice controllers and the corner annotations of the application are not in these pictures. The chart is drawn with VTK
as Slicer's plot view sets it up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "SpikeRegSlicer"), str(ROOT / "Testing" / "scene")]

import slice_view  # noqa: E402
import slicer_scene  # noqa: E402

VIEW = (400, 400)
PLACE = (0.0, -10.0, 20.0)  # RAS mm: through the ventricles of the sample pair
MODES = (("grid", 10), ("glyph", 8), ("contour", 2), ("checkerboard", 20), ("difference", 0.4), ("jacobian", 0.5))
EARLY, DEEP = "enc0.down", "dec1.conv"
BAR_COLOURS = ((241, 73, 48), (108, 178, 79), (237, 213, 76))  # of Slicer's red, green and yellow slice views
SAMPLE = ROOT / "SpikeRegLib" / "sample"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "Docs" / "screenshots", help="folder for the pictures")
    parser.add_argument("--run", type=Path, help="folder of a registration of the sample pair with --spike-maps")
    arguments = parser.parse_args()
    if problem := slice_view.problem():
        sys.exit(problem)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or register(Path(folder) / "run")
        for name, pixels in pictures(run):
            path = arguments.out / f"{name}.png"
            writePng(path, pixels)
            print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def register(out: Path) -> Path:
    """Register the sample pair in a process of its own."""
    command = [sys.executable, "-m", "SpikeRegLib", "register", SAMPLE / "fixed.nii.gz", SAMPLE / "moving.nii.gz"]
    command += ["--out", out, "--preset", "brain-t1", "--spike-maps"]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return out


def pictures(folder: Path):
    """Name and [H, W, 3] pixels of each picture."""
    from SpikeRegSlicerLib.display import charts, compare, spikes, style, tables
    from SpikeRegSlicerLib.scene.inputs import Inputs
    from SpikeRegSlicerLib.scene.results import Outputs, loadRun

    panel = slice_view.SlicePanel(slicer_scene.boot(), VIEW)
    fixed, moving = (slicer_scene.loadVolume(SAMPLE / f"{name}.nii.gz", name) for name in ("fixed", "moving"))
    run = loadRun(str(folder), Inputs(fixed=fixed, moving=moving), Outputs(), "SpikeReg")
    style.styleRun(run)
    panel.setVolumes(fixed)
    panel.fit(0.97)
    panel.jump(PLACE)
    comparison = compare.Comparison(panel.scene, fixed, run.warped, run.jacobian, run.transform)
    for mode, value in MODES:
        comparison.show(mode, value)
        yield mode, framed(panel)
    comparison.hide()
    overlay = spikes.SpikeOverlay(panel.scene, fixed, run.spikes)
    names = [spikes.layerName(volume) for volume in run.spikes]
    for title, layer in (("spikes-early", EARLY), ("spikes-deep", DEEP)):
        overlay.show(names.index(layer), 0.7)
        yield title, framed(panel)
    overlay.hide()
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    yield "chart", drawnChart(charts.ratesChart(panel.scene, tables.ratesTable(panel.scene, result)))


def framed(panel: slice_view.SlicePanel) -> np.ndarray:
    """The three views with the coloured bars that tell them apart in Slicer, annotated as in the report."""
    from SpikeRegSlicerLib.display import annotated

    views = []
    for view, colour in zip(panel.views, BAR_COLOURS, strict=True):
        pixels = view.pixels() & 0xFC  # six bits a colour: a third smaller as a file, and looks the same
        pixels[:5] = colour
        pixels[:, :1] = pixels[:, -1:] = 60
        views.append(annotated.annotate(pixels, view.node, [], ""))
    return np.concatenate(views, axis=1)


def drawnChart(chart: Any, size: tuple[int, int] = (1200, 420)) -> np.ndarray:
    """A chart node's series as bars, set up as Slicer's plot view does."""
    view = vtk.vtkContextView()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetMultiSamples(0)
    view.GetRenderWindow().SetSize(*size)
    view.GetRenderer().SetBackground(1, 1, 1)
    drawn = vtk.vtkChartXY()
    view.GetScene().AddItem(drawn)
    for number in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(number)
        bars = drawn.AddPlot(vtk.vtkChart.BAR)
        bars.SetUseIndexForXSeries(True)
        bars.SetInputData(series.GetTableNode().GetTable(), series.GetYColumnName(), series.GetYColumnName())
        bars.SetColorF(*series.GetColor())
        bars.SetLabel(series.GetName())
    drawn.SetShowLegend(chart.GetLegendVisibility())
    drawn.SetTitle(chart.GetTitle())
    drawn.GetTitleProperties().SetFontSize(20)
    for place, title in ((vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()), (vtk.vtkAxis.LEFT, chart.GetYAxisTitle())):
        axis = drawn.GetAxis(place)
        axis.SetTitle(title)
        axis.GetTitleProperties().SetFontSize(16)
        axis.GetTitleProperties().SetBold(False)
        axis.GetLabelProperties().SetFontSize(12)
    left = drawn.GetAxis(vtk.vtkAxis.LEFT)
    left.SetRange(*chart.GetYAxisRange())
    left.SetBehavior(vtk.vtkAxis.FIXED)
    view.GetRenderWindow().Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.GetRenderWindow())
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3]


def writePng(path: Path, pixels: np.ndarray) -> None:
    """Write [H, W, 3] uint8 as a PNG file."""
    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(pixels[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetCompressionLevel(9)
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()


if __name__ == "__main__":
    main()
