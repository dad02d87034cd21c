"""The surface of the warped anatomy in 3-D views, coloured by a value in mm at each of its points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from SpikeRegSlicerLib.display import intensity

SCALARS = "mm"
_SMOOTHING_MM = 1.5
_POINTS_AT_MOST = 60_000
_NOT_KNOWN = (0.6, 0.6, 0.6)


def surfaceModel(scene: Any, warped: Any, valuesAt: Callable[[np.ndarray], np.ndarray]) -> Any:
    """A model node of the outside of what a volume shows, with a value in mm at every point; not saved, not listed.

    Args:
        scene: where the node is added.
        warped: volume node.
        valuesAt: [N, 3] points of the volume's own space, RAS mm -> [N] values in mm; NaN where nothing is known.

    Returns:
        The node; None where the volume shows nothing.
    """
    surface = _surface(warped)
    if surface.GetNumberOfPoints() == 0:
        return None
    points = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    scalars = numpy_to_vtk(np.asarray(valuesAt(points), np.float32), deep=True)
    scalars.SetName(SCALARS)
    surface.GetPointData().SetScalars(scalars)
    node = slicer.vtkMRMLModelNode()
    node.SetName(_("Surface ({volume})").format(volume=warped.GetName()))
    node.SetHideFromEditors(1)
    node.SetSaveWithScene(0)
    scene.AddNode(node)
    node.SetAndObservePolyData(surface)
    node.SetAndObserveTransformNodeID(warped.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(0)
    display.SetActiveScalar(SCALARS, vtk.vtkAssignAttribute.POINT_DATA)
    display.SetScalarVisibility(1)
    display.SetVisibility2D(0)
    return node


def colourSurface(node: Any, colours: Any, window: tuple[float, float], opacity: float) -> None:
    """Draw the surface in the colours of a table over a window in mm; grey where nothing is known."""
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(colours.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(*window)
    display.SetOpacity(opacity)
    colours.GetLookupTable().SetNanColor(*_NOT_KNOWN, 1.0)


def nearestValues(volume: Any, values: np.ndarray, reach: int = 2) -> Callable[[np.ndarray], np.ndarray]:
    """The value of a voxel for points of its volume's own space, or of the nearest one around it that has a value.

    A surface runs along the edge of the anatomy, where half of the voxels have none.

    Args:
        volume: node.
        values: [K, J, I]; NaN where nothing is known.
        reach: voxels.
    """
    from scipy.ndimage import distance_transform_edt

    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    toIndex = slicer.util.arrayFromVTKMatrix(matrix)
    distance, nearest = distance_transform_edt(~np.isfinite(values), return_indices=True)
    filled = np.where(distance <= reach, values[tuple(nearest)], np.nan)

    def at(points: np.ndarray) -> np.ndarray:
        index = np.round((np.c_[points, np.ones(len(points))] @ toIndex.T)[:, 2::-1]).astype(int)
        index = np.clip(index, 0, np.array(values.shape) - 1)
        return filled[tuple(index.T)]

    return at


def showInFront(node: Any) -> None:
    """Let every 3-D view of the application look at a node; nothing without its main window."""
    manager = slicer.app.layoutManager() if hasattr(slicer, "app") else None
    if manager is None or node is None:
        return
    for index in range(manager.threeDViewCount):
        manager.threeDWidget(index).threeDView().resetFocalPoint()


def _surface(volume: Any) -> Any:
    """The outside of the anatomy as polygons in the volume's own space, RAS mm."""
    values = slicer.util.arrayFromVolume(volume)
    spacing: Sequence[float] = volume.GetSpacing()[::-1]
    mask = intensity.headMask(values, (spacing[0], spacing[1], spacing[2]))
    soft = np.pad(intensity.smoothed(mask, (spacing[0], spacing[1], spacing[2]), _SMOOTHING_MM), 1)
    image = vtk.vtkImageData()
    image.SetDimensions(*soft.shape[::-1])
    image.SetOrigin(-1, -1, -1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(soft, np.float32).ravel(), deep=True))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    contour.ComputeScalarsOff()
    contour.Update()
    if contour.GetOutput().GetNumberOfPoints() == 0:
        return contour.GetOutput()
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    toRas = vtk.vtkTransform()
    toRas.SetMatrix(matrix)
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetTransform(toRas)
    moved.SetInputConnection(contour.GetOutputPort())
    moved.Update()
    fewer = vtk.vtkDecimatePro()
    fewer.SetTargetReduction(max(0.0, 1 - _POINTS_AT_MOST / moved.GetOutput().GetNumberOfPoints()))
    fewer.SetInputConnection(moved.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(fewer.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOn()
    normals.AutoOrientNormalsOn()
    normals.Update()
    return normals.GetOutput()
