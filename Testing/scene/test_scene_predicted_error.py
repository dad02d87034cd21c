"""The predicted error of a run in the scene: its volume, its figures, and the places where it is largest."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from small_pair import makePair, makeRunFolder
from SpikeRegSlicerLib.display import style, tables
from SpikeRegSlicerLib.display.places import apart, predictedPlaces
from SpikeRegSlicerLib.scene.results import Outputs, loadRun, runs

FIGURES = {
    "mean_mm": 1.25,
    "p95_mm": 4.5,
    "above_2_mm_percent": 12.5,
    "above_5_mm_percent": 3.0,
    "structures": {"17": {"name": "Left hippocampus", "mean_mm": 1.5, "p95_mm": 3.25}},
    "worst": [{"place_mm": [10.0, -20.0, 5.0], "mm": 6.25}, {"place_mm": [12.0, -20.0, 5.0], "mm": 6.0}],
}


def rows(node) -> list[list[str]]:
    table = node.GetTable()
    return [
        [table.GetValue(row, column).ToString() for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]


def predictedRun(folder, figures=FIGURES):
    """A run that was written with a predicted error of 3 mm, unknown in one half."""
    makeRunFolder(folder)
    fixed = sitk.ReadImage(str(folder / "warped.nii.gz"))
    values = np.full(fixed.GetSize()[::-1], 3.0, np.float32)
    values[: len(values) // 2] = np.nan
    error = sitk.GetImageFromArray(values)
    error.CopyInformation(fixed)
    sitk.WriteImage(error, str(folder / "predicted_error.nii.gz"))
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "predicted_error": figures}))
    return loadRun(str(folder), makePair(), Outputs(), "Run"), values


def test_its_volume_is_loaded_found_again_and_removed_with_the_run(scene, tmp_path):
    run, values = predictedRun(tmp_path / "run")
    style.styleRun(run)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.predictedError), values)
    assert runs()[0].predictedError is run.predictedError and run.errors() is run.predictedError
    display = run.predictedError.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 8)
    run.remove()
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[2:], "the pair alone is left"


def test_a_run_without_it_has_none(scene, tmp_path):
    run = loadRun(str(makeRunFolder(tmp_path / "run")), makePair(), Outputs(), "Run")
    assert run.predictedError is None and run.errors() is None and predictedPlaces(run.result) == []


def test_its_figures_are_rows_of_the_metrics_and_a_table_of_structures(scene, tmp_path):
    run, _ = predictedRun(tmp_path / "run")
    metrics = {row[0]: row[3] for row in rows(tables.metricsTable(scene, run.result)) if "Predicted" in row[0]}
    assert list(metrics.values()) == ["1.25", "4.50", "12.5", "3.0"]
    (row,) = rows(tables.errorsTable(scene, run.result))
    assert row == ["Left hippocampus", "1.50", "3.25"]
    assert tables.errorsTable(scene, {**run.result, "predicted_error": None}) is None


def test_the_worst_places_are_in_the_scene_s_coordinates_and_keep_apart(scene):
    first, second = predictedPlaces({"predicted_error": FIGURES})
    assert (first.ras, first.text) == ((-10.0, 20.0, 5.0), "predicted error 6.2 mm")
    assert apart([first, second]) == [first], "2 mm away is the same place"


PLACES = [3, {}, {"place_mm": [1, 2], "mm": 3}, {"place_mm": [1, 2, "x"], "mm": 3},
          {"place_mm": [1, 2, float("nan")], "mm": 3}, {"place_mm": [1, 2, 3], "mm": "far"}]  # fmt: skip
STRUCTURES = {"1": 7, "2": {"name": 5, "mean_mm": "x"}}


@pytest.mark.parametrize(
    "table", [None, [], "5 mm", {"worst": 3}, {"worst": PLACES, "structures": [1]}, {"structures": STRUCTURES}]
)
def test_a_table_of_another_shape_is_no_place_and_no_error(scene, table):
    result = {"predicted_error": table}
    assert predictedPlaces(result) == []
    errors = tables.errorsTable(scene, result)
    assert (errors is None) == (table != {"structures": STRUCTURES})
