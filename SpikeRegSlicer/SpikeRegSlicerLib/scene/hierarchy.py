"""One subject-hierarchy folder per run, which knows what belongs to the run and takes it away again."""

from __future__ import annotations

import uuid

import slicer
import vtk

RUN, ROLE, KEPT, LAYER = "SpikeReg.Run", "SpikeReg.Role", "SpikeReg.Kept", "SpikeReg.Layer"


class RunFolder:
    """The folder of one run in the subject hierarchy.

    Nodes are marked with attributes that are saved with the scene; nothing about a run is kept in memory alone.

    Args:
        name: of the folder; made unique.
    """

    def __init__(self, name: str) -> None:
        hierarchy = _hierarchy()
        unique = hierarchy.GenerateUniqueItemName(name)
        self.item: int = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), unique)
        self.identifier = uuid.uuid4().hex
        hierarchy.SetItemAttribute(self.item, RUN, self.identifier)

    @classmethod
    def ofItem(cls, item: int) -> RunFolder:
        """The run whose folder is already in the scene as `item`."""
        folder = cls.__new__(cls)
        folder.item, folder.identifier = item, _hierarchy().GetItemAttribute(item, RUN)
        return folder

    @property
    def name(self) -> str:
        return _hierarchy().GetItemName(self.item)

    def exists(self) -> bool:
        """Whether the folder is still in the scene."""
        hierarchy = _hierarchy()
        return (
            hierarchy is not None
            and self.item in _children(hierarchy.GetSceneItemID(), recursive=True)
            and hierarchy.GetItemAttribute(self.item, RUN) == self.identifier
        )

    def add(self, node, role: str = "", kept: bool = False) -> None:
        """Put a node into the folder.

        Args:
            role: what the node is to the run, by which it is found again.
            kept: the user made the node; removing the run takes it out of the folder and leaves it in the scene.
        """
        hierarchy = _hierarchy()
        node.SetAttribute(RUN, self.identifier)
        node.SetAttribute(ROLE, role or None)
        node.SetAttribute(KEPT, "1" if kept else None)
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(self.item, node)
        hierarchy.SetItemParent(item, self.item)

    def nodes(self, role: str | None = None) -> list:
        """The run's nodes in the order of the folder: those in it that it was given, optionally of one role."""
        hierarchy = _hierarchy()
        found = [hierarchy.GetItemDataNode(item) for item in _children(self.item, recursive=True)]
        mine = [node for node in found if node is not None and node.GetAttribute(RUN) == self.identifier]
        return [node for node in mine if role is None or node.GetAttribute(ROLE) == role]

    def remove(self) -> None:
        """Remove every node of the run, and the folder; what the user put into it moves up to where it was."""
        if not self.exists():
            return
        hierarchy, scene = _hierarchy(), slicer.mrmlScene
        home = hierarchy.GetItemParent(self.item)
        for node in self.nodes():
            if node.GetAttribute(KEPT):
                for name in (RUN, ROLE, KEPT, LAYER):
                    node.RemoveAttribute(name)
            else:
                _removeWithStorage(scene, node)
        for item in _children(self.item):
            hierarchy.SetItemParent(item, home)
        hierarchy.RemoveItem(self.item, False, False)


def isMadeByRun(node) -> bool:
    """Whether a run made the node, so that it goes with the run that holds it."""
    return bool(node.GetAttribute(RUN)) and not node.GetAttribute(KEPT)


def placeBeside(node, other) -> None:
    """Put a node into the folder, patient or study of another one, whatever that is."""
    hierarchy = _hierarchy()
    home = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(other))
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(home, node)
    hierarchy.SetItemParent(item, home)


def folderOf(node) -> RunFolder | None:
    """The run that holds a node."""
    return next((folder for folder in runFolders() if node in folder.nodes()), None)


def runFolders() -> list[RunFolder]:
    """The folders of all runs in the scene, in the order of the subject hierarchy."""
    hierarchy = _hierarchy()
    if hierarchy is None:
        return []
    items = _children(hierarchy.GetSceneItemID(), recursive=True)
    return [RunFolder.ofItem(item) for item in items if hierarchy.GetItemAttribute(item, RUN)]


def _removeWithStorage(scene, node) -> None:
    """Remove a node, and its storage nodes: MRML takes display nodes along, but leaves those of texts and tables."""
    storages = []
    if node.IsA("vtkMRMLStorableNode"):
        storages = [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    item = _hierarchy().GetItemByDataNode(node)
    scene.RemoveNode(node)
    if item in _children(_hierarchy().GetSceneItemID(), recursive=True):  # where no application keeps it in step
        _hierarchy().RemoveItem(item, False, False)
    for storage in storages:
        if storage is not None and storage.GetScene() is scene:
            scene.RemoveNode(storage)


def _children(item: int, recursive: bool = False) -> list[int]:
    ids = vtk.vtkIdList()
    _hierarchy().GetItemChildren(item, ids, recursive)
    return [ids.GetId(n) for n in range(ids.GetNumberOfIds())]


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
