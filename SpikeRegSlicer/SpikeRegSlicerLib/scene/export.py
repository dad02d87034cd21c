"""The inputs of a run as files for the library: exact, and rewritten only where the node has changed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import vtk
from slicer.i18n import tr as _

from SpikeRegLib.errors import InputError
from SpikeRegLib.options.options import OPTIONS

from . import files, grids, transforms
from .inputs import Inputs
from .labelmaps import labelArray, regionMask, segmentsOf, sharedNames

_written = files.WrittenFiles()


def exportInputs(inputs: Inputs, folder: str) -> dict[str, str | bool]:
    """Write what a run reads into `folder` and return it as keys of a worker's request.

    The fixed side is written in the world, linear parents applied; the moving side in the moving volume's own
    coordinates; where nodes stand says `transforms.standing`. A linear parent of the moving volume becomes the initial
    transform from which the alignment goes on (`align`); an explicit initial transform stands instead of that parent.
    Files of unchanged nodes are left alone, so that a warm worker sees what it need not compute again.

    Args:
        inputs: nodes without `inputs.problems`.
        folder: made where missing.

    Raises:
        InputError: a file cannot be written, or a mask or segmentation has no voxel on its volume.
    """
    _make(folder)
    fixedGrid = grids.worldGrid(inputs.fixed, transforms.standing(inputs.fixed, inputs.pair, "fixed"))
    movingGrid, movingToWorld = grids.ownGrid(inputs.moving), transforms.standing(inputs.moving, inputs.pair, "moving")
    assert movingToWorld is not None  # `inputs.problems` names volumes that stand nowhere
    request: dict[str, str | bool] = {
        "fixed": _image(folder, "fixed", inputs.fixed, fixedGrid),
        "moving": _image(folder, "moving", inputs.moving, movingGrid),
        **_initial(folder, inputs.initial_transform, movingToWorld),
    }
    names = sharedNames(inputs.fixed_labels, inputs.moving_labels)
    sides = (("fixed", fixedGrid, np.eye(4)), ("moving", movingGrid, movingToWorld))
    for side, grid, toWorld in sides:
        for kind, values in (("mask", None), ("leave_out", None), ("labels", names)):
            name = f"{side}_{kind}"
            node = getattr(inputs, name)
            if node is not None:
                path = _labels(folder, name, node, grid, toWorld, values, inputs.pair)
                request[OPTIONS[name].key] = path
        landmarks = getattr(inputs, f"{side}_points")
        if landmarks is not None:
            request[f"{side}_points"] = _points(folder, f"{side}_points", landmarks, toWorld, inputs.pair)
    if inputs.region is not None:
        request["region"] = _region(folder, inputs.region, fixedGrid)
    return request


def exportVolume(volume: Any, folder: str) -> str:
    """Write one volume in its own coordinates, without parent transforms, and return the file's path.

    Raises:
        InputError: the file cannot be written.
    """
    _make(folder)
    return _image(folder, "volume", volume, grids.ownGrid(volume))


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(
            _("{folder}: cannot be made ({reason}); choose another temporary folder").format(
                folder=folder, reason=error.strerror
            )
        ) from error


def _image(folder: str, name: str, volume, grid: grids.Grid) -> str:
    image = volume.GetImageData()
    signature = (image.GetAddressAsString(""), image.GetMTime(), _numbers(grid.matrix))
    path = os.path.join(folder, name + ".nrrd")
    return _written.keep(path, signature, lambda part: files.writeImage(part, image, grid.matrix))


def _labels(folder: str, name: str, node, grid: grids.Grid, toWorld: np.ndarray, names, pair: tuple) -> str:
    standing = transforms.standing(node, pair, _side(name))
    placed = np.linalg.inv(toWorld) @ standing
    signature = (node.GetID(), _contentOf(node), _numbers(placed), _numbers(grid.matrix), grid.size, str(names))

    def write(part: str) -> None:
        values = labelArray(node, grid, toWorld, names, standing)
        if not values.any():
            raise InputError(
                _('"{node}" has no voxel on its volume; choose the one drawn on that volume.').format(
                    node=node.GetName()
                )
            )
        files.writeImage(part, grids.imageOf(values), grid.matrix)

    return _written.keep(os.path.join(folder, name + ".nrrd"), signature, write)


def _side(name: str) -> str:
    return name.partition("_")[0]


def _contentOf(node) -> tuple:
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return (node.GetImageData().GetAddressAsString(""), node.GetImageData().GetMTime())
    kind = node.GetSegmentation().GetSourceRepresentationName()
    return tuple(
        (segment.GetName(), segment.GetLabelValue(), segment.GetRepresentation(kind).GetMTime())
        for segment in segmentsOf(node).values()
    )


def _points(folder: str, name: str, landmarks, toWorld: np.ndarray, pair: tuple) -> str:
    """Points in the coordinates of their volume, as .csv of x,y,z in LPS mm with every digit a double has."""
    own = [landmarks.GetNthControlPointPosition(n) for n in range(landmarks.GetNumberOfControlPoints())]
    placed = np.linalg.inv(toWorld) @ transforms.standing(landmarks, pair, _side(name))
    points = np.array([list(point) for point in own]) @ placed[:3, :3].T + placed[:3, 3]
    lps = points * (-1, -1, 1)
    text = "x,y,z\n" + "".join(",".join(map(repr, row)) + "\n" for row in lps.tolist())
    return _written.keep(os.path.join(folder, name + ".csv"), text, lambda part: files.writeText(part, text))


def _region(folder: str, roi, grid: grids.Grid) -> str:
    box = grids.toArray(roi.GetObjectToWorldMatrix())
    signature = (_numbers(box), tuple(roi.GetSize()), _numbers(grid.matrix), grid.size)
    path = os.path.join(folder, "region.nrrd")
    return _written.keep(
        path, signature, lambda part: files.writeImage(part, grids.imageOf(regionMask(roi, grid)), grid.matrix)
    )


def _initial(folder: str, node, movingToWorld: np.ndarray) -> dict[str, str | bool]:
    """Keys for where the alignment starts: the map from the world to the moving volume's own coordinates."""
    if node is None and np.array_equal(movingToWorld, np.eye(4)):
        return {}
    fromWorld = vtk.vtkGeneralTransform()
    if node is None:
        fromWorld.Concatenate(grids.toMatrix(np.linalg.inv(movingToWorld)))
    else:
        node.GetTransformFromWorld(fromWorld)
    linear = grids.linearized(fromWorld)
    signature: tuple[Any, ...]
    if linear.IsA("vtkTransform"):
        name, signature = "initial.tfm", _numbers(grids.toArray(linear.GetMatrix()))
    else:
        chain = [node, *transforms.parents(node)]
        name, signature = (
            "initial.h5",
            tuple((link.GetID(), link.GetTransformFromParent().GetMTime()) for link in chain),
        )
    path = _written.keep(os.path.join(folder, name), signature, lambda part: files.writeTransform(part, linear))
    return {"initial_transform": path, "align": True} if node is None else {"initial_transform": path}


def _numbers(matrix: np.ndarray) -> tuple[float, ...]:
    return tuple(matrix.ravel().tolist())
