"""Voxel grids of the scene: matrices as numpy arrays (RAS, mm), and resampling of an image from one grid to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

_PERPENDICULAR = 1e-3  # what the library takes as a rectangular grid
_SAME_PLACE_MM = 1e-3  # a file may keep single precision


@dataclass(frozen=True)
class Grid:
    """A voxel grid.

    Attributes:
        matrix: 4x4, voxel (i, j, k) to RAS mm; of the world, or of one node's own coordinates, as the maker says.
        size: (I, J, K).
    """

    matrix: np.ndarray
    size: tuple[int, int, int]

    def corners(self) -> np.ndarray:
        """[8, 3] RAS centres of the corner voxels."""
        i, j, k = (np.array([0, n - 1]) for n in self.size)
        index = np.stack(np.meshgrid(i, j, k, indexing="ij"), -1).reshape(-1, 3)
        return index @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def isRectangular(self) -> bool:
        """Whether the axes are perpendicular, which image files require."""
        axes = self.matrix[:3, :3] / np.linalg.norm(self.matrix[:3, :3], axis=0)
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() < _PERPENDICULAR)


def toArray(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(matrix)


def toMatrix(array: np.ndarray) -> vtk.vtkMatrix4x4:
    return slicer.util.vtkMatrixFromArray(np.asarray(array, dtype=float))


def nodeToWorld(node) -> np.ndarray | None:
    """4x4 from a node's own coordinates to the world; None where a parent transform is not linear."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    return toArray(matrix) if parent.IsTransformToWorldLinear() and parent.GetMatrixTransformToWorld(matrix) else None


def ownGrid(volume) -> Grid:
    """The grid of a volume in its own coordinates, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return Grid(toArray(matrix), tuple(volume.GetImageData().GetDimensions()))


def worldGrid(volume, placement: np.ndarray | None = None) -> Grid:
    """The grid of a volume in the world: where its parent transforms, which must be linear, or `placement` put it."""
    own = ownGrid(volume)
    return Grid((nodeToWorld(volume) if placement is None else placement) @ own.matrix, own.size)


def imageOf(array: np.ndarray) -> vtk.vtkImageData:
    """A one-component image from [K, J, I], with unit spacing and zero origin as volume nodes keep it."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True, array_type=get_vtk_array_type(array.dtype))
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def arrayOf(image: vtk.vtkImageData) -> np.ndarray:
    """[K, J, I] view of a one-component image."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def reordered(values: np.ndarray, grid: Grid, wanted: Grid) -> np.ndarray | None:
    """The same voxels in the order of another grid; None where that is not the same grid up to the order of its axes.

    Readers turn an axis of a left-handed grid around.

    Args:
        values: [K, J, I] on `grid`.
        grid, wanted: in the same coordinates.
    """
    turn = np.rint((np.linalg.inv(wanted.matrix) @ grid.matrix)[:3, :3])  # of an index of `grid` to one of `wanted`
    if not (np.abs(turn).sum(0) == 1).all() or not (np.abs(turn).sum(1) == 1).all():
        return None
    order = np.abs(turn).argmax(1)
    isFlipped = turn.sum(1) < 0
    moved = values.T.transpose(*order)
    moved = np.flip(moved, np.flatnonzero(isFlipped).tolist())
    toWanted = np.eye(4)
    toWanted[:3, :3], toWanted[:3, 3] = turn, np.where(isFlipped, np.array(wanted.size) - 1, 0)
    there = Grid(wanted.matrix @ toWanted, grid.size).corners()
    isSame = moved.shape == wanted.size and np.abs(there - grid.corners()).max() < _SAME_PLACE_MM
    return np.ascontiguousarray(moved.T) if isSame else None


def resample(
    image: vtk.vtkImageData,
    imageToRas: np.ndarray,
    grid: Grid,
    transform: vtk.vtkAbstractTransform | None = None,
    labels: bool = False,
    background: float = 0.0,
) -> vtk.vtkImageData:
    """The image on another grid: out(x) = image(transform(x)), `background` outside; the numbers of ITK's resampling.

    Args:
        image: its voxel (i, j, k) lies at `imageToRas`; extent from 0, unit spacing, zero origin.
        imageToRas: 4x4, RAS mm.
        grid: the grid of the result.
        transform: maps RAS points of `grid` to RAS points of the image; None is the identity.
        labels: take the nearest voxel; else interpolate linearly.
        background: of images what `GetImageBackgroundScalarComponentAsDouble` says, as Slicer hardens; of labels 0.
    """
    mapping = vtk.vtkGeneralTransform()
    mapping.PostMultiply()
    mapping.Concatenate(toMatrix(grid.matrix))
    if transform is not None:
        mapping.Concatenate(transform)
    mapping.Concatenate(toMatrix(np.linalg.inv(imageToRas)))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(image)
    reslice.SetResliceTransform(linearized(mapping))
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(0, grid.size[0] - 1, 0, grid.size[1] - 1, 0, grid.size[2] - 1)
    reslice.SetBackgroundLevel(background)
    if labels:
        reslice.SetInterpolationModeToNearestNeighbor()
    else:
        reslice.SetInterpolationModeToLinear()
    reslice.Update()
    out = vtk.vtkImageData()
    out.ShallowCopy(reslice.GetOutput())
    return out


def linearized(transform: vtk.vtkAbstractTransform) -> vtk.vtkAbstractTransform:
    """The same map as a vtkTransform where it is linear, which resampling does many times faster."""
    linear = vtk.vtkTransform()
    return linear if slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform, linear) else transform
