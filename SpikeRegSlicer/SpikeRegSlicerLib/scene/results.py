"""The folder a registration wrote, as nodes of the scene, and the runs a scene holds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.publishing import settle
from SpikeRegLib.text.names import is_name

from . import files, grids, review, transforms
from .hierarchy import LAYER, RunFolder, isMadeByRun, runFolders
from .inputs import Inputs
from .labelmaps import addSegments, segmentsOf, sharedNames
from .sound_results import sound

FILES = ("warped.nii.gz", "transform.h5", "jacobian.nii.gz", "predicted_error.nii.gz", "warped_seg.nii.gz", "spikes")
"""What `loadRun` reads besides result.json: all that a worker need write for it."""

_SAME_PLACE_MM = 1e-3  # .nii.gz keeps single precision; a grid this close to the fixed volume's is that grid
_FOLD_COLOUR = (0.9, 0.1, 0.1)


@dataclass
class Outputs:
    """Nodes chosen for the result, which keep their IDs; None = made on demand."""

    transform: Any = None  # vtkMRMLTransformNode
    warped: Any = None  # vtkMRMLScalarVolumeNode


@dataclass
class Run:
    """One registration in the scene; every node may be None, since users remove nodes.

    Attributes:
        folder: its subject-hierarchy folder.
        transform: fixed (world) to moving points; put moving nodes under it.
        warped, jacobian: on the fixed grid, in the world.
        predictedError: mm by which the transform is expected to be wrong, on the fixed grid; NaN where nothing is
            known. None where it was not predicted.
        folds: segmentation of the voxels whose Jacobian determinant is not positive; None where there are none.
        segmentation: the moving segmentation on the fixed grid; None where none was given.
        spikes: rate volumes of the layers, encoder to head.
        result: what result.json holds, with `label_names` (value as text -> name) where segmentations were given.
    """

    folder: RunFolder
    transform: Any = None
    warped: Any = None
    jacobian: Any = None
    predictedError: Any = None
    folds: Any = None
    segmentation: Any = None
    spikes: list = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def folderItem(self) -> int:
        return self.folder.item

    @property
    def name(self) -> str:
        return self.folder.name

    def images(self) -> tuple[Any, Any, Any] | None:
        """The fixed, warped and Jacobian volume, to compare; None where the pair is not there, or has no voxels.

        A scene read back without its files has volumes without voxels. The Jacobian alone may be None.
        """
        fixed = transforms.fixedOf(self.transform) if self.transform is not None else None
        if not (_hasVoxels(fixed) and _hasVoxels(self.warped)):
            return None
        return fixed, self.warped, self.jacobian if _hasVoxels(self.jacobian) else None

    def errors(self) -> Any:
        """The volume of the predicted error, where it is there and has voxels."""
        return self.predictedError if _hasVoxels(self.predictedError) else None

    def remove(self) -> None:
        """Take the run out of the scene: every node of it but the user's own."""
        self.folder.remove()


def loadRun(folder: str, inputs: Inputs, outputs: Outputs, name: str) -> Run:
    """Load everything that a registration wrote into `folder`; the folder can be deleted afterwards.

    Args:
        inputs: what the run was given; nodes that have left the scene since are taken as not given.
        outputs: nodes to fill.
        name: of the run's folder; the nodes are named after it.

    Raises:
        InputError: a file is missing or unreadable; the scene is as it was before.
    """
    settle(folder)  # who wrote it may have been killed
    run = Run(RunFolder(name))
    try:
        run.result = _readResult(os.path.join(folder, "result.json"))
        _loadJacobian(run, folder, _present(inputs.fixed))
        _loadPredictedError(run, folder, _present(inputs.fixed))
        _loadSegmentation(run, folder, inputs)
        _loadSpikes(run, folder)
        _storeResult(run)
        _loadOutputs(run, folder, inputs, outputs)  # last, since only these change nodes of the user's
    except BaseException:
        run.remove()
        raise
    return run


def runs(scene=None) -> list[Run]:
    """Every run in the scene, found by what is saved with it, in the order of the subject hierarchy."""
    if scene is not None and scene is not slicer.mrmlScene:
        raise ValueError("runs are found in the application's scene")
    found = []
    for folder in runFolders():
        run = Run(folder, result=_storedResult(folder))
        for role in ("transform", "warped", "jacobian", "predictedError", "folds", "segmentation"):
            setattr(run, role, next(iter(folder.nodes(role)), None))
        layers = [layer["name"] for layer in _layers(run.result)]
        volumes = [node for node in folder.nodes("spikes") if node.GetAttribute(LAYER) in layers]
        run.spikes = sorted(volumes, key=lambda node: layers.index(node.GetAttribute(LAYER)))
        for node in (*folder.nodes("transform"), *folder.nodes("inverse")):
            transforms.restoreInterpolation(node)
        found.append(run)
    return found


def _loadJacobian(run: Run, folder: str, fixed) -> None:
    path = os.path.join(folder, "jacobian.nii.gz")
    if not os.path.isfile(path):  # a preview may leave it out
        return
    run.jacobian = _newVolume(run, "jacobian", _("Jacobian"), path, fixed)
    folded = grids.arrayOf(run.jacobian.GetImageData()) <= 0
    if folded.any():
        run.folds = _newNode(run, "vtkMRMLSegmentationNode", "folds", _("folded voxels"))
        matrix = grids.ownGrid(run.jacobian).matrix
        (identifier,) = addSegments(run.folds, folded.astype(np.uint8), matrix, {1: _("Folded voxels")})
        run.folds.GetSegmentation().GetSegment(identifier).SetColor(*_FOLD_COLOUR)


def _loadPredictedError(run: Run, folder: str, fixed) -> None:
    path = os.path.join(folder, "predicted_error.nii.gz")
    if os.path.isfile(path):
        run.predictedError = _newVolume(run, "predictedError", _("predicted error (mm)"), path, fixed)
        values = slicer.util.arrayFromVolume(run.predictedError)
        values[values == 0] = np.nan  # as in the file: Slicer's reader of NIfTI makes 0 of what is not a number
        slicer.util.arrayFromVolumeModified(run.predictedError)


def _loadSegmentation(run: Run, folder: str, inputs: Inputs) -> None:
    path = os.path.join(folder, "warped_seg.nii.gz")
    given = [_present(inputs.fixed_labels), _present(inputs.moving_labels)]
    if given == [None, None] or not os.path.isfile(path):
        return
    names = sharedNames(*given)
    run.result["label_names"] = {str(value): text for value, text in names.items()}
    labels = _readVolume(path, _present(inputs.fixed))
    run.segmentation = _newNode(run, "vtkMRMLSegmentationNode", "segmentation", _("warped segmentation"))
    added = addSegments(run.segmentation, grids.arrayOf(labels.GetImageData()), grids.ownGrid(labels).matrix, names)
    colours = {}
    for node in given:
        if node is not None and node.IsA("vtkMRMLSegmentationNode"):
            colours.update({segment.GetName(): segment.GetColor() for segment in segmentsOf(node).values()})
    for identifier in added:
        segment = run.segmentation.GetSegmentation().GetSegment(identifier)
        if segment.GetName() in colours:
            segment.SetColor(*colours[segment.GetName()])


def _loadSpikes(run: Run, folder: str) -> None:
    for layer in _layers(run.result):
        path = os.path.join(folder, "spikes", layer["name"] + ".nii.gz")
        if os.path.isfile(path):
            node = _newVolume(run, "spikes", _("spike rate {layer}").format(layer=layer["name"]), path, None)
            node.SetAttribute(LAYER, layer["name"])
            run.spikes.append(node)


def _loadOutputs(run: Run, folder: str, inputs: Inputs, outputs: Outputs) -> None:
    fixed, moving = _present(inputs.fixed), _present(inputs.moving)
    volume = _readVolume(os.path.join(folder, "warped.nii.gz"), fixed)
    fromParent = transforms.readTransform(os.path.join(folder, "transform.h5"))
    run.transform = _outputNode(run, outputs.transform, "vtkMRMLTransformNode", "transform")
    transforms.setTransform(run.transform, fromParent)
    transforms.setPair(run.transform, fixed, moving)
    review.clearReview(run.transform)
    run.warped = _outputNode(run, outputs.warped, "vtkMRMLScalarVolumeNode", "warped")
    run.warped.SetAndObserveTransformNodeID(None)
    _fill(run.warped, volume)
    if outputs.warped is None:
        _showAs(run.warped, moving)


def _outputNode(run: Run, chosen, className: str, role: str):
    """The node for a result: the chosen one, or a new one; one that an earlier run made goes with this run now."""
    node = chosen or slicer.mrmlScene.AddNewNodeByClass(className, f"{run.name} {role}")
    run.folder.add(node, role, kept=chosen is not None and not isMadeByRun(node))
    return node


def _newVolume(run: Run, role: str, text: str, path: str, fixed):
    read = _readVolume(path, fixed)
    node = _newNode(run, "vtkMRMLScalarVolumeNode", role, text)
    _fill(node, read)
    return node


def _newNode(run: Run, className: str, role: str, text: str):
    node = slicer.mrmlScene.AddNewNodeByClass(className, f"{run.name} {text}")
    run.folder.add(node, role)
    if node.IsA("vtkMRMLDisplayableNode"):
        node.CreateDefaultDisplayNodes()
    return node


def _readVolume(path: str, fixed):
    """A volume outside the scene; on the fixed volume's very grid where the file's is that to single precision."""
    node = slicer.vtkMRMLScalarVolumeNode()
    files.readInto(node, slicer.vtkMRMLVolumeArchetypeStorageNode(), path)
    if fixed is not None and fixed.GetImageData() is not None and grids.nodeToWorld(fixed) is not None:
        own, wanted = grids.ownGrid(node), grids.worldGrid(fixed)
        if own.size == wanted.size and np.abs(own.corners() - wanted.corners()).max() < _SAME_PLACE_MM:
            node.SetIJKToRASMatrix(grids.toMatrix(wanted.matrix))
    return node


def _fill(node, read) -> None:
    node.SetIJKToRASMatrix(grids.toMatrix(grids.ownGrid(read).matrix))
    node.SetAndObserveImageData(read.GetImageData())
    node.CreateDefaultDisplayNodes()


def _showAs(volume, model) -> None:
    """The window, level and colours of another volume: same intensities, same look."""
    shown, wanted = volume.GetDisplayNode(), model.GetDisplayNode() if model is not None else None
    if wanted is not None and wanted.IsA("vtkMRMLScalarVolumeDisplayNode"):
        shown.SetAndObserveColorNodeID(wanted.GetColorNodeID())
        shown.SetAutoWindowLevel(False)
        shown.SetWindowLevel(wanted.GetWindow(), wanted.GetLevel())


def _hasVoxels(volume) -> bool:
    return volume is not None and volume.GetImageData() is not None


def _present(node):
    return node if node is not None and node.GetScene() is not None else None


def _layers(result: dict[str, Any]) -> list[dict[str, Any]]:
    layers = (result.get("spikes") or {}).get("layers") or []
    return [layer for layer in layers if is_name(layer["name"])]  # names of files; a model may call layers anything


def _readResult(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(_("{path}: cannot be read ({error}); run again").format(path=path, error=error)) from error


def _storeResult(run: Run) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", f"{run.name} result")
    node.SetText(json.dumps(run.result))
    run.folder.add(node, "result")


def _storedResult(folder: RunFolder) -> dict[str, Any]:
    for node in folder.nodes("result"):
        try:
            return sound(json.loads(node.GetText() or "{}"))
        except (ValueError, RecursionError):
            return {}
    return {}
