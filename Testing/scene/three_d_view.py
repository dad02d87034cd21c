"""Slicer's 3-D view off screen: the real displayable managers of models and legends, read back as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

MANAGERS = ("vtkMRMLModelDisplayableManager", "vtkMRMLColorLegendDisplayableManager")


class ThreeDView:
    """One 3-D view of `size` pixels (width, height) in the application's scene.

    Args:
        application: of `slicer_scene.boot()`.
    """

    def __init__(self, application: Any, size: tuple[int, int] = (400, 400)) -> None:
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.window.SetInteractor(self.interactor)
        self.node = application.scene.AddNewNodeByClass("vtkMRMLViewNode")
        self.node.SetMappedInLayout(1)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        for className in MANAGERS:
            manager = getattr(slicer, className)()
            manager.SetMRMLApplicationLogic(application.logic)
            self.managers.AddDisplayableManager(manager)
        self.managers.SetMRMLDisplayableNode(self.node)

    def look(self, direction: tuple[float, float, float] = (-1.0, 0.6, 0.5)) -> None:
        """Look at everything, from a direction in RAS."""
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*(500 * part for part in direction))
        camera.SetViewUp(0, 0, 1)
        self.renderer.ResetCamera()
        camera.Zoom(1.4)

    def pixels(self) -> np.ndarray:
        """[height, width, 3] uint8, the first row on top."""
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()
