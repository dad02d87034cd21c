"""The deformable part of a transform, to be drawn alone: a large shift or turn would hide it."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _


def deformablePart(transformNode: Any) -> Any:
    """A new node, hidden and not saved, that takes fixed points as the transform does, but without its linear part.

    For a transform T (fixed -> moving) with linear elements that compose to A, this is A⁻¹∘T, on the fixed image. A
    linear transform is taken as it is: nothing would be left of it.
    """
    whole = transformNode.GetTransformFromParent()
    elements = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(elements, whole)
    linear = vtk.vtkTransform()
    linear.PostMultiply()
    for index in range(elements.GetNumberOfItems()):
        element = elements.GetItemAsObject(index)
        if element.IsA("vtkLinearTransform") and not transformNode.IsLinear():
            linear.Concatenate(element.GetMatrix())
    linear.Inverse()
    alone = vtk.vtkGeneralTransform()
    alone.PostMultiply()
    alone.Concatenate(whole)
    alone.Concatenate(linear)
    node = slicer.vtkMRMLTransformNode()
    node.SetName(_("{transform} (deformable part)").format(transform=transformNode.GetName()))
    node.SetHideFromEditors(1)
    node.SetSaveWithScene(0)
    transformNode.GetScene().AddNode(node)
    node.SetAndObserveTransformFromParent(alone)
    role = slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole()
    node.SetNodeReferenceID(role, transformNode.GetNodeReferenceID(role))
    return node
