"""slicer.app, the windows of slicer.util, packages, sample data; how a module is loaded and its .ui file read."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import ctk
import numpy as np
import pytest
import qt
import slicer
import slicer_scene
from host import closeModule, dialogs, gestures, loadModule, services

pytestmark = pytest.mark.usefixtures("scene")

MODULE = """
import qt
import slicer
from slicer.i18n import tr as _, translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

calls = []


class HostToy(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title, parent.categories = _("Toy"), [translate("qSlicerAbstractCoreModule", "Registration")]
        slicer.app.connect("startupCompleted()", registerSampleData)
        calls.append("module")


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Toy", sampleName="Pair", uris=["a"])


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    weight: float = 2.0


class HostToyLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return Parameters(super().getParameterNode())


class HostToyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        calls.append("setup")
        top = slicer.util.loadUI(self.resourcePath("UI/HostToy.ui"))
        self.layout.addWidget(top)
        self.ui = slicer.util.childWidgetVariables(top)
        top.setMRMLScene(slicer.mrmlScene)
        self.logic = HostToyLogic()
        self.parameters = self.logic.getParameterNode()
        self.tag = self.parameters.connectGui(self.ui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onClose)

    def onClose(self, caller, event):
        calls.append("close")

    def enter(self):
        calls.append("enter")

    def exit(self):
        calls.append("exit")

    def cleanup(self):
        calls.append("cleanup")
        self.removeObservers()
        self.parameters.disconnectGui(self.tag)


class HostToyTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.delayDisplay("testing")
        self.assertEqual(HostToyLogic().getParameterNode().weight, 2.0)
"""

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>HostToy</class>
<widget class="qMRMLWidget" name="HostToy"><layout class="QVBoxLayout" name="top">
 <item><widget class="ctkCollapsibleButton" name="advanced">
  <property name="text"><string>Advanced</string></property>
  <property name="collapsed"><bool>true</bool></property>
  <layout class="QFormLayout" name="form">
   <item row="0" column="0"><widget class="QLabel" name="label"><property name="text">
    <string>Volume:</string></property></widget></item>
   <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="selector">
    <property name="nodeTypes"><stringlist notr="true"><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
    <property name="noneEnabled"><bool>true</bool></property>
    <property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
   <item row="1" column="1"><widget class="ctkDoubleSpinBox" name="weight">
    <property name="SlicerParameterName" stdset="0"><string>weight</string></property></widget></item>
  </layout></widget></item>
</layout></widget>
<connections><connection><sender>HostToy</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


@pytest.fixture
def toyPath(tmp_path):
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    (tmp_path / "Resources" / "Icons").mkdir()
    (tmp_path / "Resources" / "UI" / "HostToy.ui").write_text(UI)
    (tmp_path / "HostToy.py").write_text(MODULE)
    yield tmp_path / "HostToy.py"
    sys.modules.pop("HostToy", None)
    sys.path.remove(str(tmp_path))


def test_module_is_loaded_entered_and_left_in_slicers_order(toyPath):
    module, widget = loadModule(toyPath)
    assert module.calls == ["module", "setup", "enter"]
    assert (slicer.modules.hosttoy.title, slicer.modules.hosttoy.categories) == ("Toy", ["Registration"])
    assert slicer.util.getModuleWidget("HostToy") is slicer.modules.HostToyWidget is widget
    assert slicer.util.getModuleLogic("HostToy") is widget.logic
    assert slicer.util.modulePath("HostToy") == str(toyPath)
    assert [source.sampleName for source in slicer.modules.sampleDataSources["Toy"]] == ["Pair"]
    slicer.mrmlScene.Clear(False)
    closeModule(widget)
    assert module.calls[3:] == ["close", "exit", "cleanup"]
    slicer.mrmlScene.Clear(False)
    assert module.calls[6:] == []


def test_ui_file_becomes_stand_ins_connected_to_scene_and_parameters(toyPath):
    _, widget = loadModule(toyPath)
    assert type(widget.ui.selector) is slicer.qMRMLNodeComboBox and type(widget.ui.weight) is ctk.ctkDoubleSpinBox
    assert widget.ui.selector.mrmlScene() is slicer.mrmlScene
    assert (widget.ui.weight.value, widget.ui.advanced.collapsed, widget.ui.weight.visible) == (2.0, True, False)
    node = slicer_scene.makeVolume(np.zeros((2, 2, 2)))
    gestures.chooseNode(widget.ui.selector, node)
    assert widget.logic.getParameterNode().volume is node
    assert slicer.util.findChild(widget.parent, "label").text == "Volume:"
    closeModule(widget)


def test_self_test_of_a_module_runs_and_its_failure_is_one(toyPath):
    _, widget = loadModule(toyPath)
    slicer.selfTests["HostToy"]()
    assert dialogs.texts("delay") == ["testing"]
    widget.logic.getParameterNode().weight = 3.0
    with pytest.raises(AssertionError):
        slicer.selfTests["HostToy"]()
    closeModule(widget)


@pytest.mark.parametrize("part", ["qMRMLWidget", "setMRMLScene(vtkMRMLScene*)", "mrmlSceneChanged(vtkMRMLScene*)"])
def test_ui_file_with_an_unknown_class_slot_or_signal_is_an_error(tmp_path, part):
    path = tmp_path / "bad.ui"
    path.write_text(UI.replace(part, "unknown(vtkMRMLScene*)" if "(" in part else "ctkUnknown"))
    with pytest.raises((RuntimeError, AttributeError), match=r"unknown|ctkUnknown|Unable"):
        slicer.util.loadUI(str(path))


def test_windows_are_recorded_and_answered():
    slicer.util.errorDisplay("bad", detailedText="trace")
    slicer.util.warningDisplay("odd")
    dialogs.answer("confirm", True, False)
    assert slicer.util.confirmOkCancelDisplay("Really?") is True
    assert slicer.util.confirmYesNoDisplay("And now?") is False
    dialogs.answer("file", "/tmp/out.html", "")
    assert qt.QFileDialog.getSaveFileName(None, "Save", "", "*.html") == "/tmp/out.html"
    assert qt.QFileDialog.getOpenFileName() == ""
    qt.QDesktopServices.openUrl(qt.QUrl("file:///a.html"))
    kinds = [shown.kind for shown in dialogs.shown]
    assert kinds == ["error", "warning", "confirm", "confirm", "file", "file", "url"]
    assert dialogs.shown[0].details == "trace"


def test_window_that_nobody_expects_is_an_error():
    with pytest.raises(AssertionError, match="waits for a person"):
        slicer.util.confirmOkCancelDisplay("Really?")
    with pytest.raises(AssertionError, match="waits for a person"):
        qt.QDialog().exec_()


def test_error_in_a_block_is_shown_and_goes_on():
    with pytest.raises(ZeroDivisionError), slicer.util.tryWithErrorDisplay("Failed.", waitCursor=True):
        _ = 1 / 0
    assert "Failed." in dialogs.texts("error")[0]


def test_nothing_is_ever_installed(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        textwrap.dedent("""\
        # small ones
        numpy>=1.24
        no-such-package>=2.0
        """)
    )
    loaded = slicer.packaging.load_requirements(requirements)
    dialogs.answer("confirm", True, False)
    slicer.packaging.pip_ensure(loaded, requester="SpikeReg")
    assert services.installRequests == [services.InstallRequest(["no-such-package>=2.0"], "SpikeReg")]
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(loaded, requester="SpikeReg")
    with pytest.raises(services.InstallationForbidden):
        slicer.util.pip_install("numpy")


def test_testing_mode_asks_for_no_package(application):
    application.setTesting(True)
    slicer.packaging.pip_ensure(["no-such-package"], requester="SpikeReg")
    assert services.installRequests == [] and dialogs.shown == []


def test_application_has_folders_settings_and_no_views(application):
    assert slicer.app is application and application.layoutManager() is None and not application.testingEnabled()
    assert application.applicationName == "Slicer"
    folder = slicer.util.tempDirectory()
    assert folder.startswith(application.temporaryPath)
    Path(folder).rmdir()
    application.userSettings().setValue("a/b", 3)
    assert int(application.settings().value("a/b")) == 3
    assert application.applicationLogic().GetMRMLScene() is application.mrmlScene() is slicer.mrmlScene


def test_nodes_go_through_files_as_slicer_util_asks(tmp_path):
    volume = slicer_scene.makeVolume(slicer_scene.blobs((8, 9, 10)), name="image")
    path = str(tmp_path / "image.nii.gz")
    assert slicer.util.saveNode(volume, path)
    loaded = slicer.util.loadVolume(path)
    assert loaded is not volume
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(volume))
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "absent.nii.gz"))
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_picture_of_a_panel_grows_with_what_is_open(tmp_path):
    top = qt.QWidget()
    layout, box = qt.QVBoxLayout(top), ctk.ctkCollapsibleButton("Inputs")
    layout.addWidget(box)
    qt.QVBoxLayout(box).addWidget(qt.QPushButton("Run"))
    tall = qt.QImage(str(gestures.picture(top, tmp_path / "open.png", 300)))
    box.collapsed = True
    flat = qt.QImage(str(gestures.picture(top, tmp_path / "closed.png", 300)))
    assert tall.width() == flat.width() == 300 and tall.height() > flat.height() + 20
