"""How a run looks is saved with the scene: read back by another process, as after Slicer was closed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from slicer_scene import blobs, makeGridTransform, makeVolume
from SpikeRegSlicerLib.display import charts, colours, compare, style, tables

READER = """
import json, sys
sys.path.insert(0, sys.argv[2])
import slicer, slicer_scene
application = slicer_scene.boot()
assert application.scene.ReadFromMRB(sys.argv[1])
display = slicer.util.getNode("Jacobian").GetDisplayNode()
lookup = display.GetColorNode().GetLookupTable()
transform = slicer.util.getNode("warp").GetDisplayNode()
energy = slicer.util.getNode("Energy*")
from SpikeRegSlicerLib.display import colours
charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
print(json.dumps({
    "colours": [lookup.GetTableValue(n) for n in range(256)],
    "same": colours.jacobianColours(application.scene) is display.GetColorNode(),
    "window": [display.GetWindowLevelMin(), display.GetWindowLevelMax()],
    "transform": [transform.GetVisualizationMode(), transform.GetGridSpacingMm(), transform.GetVisibility2D()],
    "description": energy.GetDescription(),
    "formula": energy.GetColumnDescription("Energy proxy (mJ)"),
    "bars": charts[0].GetNthPlotSeriesNode(0).GetTableNode().GetTable().GetColumnByName("Rate (%)").GetNumberOfTuples(),
    "volumes": [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")],
    "errors": application.vtkErrors,
}))
"""


@pytest.fixture
def read(scene, sampleRun, tmp_path) -> dict:
    """What another process finds in a bundle that was saved while a comparison was shown."""
    jacobian = makeVolume(np.ones((12, 12, 12), np.float32), name="Jacobian")
    warp = makeGridTransform(np.zeros((6, 6, 6, 3)), np.diag([20.0, 20, 20, 1]), "warp")
    image = makeVolume(blobs(), name="image")
    style.styleJacobian(jacobian)
    style.setTransformDisplay(warp, "contour", 7)
    result = json.loads((sampleRun / "result.json").read_text())
    tables.energyTable(scene, result)
    charts.ratesChart(scene, tables.ratesTable(scene, result))
    comparison = compare.Comparison(scene, image, image)
    comparison.show("checkerboard")
    path = tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(path))
    comparison.hide()
    command = [sys.executable, "-c", READER, str(path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    lookup = colours.jacobianColours(scene).GetLookupTable()
    found["colours before"] = [lookup.GetTableValue(n) for n in range(256)]
    found["layers"] = len([layer for layer in result["spikes"]["layers"] if layer["neurons"]])
    return found


def test_colours_transform_tables_and_chart_come_back_and_helpers_do_not(read):
    assert read["errors"] == []
    np.testing.assert_allclose(read["colours"], read["colours before"], atol=0.5 / 255)
    assert read["same"], "the table is found again, not made a second time"
    assert read["window"] == list(colours.JACOBIAN_RANGE)
    assert read["transform"] == [slicer.vtkMRMLTransformDisplayNode.VIS_MODE_CONTOUR, 7, 1]
    assert "not a measurement" in read["description"]
    assert read["formula"].startswith("E = ")
    assert read["bars"] == read["layers"]
    assert sorted(read["volumes"]) == ["Jacobian", "image"]
