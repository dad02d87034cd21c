"""Items in the subject hierarchy for the nodes of a scene, which the application's plugins make."""

from __future__ import annotations

import slicer
import vtk


class HierarchyPlugins:
    """What the application's subject hierarchy plugins do: an item for every node that a user sees, gone with it."""

    CLASSES = ("vtkMRMLDisplayableNode", "vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLTextNode")

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self.scene = scene

        def added(_scene, _event, node) -> None:
            if not scene.IsImporting():
                self.addItem(node)

        def removed(_scene, _event, node) -> None:
            hierarchy = self.hierarchy()
            item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
            if item:
                hierarchy.RemoveItem(item, False, False)

        added.CallDataType = removed.CallDataType = vtk.VTK_OBJECT
        scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, added)
        scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, removed)
        scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda *_: self.addMissing())

    def hierarchy(self) -> slicer.vtkMRMLSubjectHierarchyNode | None:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)

    def addItem(self, node) -> None:
        if any(node.IsA(name) for name in self.CLASSES) and not node.GetHideFromEditors():
            hierarchy = self.hierarchy()
            if not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def addMissing(self) -> None:
        for index in range(self.scene.GetNumberOfNodes()):
            self.addItem(self.scene.GetNthNode(index))
