"""A real Slicer scene on slicer-core, without the application: boot, and makers of small nodes for tests.

slicer-core holds Slicer's own MRML nodes, storage nodes and module logics. The application sets up what ties them
together (the scene, the application logic, caches, one logic per module, `slicer.modules`); here `boot` does.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer_i18n  # noqa: F401  before the modules of SpikeRegSlicerLib
import vtk
from hierarchy_plugins import HierarchyPlugins
from vtk.util.numpy_support import numpy_to_vtk

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "SpikeRegSlicer") not in sys.path:  # SpikeRegSlicerLib, as Slicer's module path has it
    sys.path.insert(0, str(ROOT / "SpikeRegSlicer"))

MODULE_LOGICS = {
    "colors": "vtkSlicerColorLogic",
    "data": "vtkSlicerDataModuleLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "texts": "vtkSlicerTextsLogic",
    "transforms": "vtkSlicerTransformLogic",
    "units": "vtkSlicerUnitsLogic",
    "volumerendering": "vtkSlicerVolumeRenderingLogic",
    "volumes": "vtkSlicerVolumesLogic",
}


@dataclass
class Application:
    """What Slicer's application object holds for its modules; keep it as long as the scene is used."""

    scene: slicer.vtkMRMLScene
    logic: slicer.vtkSlicerApplicationLogic
    moduleLogics: dict[str, Any]
    folder: str
    services: list[Any] = field(default_factory=list)
    vtkErrors: list[str] = field(default_factory=list)


_application: Application | None = None


def boot() -> Application:
    """The one application of this process, with an empty scene as `slicer.mrmlScene`; made on the first call."""
    global _application
    if _application is None:
        _application = _start()
    return _application


def emptyScene() -> slicer.vtkMRMLScene:
    """The application's scene as after File > Close scene: only its singletons and colour tables are left."""
    application = boot()
    application.scene.Clear(False)
    setLocation(application.scene, application.folder)
    return application.scene


def setLocation(scene: slicer.vtkMRMLScene, folder: str | Path) -> None:
    """Where the scene is on disk; a scene without a place aborts the process when it is written to a bundle."""
    scene.SetRootDirectory(str(folder))
    scene.SetURL(str(Path(folder) / "Scene.mrml"))


def _start() -> Application:
    folder = tempfile.mkdtemp(prefix="spikereg-scene-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    slicer.mrmlScene = scene
    setLocation(scene, folder)
    for factory in (
        slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        slicer.vtkMRMLSliceViewDisplayableManagerFactory,
    ):
        factory.GetInstance().SetMRMLApplicationLogic(logic)
    logic.SetTemporaryPath(folder)
    logic.SetMRMLScene(scene)
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(folder)
    cache.SetMRMLScene(scene)
    files.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    for node in (crosshair, slicer.vtkMRMLSelectionNode(), slicer.vtkMRMLInteractionNode()):
        scene.AddNode(node)
    moduleLogics = {name: _moduleLogic(name, className, logic, scene) for name, className in MODULE_LOGICS.items()}
    moduleLogics["colors"].AddDefaultColorNodes()
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # the Colors module's logic does so in Slicer
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    hierarchy = HierarchyPlugins(scene)
    slicer.modules = types.ModuleType("slicer.modules")
    for name, moduleLogic in moduleLogics.items():
        setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda kept=moduleLogic: kept))
    sys.modules["slicer.modules"] = slicer.modules
    application = Application(scene, logic, moduleLogics, folder, [cache, files, hierarchy])
    _collectErrors(application)
    return application


def _collectErrors(application: Application) -> None:
    """Keep VTK's and MRML's error messages, so that a test can ask that there were none."""
    window = vtk.vtkStringOutputWindow()

    def keep(_caller, _event, message: str) -> None:
        application.vtkErrors.append(message)

    keep.CallDataType = "string0"
    window.AddObserver(vtk.vtkCommand.ErrorEvent, keep)
    vtk.vtkOutputWindow.SetInstance(window)
    application.services.append(window)


def _moduleLogic(name: str, className: str, applicationLogic, scene):
    moduleLogic = applicationLogic.GetColorLogic() if name == "colors" else getattr(slicer, className)()
    moduleLogic.SetMRMLApplicationLogic(applicationLogic)
    moduleLogic.SetMRMLScene(scene)
    applicationLogic.SetModuleLogic(name.capitalize(), moduleLogic)
    return moduleLogic


# --- geometry -------------------------------------------------------------------------------------------------------


def rotation(degrees: float, axis: tuple[float, float, float] = (0, 0, 1)) -> np.ndarray:
    """4x4 rotation about an axis through the origin."""
    turn = vtk.vtkTransform()
    turn.RotateWXYZ(degrees, *axis)
    return arrayFromMatrix(turn.GetMatrix())


def translation(x: float, y: float, z: float) -> np.ndarray:
    """4x4 translation in mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = (x, y, z)
    return matrix


def obliqueMatrix(
    spacing: tuple[float, float, float] = (1.1, 1.7, 2.3),
    origin: tuple[float, float, float] = (-31.7, 12.3, -8.1),
    degrees: float = 23.0,
    axis: tuple[float, float, float] = (0.3, -0.5, 0.8),
) -> np.ndarray:
    """4x4 IJK to RAS of an oblique anisotropic grid; `origin` is the RAS position of voxel (0, 0, 0)."""
    return translation(*origin) @ rotation(degrees, axis) @ np.diag([*spacing, 1.0])


def arrayFromMatrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrixFromArray(array: np.ndarray) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return matrix


# --- nodes ----------------------------------------------------------------------------------------------------------


def makeVolume(
    array: np.ndarray, ijkToRas: np.ndarray | None = None, name: str = "Volume", labels: bool = False
) -> slicer.vtkMRMLScalarVolumeNode:
    """A scalar (or label map) volume of `array` [K, J, I] in the scene, on the grid `ijkToRas` (default: oblique)."""
    className = "vtkMRMLLabelMapVolumeNode" if labels else "vtkMRMLScalarVolumeNode"
    return slicer.util.addVolumeFromArray(
        np.ascontiguousarray(array), obliqueMatrix() if ijkToRas is None else ijkToRas, name, className
    )


def loadVolume(path: str | Path, name: str = "Volume", labels: bool = False) -> slicer.vtkMRMLScalarVolumeNode:
    """A volume file in the scene, as File > Add data leaves it but without a storage node."""
    className = "vtkMRMLLabelMapVolumeNode" if labels else "vtkMRMLScalarVolumeNode"
    node = slicer.mrmlScene.AddNewNodeByClass(className, name)
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise OSError(f"{path} cannot be read")
    node.CreateDefaultDisplayNodes()
    return node


def blobs(shape: tuple[int, int, int] = (24, 30, 36), seed: int = 0, count: int = 12) -> np.ndarray:
    """A smooth [K, J, I] float32 image in [0, 1000] with structure everywhere and zeros at its border."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    image = np.zeros(shape)
    for _ in range(count):
        centre, width = random.uniform(-0.6, 0.6, 3), random.uniform(0.15, 0.4)
        image += random.uniform(0.3, 1) * np.exp(-((grid - centre[:, None, None, None]) ** 2).sum(0) / width**2)
    image *= np.prod(np.clip((1 - np.abs(grid)) * 5, 0, 1), axis=0)
    return (1000 * image / image.max()).astype(np.float32)


def makeLinearTransform(toParent: np.ndarray, name: str = "Linear") -> slicer.vtkMRMLTransformNode:
    """A plain transform node whose matrix to its parent (RAS) is `toParent`."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetMatrixTransformToParent(matrixFromArray(toParent))
    return node


def makeGridTransform(
    field: np.ndarray, ijkToRas: np.ndarray, name: str = "Grid", fromParent: bool = True
) -> slicer.vtkMRMLTransformNode:
    """A plain transform node with a displacement grid.

    Args:
        field: [K, J, I, 3] displacements, RAS mm.
        ijkToRas: 4x4 of the grid.
        fromParent: the field maps parent (fixed) points to this node's (moving) points, as a registration's does.
    """
    spacing = np.linalg.norm(ijkToRas[:3, :3], axis=0)
    image = vtk.vtkImageData()
    image.SetDimensions(*field.shape[2::-1])
    image.SetSpacing(*spacing)
    image.SetOrigin(*ijkToRas[:3, 3])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(field).reshape(-1, 3), deep=True))
    direction = np.eye(4)
    direction[:3, :3] = ijkToRas[:3, :3] / spacing
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(matrixFromArray(direction))
    grid.SetInterpolationModeToLinear()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    if fromParent:
        node.SetAndObserveTransformFromParent(grid)
    else:
        node.SetAndObserveTransformToParent(grid)
    return node


def makeFiducials(points: np.ndarray, name: str = "Fiducials") -> slicer.vtkMRMLMarkupsFiducialNode:
    """A list of control points at `points` [N, 3], RAS mm in the node's own coordinates."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for point in points:
        node.AddControlPoint(*map(float, point))
    return node


def makeRoi(
    centre: tuple[float, float, float], size: tuple[float, float, float], name: str = "ROI"
) -> slicer.vtkMRMLMarkupsROINode:
    """An axis-aligned box, RAS mm."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    node.SetCenter(*centre)
    node.SetSize(*size)
    return node


def makeSegmentation(
    labels: np.ndarray, ijkToRas: np.ndarray | None = None, name: str = "Segmentation"
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation with one segment per non-zero value of `labels` [K, J, I]."""
    source = makeVolume(labels.astype(np.int16), ijkToRas, name + " source", labels=True)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(source)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(source, node)
    slicer.mrmlScene.RemoveNode(source)
    return node


def saveAndRead(node: slicer.vtkMRMLSegmentationNode, path: str | Path) -> None:
    """Write a segmentation to a file and read it back into the same node, as saving and opening a scene does."""
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node) or not storage.ReadData(node):
        raise OSError(f"{path} cannot be written or read")
