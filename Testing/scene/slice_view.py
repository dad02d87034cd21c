"""Slicer's slice views off screen: the real slice logic and displayable managers, read back as pixels.

Slicer's views are Qt widgets around a slice logic, a group of displayable managers and a VTK render window. Here the
same logic and managers draw into an off-screen window, so a test can look at what a person would see.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import numpy as np
import slicer
import slicer_scene
import vtk
from vtk.util.numpy_support import vtk_to_numpy

MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
)
VIEWS = (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal"))


_PROBE = """
import vtk
window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
window.SetOffScreenRendering(1)
renderer.SetBackground(1, 1, 1)
window.AddRenderer(renderer)
window.Render()
pixels = vtk.vtkUnsignedCharArray()
window.GetPixelData(5, 5, 5, 5, 0, pixels, 0)
assert pixels.GetValue(0) == 255
"""


@functools.cache
def problem() -> str:
    """Why nothing can be rendered on this machine; empty where it can.

    A process of its own tries it: VTK ends the process where it finds no OpenGL.
    """
    if subprocess.run([sys.executable, "-c", _PROBE], capture_output=True).returncode != 0:
        return "no OpenGL for off-screen rendering: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)"
    return ""


class SliceView:
    """One slice view of `size` pixels (width, height) in the application's scene.

    Args:
        application: of `slicer_scene.boot()`.
        name: layout name; the slice node of that name is reused.
        orientation: Axial, Coronal or Sagittal.
    """

    def __init__(self, application: Any, name: str, orientation: str, size: tuple[int, int] = (400, 400)) -> None:
        self.size = size
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.window.SetInteractor(self.interactor)
        logics = application.logic.GetSliceLogics()
        if logics is None:
            logics = vtk.vtkCollection()
            application.logic.SetSliceLogics(logics)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application.logic)
        logics.AddItem(self.logic)
        self.logic.SetMRMLScene(application.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetMappedInLayout(1)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        for className in MANAGERS:
            manager = getattr(slicer, className)()
            manager.SetMRMLApplicationLogic(application.logic)
            self.managers.AddDisplayableManager(manager)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(self.mapper)
        self.actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self.actor)
        self.logic.ResizeSliceNode(*size)

    @property
    def composite(self) -> slicer.vtkMRMLSliceCompositeNode:
        return self.logic.GetSliceCompositeNode()

    def fit(self, zoom: float = 1.0) -> None:
        """Fit the field of view to the background volume, and then `zoom` further in."""
        self.logic.FitSliceToBackground()
        field = self.node.GetFieldOfView()
        self.node.SetFieldOfView(field[0] / zoom, field[1] / zoom, field[2])

    def pixels(self) -> np.ndarray:
        """[height, width, 3] uint8, the first row on top."""
        self.mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.actor.SetVisibility(self.logic.GetImageDataConnection() is not None)
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()

    def ras(self, row: float, column: float) -> np.ndarray:
        """RAS mm of a pixel of `pixels`."""
        point = self.node.GetXYToRAS().MultiplyPoint((column, self.size[1] - 1 - row, 0, 1))
        return np.array(point[:3])

    def pixel(self, ras: np.ndarray) -> tuple[int, int]:
        """Row and column of the pixel nearest to a RAS point."""
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), inverse)
        column, row, *_ = inverse.MultiplyPoint((*map(float, ras), 1.0))
        return self.size[1] - 1 - round(row), round(column)


class SlicePanel:
    """Three slice views side by side: axial, coronal, sagittal, all at one scale."""

    def __init__(self, application: Any, size: tuple[int, int] = (400, 400)) -> None:
        self.scene = application.scene
        self.views = [SliceView(application, name, orientation, size) for name, orientation in VIEWS]

    def reset(self) -> None:
        """As Slicer starts: nothing shown, not linked, slices through the origin."""
        for view in self.views:
            view.composite.SetLinkedControl(0)
            view.composite.SetLabelVolumeID(None)
            view.node.JumpSliceByCentering(0, 0, 0)
        self.setVolumes(None)

    def setVolumes(self, background: Any, foreground: Any = None, opacity: float = 0.5) -> None:
        """Show volumes in every view."""
        for view in self.views:
            view.composite.SetBackgroundVolumeID(background.GetID() if background else None)
            view.composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
            view.composite.SetForegroundOpacity(opacity)

    def fit(self, zoom: float = 1.0) -> None:
        """Fit every view to its background, at the scale of the one that is zoomed out furthest."""
        for view in self.views:
            view.fit(zoom)
        width = max(view.node.GetFieldOfView()[0] for view in self.views)
        height = width * self.views[0].size[1] / self.views[0].size[0]
        for view in self.views:
            view.node.SetFieldOfView(width, height, view.node.GetFieldOfView()[2])

    def jump(self, ras: tuple[float, float, float]) -> None:
        """Put every view on the slice through a point, without moving its centre."""
        for view in self.views:
            view.node.JumpSliceByOffsetting(*ras)

    def pixels(self) -> np.ndarray:
        """[height, 3 width, 3] uint8."""
        return np.concatenate([view.pixels() for view in self.views], axis=1)


@functools.cache
def sharedPanel() -> SlicePanel:
    """The panel of this process: views stay in the application's scene when it is emptied, as Slicer's do."""
    return SlicePanel(slicer_scene.boot())
