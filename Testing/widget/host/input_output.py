"""`slicer.app.ioManager()`: files read and written through MRML's own storage nodes, as `slicer.util.load...` asks."""

from __future__ import annotations

from pathlib import Path

import slicer

CLASSES = {
    "VolumeFile": "vtkMRMLScalarVolumeNode",
    "TransformFile": "vtkMRMLTransformNode",
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "MarkupsFile": "vtkMRMLMarkupsFiducialNode",
    "ModelFile": "vtkMRMLModelNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
}


class InputOutputManager:
    def fileType(self, path: str) -> str:
        name = Path(path).name.lower()
        if name.endswith((".seg.nrrd", ".seg.nii.gz")):
            return "SegmentationFile"
        if name.endswith((".h5", ".tfm", ".mat")):
            return "TransformFile"
        if name.endswith((".json", ".fcsv")):
            return "MarkupsFile"
        return "VolumeFile"

    def fileWriterFileType(self, node) -> str:
        return next(kind for kind, className in CLASSES.items() if node.IsA(className))

    def loadNodes(self, fileType: str, properties: dict, loaded, messages) -> bool:
        className = CLASSES[fileType]
        if properties.get("labelmap"):
            className = "vtkMRMLLabelMapVolumeNode"
        path = Path(properties["fileName"])
        node = slicer.mrmlScene.AddNewNodeByClass(className, properties.get("name") or path.name.split(".")[0])
        storage = self._storage(node, path)
        if not path.is_file() or not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(storage)
            slicer.mrmlScene.RemoveNode(node)
            return False
        node.CreateDefaultDisplayNodes()
        loaded.AddItem(node)
        return True

    def saveNodes(self, fileType: str, properties: dict, messages) -> bool:
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        return bool(self._storage(node, Path(properties["fileName"])).WriteData(node))

    def addDefaultStorageNodes(self) -> None:
        for index in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
            slicer.mrmlScene.GetNthNodeByClass(index, "vtkMRMLStorableNode").AddDefaultStorageNode()

    @staticmethod
    def _storage(node, path: Path):
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        return storage
