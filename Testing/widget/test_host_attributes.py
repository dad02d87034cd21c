"""Attributes, signals and constructors of Qt objects: PythonQt's rules, not PySide6's."""

from __future__ import annotations

import ctk
import pytest
import qt
import slicer
from host import gestures, signals

pytestmark = pytest.mark.usefixtures("application")


def test_a_property_is_an_attribute_and_calling_it_fails():
    button = qt.QPushButton("Run")
    assert button.text == "Run"
    button.text = "Cancel"
    assert button.property("text") == "Cancel"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()


@pytest.mark.parametrize(
    ("widget", "name", "value"),
    [
        (qt.QCheckBox, "checked", True),
        (qt.QSpinBox, "value", 7),
        (qt.QProgressBar, "maximum", 5),
        (qt.QLineEdit, "text", "a"),
        (qt.QPlainTextEdit, "plainText", "a\nb"),
        (qt.QTimer, "interval", 30),
        (ctk.ctkSliderWidget, "value", 12.5),
        (ctk.ctkCollapsibleButton, "collapsed", True),
        (ctk.ctkPathLineEdit, "currentPath", "/x"),
        (slicer.qMRMLNodeComboBox, "nodeTypes", ("vtkMRMLModelNode",)),
    ],
)
def test_property_keeps_what_was_assigned_and_has_its_setter(widget, name, value):
    instance = widget()
    before = getattr(instance, name)
    assert before != value
    setattr(instance, name, value)
    assert getattr(instance, name) == value
    getattr(instance, f"set{name[0].upper()}{name[1:]}")(before)
    assert getattr(instance, name) == before


def test_value_that_a_property_cannot_hold_is_refused():
    with pytest.raises(AttributeError, match="'value' of type 'int' does not accept"):
        qt.QSpinBox().value = "many"


def test_read_only_property_is_refused():
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


@pytest.mark.parametrize("kind", [qt.QPushButton, qt.QTimer, qt.QProcess, ctk.ctkSliderWidget, slicer.qMRMLWidget])
def test_new_attribute_on_a_cpp_object_is_refused(kind):
    instance = kind()
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        instance.note = 1
    assert not hasattr(instance, "note")


def test_python_class_derived_from_a_widget_takes_attributes_and_keywords():
    class Panel(qt.QWidget):
        def __init__(self, parent=None, purpose=""):
            super().__init__(parent)
            self.purpose = purpose

    panel = Panel(purpose="look")
    panel.seen = True
    assert (panel.purpose, panel.seen, panel.enabled) == ("look", True, True)


@pytest.mark.parametrize("kind", [qt.QPushButton, qt.QLabel, ctk.ctkCollapsibleButton, slicer.qMRMLNodeComboBox])
def test_keywords_in_a_constructor_are_refused(kind):
    with pytest.raises(TypeError, match="no keyword arguments"):
        kind(objectName="a")


def test_dynamic_property_becomes_an_attribute_and_name_is_object_name():
    label = qt.QLabel()
    assert not hasattr(label, "SlicerParameterName")
    label.setProperty("SlicerParameterName", "fixed")
    assert label.SlicerParameterName == "fixed"
    label.name = "fixedLabel"
    assert label.objectName == "fixedLabel"


def test_child_is_found_by_its_name_and_its_class():
    parent = qt.QWidget()
    button, label = qt.QPushButton(parent), qt.QLabel(parent)
    button.name = "runButton"
    assert parent.runButton is button
    assert parent.findChildren(qt.QWidget) == [button, label]
    assert parent.findChild(qt.QLabel) is label
    assert parent.findChildren(qt.QWidget, "runButton") == [button]
    assert (button.className(), button.isWidgetType(), button.parent() is parent) == ("QPushButton", True, True)


def test_object_that_qt_deleted_is_refused():
    parent = qt.QWidget()
    button = qt.QPushButton("Run", parent)
    parent.deleteLater()
    slicer.app.sendPostedEvents(None, qt.QEvent.DeferredDelete)
    with pytest.raises(ValueError, match="destroyed QPushButton"):
        _ = button.text
    with pytest.raises(ValueError, match="destroyed QPushButton"):
        button.text = "x"


def test_enums_are_short_and_exec_has_its_underscore():
    assert qt.Qt.AlignLeft and qt.QProcess.Running != qt.QProcess.NotRunning and qt.QMessageBox.Ok
    dialog = qt.QDialog()
    assert callable(dialog.exec_)
    with pytest.raises(AttributeError, match="exec_"):
        _ = dialog.exec


def test_signal_connects_by_name_and_by_signature():
    button, seen = qt.QPushButton(), []
    button.checkable = True
    assert button.clicked.connect(lambda checked: seen.append(("name", checked)))
    assert button.connect("clicked(bool)", lambda checked: seen.append(("bool", checked)))
    assert button.connect("clicked()", lambda *values: seen.append(("none", values)))
    button.click()
    assert seen == [("name", True), ("bool", True), ("none", ())]


def test_slot_gets_as_many_values_as_it_has_parameters():
    button, seen = qt.QPushButton(), []
    button.clicked.connect(lambda: seen.append("none"))
    button.clicked.connect(lambda checked, mode="grid": seen.append((checked, mode)))
    button.clicked.connect(lambda *values: seen.append(values))
    button.click()
    assert seen == ["none", (False, "grid"), (False,)]


def test_disconnect_ends_it_and_says_whether_there_was_anything():
    class Receiver:
        count = 0

        def onClicked(self):
            self.count += 1

    button, receiver = qt.QPushButton(), Receiver()
    button.clicked.connect(receiver.onClicked)
    button.click()
    assert button.clicked.disconnect(receiver.onClicked) is True
    assert button.clicked.disconnect(receiver.onClicked) is False
    button.connect("clicked()", receiver.onClicked)
    assert button.disconnect("clicked()", receiver.onClicked) is True
    button.click()
    assert receiver.count == 1


def test_signal_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="no signal pressedTwice"):
        qt.QPushButton().connect("pressedTwice()", print)
    with pytest.raises(ValueError, match="needs the signature"):
        qt.QPushButton().connect("clicked", print)


def test_error_in_a_slot_does_not_reach_the_sender_but_is_kept():
    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert [type(error) for error in signals.errors] == [ZeroDivisionError]
    signals.errors.clear()


def test_process_tells_its_exit_code_alone_when_connected_by_name():
    """Qt 5 declares finished(int) before finished(int, ExitStatus)."""
    process, seen = qt.QProcess(), []
    process.finished.connect(lambda *values: seen.append(values))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: seen.append((code, status)))
    process.start("PythonSlicer", ["-c", "raise SystemExit(3)"])
    assert process.waitForFinished(20000)
    assert seen == [(3,), (3, qt.QProcess.NormalExit)]


def test_process_exchanges_bytes_and_can_be_killed():
    process, received = qt.QProcess(), []
    process.readyReadStandardOutput.connect(lambda: received.append(bytes(process.readAllStandardOutput().data())))
    process.start("PythonSlicer", ["-uc", "import time; print(input()[::-1]); time.sleep(60)"])
    process.write(b"desrever\n")
    gestures.waitUntil(lambda: b"\n" in b"".join(received))
    process.kill()
    assert process.waitForFinished(5000)
    assert (b"".join(received), process.exitStatus()) == (b"reversed\n", qt.QProcess.CrashExit)


def test_timer_and_settings():
    ticks, timer = [], qt.QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(1)
    gestures.waitUntil(lambda: len(ticks) > 2)
    timer.stop()
    assert not timer.active
    qt.QSettings().setValue("SpikeReg/reviewer", "A. B.")
    assert slicer.util.settingsValue("SpikeReg/reviewer", "") == "A. B."
