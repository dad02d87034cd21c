"""The parts of the panel: each is a `Part`, all are in the panel's list, and one more is one more entry there."""

from __future__ import annotations

import importlib
import inspect

import host
import module_tools as tools
import pytest
import slicer
import slicer_scene
from host import gestures

pytestmark = pytest.mark.usefixtures("scene")
WIDGETS = tools.MODULE.parent / "SpikeRegSlicerLib" / "widgets"


def partClasses():
    """Every class that a file `*_part.py` defines, in the order of files."""
    tools.module()
    for path in sorted(WIDGETS.glob("*_part.py")):
        file = importlib.import_module(f"SpikeRegSlicerLib.widgets.{path.stem}")
        for value in vars(file).values():
            if inspect.isclass(value) and value.__module__ == file.__name__:
                yield value


def test_every_file_of_a_part_has_one_part_and_the_panel_lists_it():
    classes = list(partClasses())
    from SpikeRegSlicerLib.widgets.panel import Panel
    from SpikeRegSlicerLib.widgets.part import Part

    assert len(classes) == len(list(WIDGETS.glob("*_part.py"))) == len(Panel.PARTS)
    assert set(classes) == set(Panel.PARTS) and all(issubclass(each, Part) for each in classes)


def test_a_part_overrides_what_the_base_class_describes_with_the_same_arguments():
    tools.module()
    from SpikeRegSlicerLib.widgets.part import Part

    described = {name: value for name, value in vars(Part).items() if inspect.isfunction(value) and name[0] != "_"}
    assert {"setUp", "enter", "exit", "update", "showRun", "onInputsChanged", "leave", "cleanUp"} < set(described)
    for each in partClasses():
        assert "__init__" not in vars(each), each
        for name in described.keys() & vars(each).keys():
            assert inspect.signature(vars(each)[name]) == inspect.signature(described[name]), (each, name)


def test_a_part_without_setting_up_cannot_be_made():
    tools.module()
    from SpikeRegSlicerLib.widgets.part import Part

    with pytest.raises(TypeError, match="setUp"):
        Part(None, None)


@pytest.fixture
def told(monkeypatch):
    """What one more part of the panel is told, with whether there is a parameter node then."""
    tools.module()
    from SpikeRegSlicerLib.widgets.panel import Panel
    from SpikeRegSlicerLib.widgets.part import Part

    told = []

    class MorePart(Part):
        def setUp(self):
            told.append(("setUp", self.panel.parameters is not None))

    def teller(name):
        def method(self, *values):
            told.append((name, self.panel.parameters is not None))
            getattr(Part, name)(self, *values)

        return method

    for name in ("enter", "exit", "update", "showRun", "onInputsChanged", "leave", "cleanUp"):
        setattr(MorePart, name, teller(name))
    monkeypatch.setattr(Panel, "PARTS", (*Panel.PARTS, MorePart))
    return told


def test_a_part_in_the_list_is_told_all_that_happens_in_order(told):
    panel = tools.openPanel()
    shown = [("leave", True), ("showRun", True), ("update", True)]
    firsts = [each for each in dict.fromkeys(told) if each[0] != "onInputsChanged"]
    assert firsts == [("setUp", False), ("cleanUp", True), *shown, ("enter", True)] and told[-1] == ("update", True)
    told.clear()
    volume = slicer_scene.makeVolume(slicer_scene.blobs(), name="Fixed")
    gestures.chooseNode(panel.ui.fixedSelector, volume)
    slicer.app.processEvents()
    assert ("onInputsChanged", True) in told and told[-1] == ("update", True)
    told.clear()
    panel.panel.beforeSaving()
    panel.panel.afterSaving()
    assert told == [("leave", True), ("update", True)]
    told.clear()
    slicer.mrmlScene.Clear(False)
    slicer.app.processEvents()
    assert told[0] == ("cleanUp", False) and ("showRun", True) in told
    told.clear()
    host.closeModule(panel)
    assert told == [("exit", True), ("cleanUp", False)]


def test_a_part_writes_parameters_as_one_change_and_says_why_it_is_disabled(opened):
    part = tools.part(opened, "ResultsPart")
    changes = []
    node = part.parameters.parameterNode
    tag = node.AddObserver("ModifiedEvent", lambda *_: changes.append(1))
    part.write(reviewer="A. B.", seed=7)
    node.RemoveObserver(tag)
    assert (part.parameters.reviewer, part.parameters.seed, len(changes)) == ("A. B.", 7, 1)
    own = part.ui.savePresetButton.toolTip
    part.enable("savePresetButton", False, "There is none.")
    assert (part.ui.savePresetButton.enabled, part.ui.savePresetButton.toolTip) == (False, "There is none.")
    part.enable("savePresetButton", True)
    assert (part.ui.savePresetButton.enabled, part.ui.savePresetButton.toolTip) == (True, own)
