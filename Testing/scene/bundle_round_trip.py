"""Save a scene with a run and open it again, each in a process of its own: writing a bundle can end the process.

python bundle_round_trip.py save BUNDLE RUN_FOLDER   prints what the scene holds, and saves it
python bundle_round_trip.py open BUNDLE              prints what the opened scene holds
"""

from __future__ import annotations

import json
import sys
import tempfile

import numpy as np
import slicer
from slicer_scene import boot, makeFiducials, setLocation
from small_pair import FIXED, makePair
from SpikeRegSlicerLib.scene import grids, review, transforms
from SpikeRegSlicerLib.scene.apply import applyTo
from SpikeRegSlicerLib.scene.results import Outputs, loadRun, runs

POINTS = np.random.default_rng(1).uniform(8, 16, (20, 3)) @ FIXED[:3, :3].T + FIXED[:3, 3]
NOTE = 'left "ventricle": off by 2 mm;\nsee slice 12 <here> & 50 % – naïve 日本'


def fill(runFolder: str) -> None:
    """Two volumes, a run, a landmark list taken back by its inverse, and a review."""
    inputs = makePair()
    run = loadRun(runFolder, inputs, Outputs(), "Run one")
    review.setReview(run.transform, "rejected", "Dr. Ø", NOTE)
    applyTo(run.transform, [inputs.moving])
    applyTo(run.transform, [makeFiducials(POINTS, "Back")], inverse=True)


def report() -> dict:
    """Everything that a saved scene must bring back."""
    (run,) = runs(slicer.mrmlScene)
    mapped = [run.transform.GetTransformFromParent().TransformPoint(point) for point in POINTS]
    landmarks = slicer.util.getFirstNodeByName("Back", "vtkMRMLMarkupsFiducialNode")
    volumes = [run.warped, run.jacobian, *run.spikes]
    return {
        "name": run.name,
        "nodes": sorted(node.GetName() for node in run.folder.nodes()),
        "spikes": [node.GetAttribute("SpikeReg.Layer") for node in run.spikes],
        "pair": [transforms.fixedOf(run.transform).GetName(), transforms.movingOf(run.transform).GetName()],
        "movingUnder": transforms.movingOf(run.transform).GetParentTransformNode() is run.transform,
        "inverse": run.transform.GetNodeReference(transforms.INVERSE).GetName(),
        "review": review.review(run.transform),
        "result": run.result,
        "folded": run.folds.GetSegmentation().GetNthSegment(0).GetName(),
        "points": mapped,
        "back": slicer.util.arrayFromMarkupsControlPoints(landmarks, world=True).tolist(),
        "grids": [grids.worldGrid(volume).matrix.tolist() for volume in volumes],
        "sums": [float(slicer.util.arrayFromVolume(volume).sum(dtype=float)) for volume in volumes],
    }


def main(action: str, bundle: str, runFolder: str = "") -> None:
    application = boot()
    if action == "save":
        fill(runFolder)
        print(json.dumps(report()))
        assert application.scene.WriteToMRB(bundle, None)
    else:
        folder = tempfile.mkdtemp()
        setLocation(application.scene, folder)
        assert application.scene.ReadFromMRB(bundle, True)
        print(json.dumps(report()))


if __name__ == "__main__":
    main(*sys.argv[1:])
