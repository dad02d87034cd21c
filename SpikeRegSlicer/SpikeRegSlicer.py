"""SpikeReg in 3D Slicer: deformable registration with spiking neural networks, and the eyes to judge it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from SpikeRegSlicerLib.library import torchIsInstalled
from SpikeRegSlicerLib.logic import Registrations
from SpikeRegSlicerLib.parameters import Parameters
from SpikeRegSlicerLib.sample import registerSample
from SpikeRegSlicerLib.segmentation import Segmentations
from SpikeRegSlicerLib.self_test import Cases
from SpikeRegSlicerLib.widgets.panel import Panel


class SpikeRegSlicer(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SpikeReg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = []
        parent.contributors = [_("The SpikeReg contributors")]
        parent.helpText = (
            _(
                "Registers two volumes with a spiking neural network or by optimisation, shows how good the result is, "
                "and applies it to segmentations, markups, models and further volumes. Choose a fixed and a moving "
                "volume and press Run; a pair to try it on is in the module Sample Data under SpikeReg. Under "
                "Structures it also names the structures in an image of a head."
            )
            + self.getDefaultModuleDocumentationLink()
        )
        parent.acknowledgementText = _("SpikeReg is free software under the Apache License 2.0.")
        slicer.app.startupCompleted.connect(self._onStartupCompleted)

    def _onStartupCompleted(self) -> None:
        registerSample(self.resourcePath("Icons"))


class SpikeRegSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel: loads the .ui file, keeps the parameter node, and leaves the rest to the parts."""

    def __init__(self, parent: Any = None) -> None:
        self.logic: SpikeRegSlicerLogic | None = None
        self.panel: Panel | None = None
        self._parameterNode: Parameters | None = None
        self._guiTag: Any = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/SpikeRegSlicer.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SpikeRegSlicerLogic()
        self.panel = Panel(self.uiWidget, self.ui, self.logic, self.resourcePath("requirements.txt"))
        scene = slicer.vtkMRMLScene
        self.addObserver(slicer.mrmlScene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, scene.StartSaveEvent, self.onSceneStartSave)
        self.addObserver(slicer.mrmlScene, scene.EndSaveEvent, self.onSceneEndSave)
        self.addObserver(slicer.mrmlScene, scene.StartImportEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, scene.EndImportEvent, self.onSceneEndImport)
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
            self.addObserver(slicer.mrmlScene, event, self.onNodesChanged)
        self._reopen = qt.QTimer()
        self._reopen.setSingleShot(True)
        self._reopen.timeout.connect(self._onReopen)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """The module is unloaded, or Slicer ends: cancel what runs and leave nothing."""
        self._reopen.stop()
        self.setParameterNode(None)
        self.removeObservers()
        self.logic.close()

    def enter(self) -> None:
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self) -> None:
        self.panel.exit()

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller: Any, _event: Any) -> None:
        self.logic.history.clear()
        if self.panel.isEntered:  # else a closed scene would not be empty; `enter` follows
            self.initializeParameterNode()

    def onSceneStartSave(self, _caller: Any, _event: Any) -> None:
        self.panel.beforeSaving()

    def onSceneEndSave(self, _caller: Any, _event: Any) -> None:
        self.panel.afterSaving()

    def onSceneEndImport(self, _caller: Any, _event: Any) -> None:
        self._reopen.start(0)  # once the node selectors know the new nodes

    def _onReopen(self) -> None:
        if self.panel.isEntered:
            self.initializeParameterNode()

    def onNodesChanged(self, _caller: Any, _event: Any) -> None:
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.panel.onNodesChanged()

    def initializeParameterNode(self) -> None:
        """Follow the scene's parameter node, made where there is none."""
        if self._parameterNode is None:
            self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameters: Parameters | None) -> None:
        """Follow this parameter node, or none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameterNode = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.panel.setParameters(parameters)

    def onParametersModified(self, _caller: Any = None, _event: Any = None) -> None:
        self.panel.update()


class SpikeRegSlicerLogic(ScriptedLoadableModuleLogic, Registrations, Segmentations):
    """Registers volumes of the scene and names their structures, with or without the panel.

    SpikeRegSlicerLogic().register(fixed, moving, preset="brain-t1") returns what the run made, and
    SpikeRegSlicerLogic().segment(volume) a segmentation node with the structures of a head. With wait=False both return
    at once, and `onDone` is called in the end.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Registrations.__init__(self)

    def getParameterNode(self) -> Parameters:
        return Parameters(ScriptedLoadableModuleLogic.getParameterNode(self))


class SpikeRegSlicerTest(Cases, ScriptedLoadableModuleTest):
    """The module's self-test: a run on the bundled pair, with numbers."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Every case that this Slicer can run; without PyTorch the rest is skipped, as a factory has none."""
        logic, isComplete = SpikeRegSlicerLogic(), torchIsInstalled()
        try:
            for name in self.cases() if isComplete else self.registeringNothing():
                self.setUp()
                self.delayDisplay(name)
                getattr(self, name)(logic)
        finally:
            logic.close()
        if not isComplete:
            self.skipTest(_("PyTorch is not installed: the cases that register were skipped"))
        self.delayDisplay(_("All cases passed"))
