"""Point files read by SpikeRegLib and by Slicer's own readers: the same points, or refused, never others."""

from __future__ import annotations

import json

import pytest
import slicer
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.points import read_points

FLIP = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
VERSION = "# Markups fiducial file version = {}\n"
SYSTEM = "# CoordinateSystem = {}\n"
ROW = "F-1,10,20,30,0,0,0,1,1,1,0,F-1,,\n"
# Head of the file -> whether it must be read: what Slicer writes, and files without a header.
HEADS = {
    "": True,
    SYSTEM.format("LPS"): False,
    SYSTEM.format("RAS"): False,
    VERSION.format("4.11"): False,
    VERSION.format("4.10") + SYSTEM.format("0"): True,
    VERSION.format("4.10") + SYSTEM.format("1"): True,
    VERSION.format("4.11") + SYSTEM.format("RAS"): True,
    VERSION.format("4.11") + SYSTEM.format("LPS"): True,
    VERSION.format("4.11") + SYSTEM.format("lps"): False,
    VERSION.format("4.11") + SYSTEM.format("LPS") + "# columns = id,z,y,x\n": False,
}


def inSlicer(scene, path, storageClass) -> torch.Tensor:
    """[N, 3] LPS mm."""
    node, storage = slicer.vtkMRMLMarkupsFiducialNode(), storageClass()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    points = [[0.0] * 3 for _ in range(node.GetNumberOfControlPoints())]
    for number, point in enumerate(points):
        node.GetNthControlPointPosition(number, point)
    return torch.tensor(points, dtype=torch.float64) * FLIP


@pytest.mark.parametrize("head", HEADS)
def testFcsvIsReadAsSlicerReadsItOrRefused(scene, tmp_path, head):
    path = tmp_path / "p.fcsv"
    path.write_text(head + ROW)
    theirs = inSlicer(scene, path, slicer.vtkMRMLMarkupsFiducialStorageNode)
    try:
        ours = read_points(path)
    except InputError:
        assert not HEADS[head]
    else:
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("system", [None, "LPS", "RAS", "0", "1"])
def testMarkupsAreReadAsSlicerReadsThem(scene, tmp_path, system):
    path = tmp_path / "p.mrk.json"
    markup = {"type": "Fiducial", "controlPoints": [{"id": "1", "position": [10, 20, 30]}]}
    markup |= {} if system is None else {"coordinateSystem": system}
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    path.write_text(json.dumps({"@schema": schema + "markups-schema-v1.0.3.json#", "markups": [markup]}))
    assert torch.equal(read_points(path), inSlicer(scene, path, slicer.vtkMRMLMarkupsJsonStorageNode))
