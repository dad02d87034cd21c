"""Each rule catches what breaks it and lets its neighbour pass; the module breaks none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pythonqt_lint import RULES, check, checkFolder

ROOT = Path(__file__).parents[2]

TIMER = """
class A:
    def __init__(self):
        self.timer = qt.QTimer()
        self.timer.timeout.connect(self.f)
"""
CASES = {
    "keywords": [
        ("qt.QPushButton(text='Run')", "qt.QPushButton('Run')"),
        ("slicer.qMRMLNodeComboBox(parent=self)", "slicer.qMRMLNodeComboBox(self)"),
        ("qt.QFileDialog.getOpenFileName(self.top, dir='/')", "dict(text='Run')"),
        ("ctk.ctkSliderWidget(value=1)", "slicer.util.loadVolume(path, properties={})"),
    ],
    "called-property": [
        ("print(self.ui.runButton.text())", "print(self.ui.runButton.text)"),
        ("slider.value()", "values.value(key)"),
        ("box.currentIndex()", "widget.item(0).text()"),
        ("self.checkBox.checked()", "def checked(self): ...\nself.checked()"),
        ("line.text()", "item.text()"),
    ],
    "exec-without-underscore": [("dialog.exec()", "dialog.exec_()"), ("menu.exec(point)", "exec(code)")],
    "isinstance-of-a-qt-class": [
        ("isinstance(w, qt.QWidget)", "isinstance(node, slicer.vtkMRMLNode)"),
        ("isinstance(w, (str, ctk.ctkComboBox))", "isinstance(w, (str, int))"),
        ("isinstance(w, slicer.qMRMLWidget)", "w.isWidgetType()"),
    ],
    "signal-without-signature": [
        ('button.connect("clicked", f)', 'button.connect("clicked()", f)'),
        ('button.disconnect("clicked", f)', "button.clicked.connect(f)"),
    ],
    "long-enum": [
        ("qt.Qt.AlignmentFlag.AlignLeft", "qt.Qt.AlignLeft"),
        ("qt.QProcess.ProcessState.Running", "qt.QProcess.Running"),
        ("qt.QMessageBox.StandardButton.Ok", "qt.QApplication.instance().name"),
    ],
    "new-attribute-of-a-widget": [
        ("button = qt.QPushButton()\nbutton.mode = 1", "button = qt.QPushButton()\nbutton.checkable = True"),
        ("self.timer = qt.QTimer()\nself.timer.count = 1", "self.timer = qt.QTimer()\nself.count = 1"),
        ("a, b = 1, qt.QLabel()\nb.note = ''", "a, b = thing(), qt.QLabel()\na.note = ''"),
        ("self.ui.runButton.value = 1", "self.ui.runButton.toolTip = 'x'"),
        ("ui.anySlider.lastValue = 1", "ui.anySlider.value = 1"),
        ("widget = slicer.qMRMLWidget()\nwidget.logic: int = 1", "class W: pass\nwidget = W()\nwidget.logic = 1"),
    ],
    "let-go-in-a-signal": [
        (
            f"{TIMER}\n    def f(self):\n        self.timer = None",
            f"{TIMER}\n    def f(self):\n        self.timer.stop()",
        ),
        (
            f"{TIMER}\n    def f(self):\n        timer, self.timer = self.timer, None\n        timer.stop()",
            f"{TIMER}\n    def f(self):\n        old, self.timer = self.timer, None\n"
            "        qt.QTimer.singleShot(0, lambda: self.forget(old))",
        ),
        (
            f"{TIMER}\n    def f(self):\n        del self.timer",
            f"{TIMER}\n    def f(self):\n        qt.QTimer.singleShot(0, self.g)\n"
            "    def g(self):\n        del self.timer",
        ),
        (f"{TIMER}\n    def f(self):\n        self.timer.deleteLater()", "node.deleteLater()"),
        (
            "def f(self):\n    timer = qt.QTimer()\n    timer.timeout.connect(self.g)\n    timer.start(5)",
            "def f(self):\n    timer = qt.QTimer()\n    timer.timeout.connect(self.g)\n    self.timers.append(timer)",
        ),
        (
            "def f(self):\n    timer = qt.QTimer()\n    timer.timeout.connect(self.g)\n    self.timers.append(timer)\n"
            "def g(self):\n    self.timers.pop()",
            "def f(self):\n    timer = qt.QTimer()\n    timer.timeout.connect(self.g)\n    self.timers.append(timer)\n"
            "def g(self):\n    self.others.pop()",
        ),
        (
            "def f(self):\n    self.process = process = qt.QProcess()\n    process.connect('finished(int)', self.g)\n"
            "def g(self):\n    self.process = None",
            "def f(self):\n    self.process = process = qt.QProcess()\n    process.connect('finished(int)', self.g)\n"
            "def g(self):\n    process = self.process",
        ),
    ],
    "unknown-ui-name": [("self.ui.rnButton.click()", "self.ui.runButton.click()")],
    "star-import": [
        ("from qt import *", "import qt"),
        ("from slicer.util import *", "from slicer.ScriptedLoadableModule import *"),
    ],
    "other-binding": [
        ("from PySide6.QtWidgets import QLabel", "import qt"),
        ("def f():\n    import PyQt5", "import ctk"),
    ],
    "heavy-import": [
        ("import SimpleITK", "def f():\n    import SimpleITK"),
        ("from scipy import ndimage", "import numpy as np"),
        ("try:\n    import PyTorchUtils\nexcept ImportError:\n    pass", "def f():\n    import PyTorchUtils"),
        ("class A:\n    import pandas", "if TYPE_CHECKING:\n    import pandas"),
        ("from slicer.packaging import pip_ensure", "def f():\n    from slicer.packaging import pip_ensure"),
    ],
    "torch-import": [
        ("def f():\n    import torch", "importlib.util.find_spec('torch')"),
        (
            "def f():\n    from SpikeRegLib.pipeline import register",
            "from SpikeRegLib.presets.preset import load_preset",
        ),
        ("from SpikeRegLib.refinement import refine", "from SpikeRegLib.presets import preset"),
    ],
    "simpleitk-import": [("def f():\n    import SimpleITK as sitk", "import vtk")],
    "qt-import": [("import qt", "import slicer"), ("def f():\n    import ctk", "import vtk")],
    "upward-import": [
        ("from SpikeRegSlicerLib.logic import Registrations", "from SpikeRegSlicerLib.scene.inputs import Inputs"),
        ("import SpikeRegSlicerLib.widgets.text", "from . import grids"),
    ],
}
PAIRS = [(rule, bad, good) for rule, pairs in CASES.items() for bad, good in pairs]
UI = '<ui><widget class="QWidget" name="top"><widget class="QPushButton" name="runButton"/></widget></ui>'


@pytest.mark.parametrize(
    ("rule", "bad", "good"), PAIRS, ids=[f"{rule}-{bad.splitlines()[-1]}" for rule, bad, _ in PAIRS]
)
def test_rule_catches_the_bad_and_passes_the_good(tmp_path, rule, bad, good):
    if "ui." in bad and "Slider" not in bad:
        (tmp_path / "Resources" / "UI").mkdir(parents=True)
        (tmp_path / "Resources" / "UI" / "Toy.ui").write_text(UI)
    path = tmp_path / "ToyLib" / "scene" / "part.py"
    assert rule in {finding.rule for finding in check(bad, path)}
    assert rule not in {finding.rule for finding in check(good, path)}


def test_every_rule_has_cases():
    assert RULES.keys() == CASES.keys()


def test_layers_are_bound_only_below():
    source = "import qt\nfrom SpikeRegSlicerLib.logic import Registrations\ndef f():\n    import SimpleITK"
    assert check(source, "SpikeRegSlicerLib/widgets/part.py") == []
    assert [finding.line for finding in check(source, "SpikeRegSlicerLib/display/part.py")] == [1, 2, 4]


def test_finding_says_where_and_what_to_write_instead():
    (finding,) = check("\n\nlabel.text()\n", "panel.py")
    assert str(finding) == "panel.py:3: called-property: text is a property: write .text without parentheses"


def test_file_beside_the_module_is_caught(tmp_path):
    folder = tmp_path / "Toy"
    (folder / "ToyLib").mkdir(parents=True)
    for name in ("Toy.py", "helper.py", "ToyLib/helper.py"):
        (folder / name).write_text("import qt\n")
    assert [(finding.path.name, finding.rule) for finding in checkFolder(folder)] == [
        ("helper.py", "beside-the-module")
    ]
    assert checkFolder(folder)[0].path.parent == folder


def test_the_module_breaks_no_rule():
    folder = ROOT / "SpikeRegSlicer"
    assert len(list(folder.rglob("*.py"))) > 20
    assert [str(finding) for finding in checkFolder(folder)] == []
