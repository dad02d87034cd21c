"""Slicer loads every module at start: without PyTorch and network this one is light, complete, and offers to help."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import host
import module_tools as tools
import pytest
from host import dialogs

from SpikeRegLib.presets.preset import preset_names

# Blocks PyTorch and the network, loads the module, and tells what was there.
_SCRIPT = """
import json, os, socket, sys, time
sys.path[:0] = {paths!r}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "SimpleITK", "safetensors", "PyTorchUtils"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
def refuse(*_arguments, **_keywords):
    raise OSError("no network here")
socket.socket.connect = refuse
import host
app = host.start()
import slicer, numpy
before = set(sys.modules)
written = []
sys.addaudithook(lambda event, arguments: written.append(str(arguments[0])) if event == "open" and
    isinstance(arguments[1], str) and set(arguments[1]) & set("wax+") else None)
began = time.process_time()
module, panel = host.loadModule({module!r})
seconds = time.process_time() - began
app.processEvents()
panel.parent.show()
ui = panel.ui
told = {{
    "seconds": seconds,
    "heavy": [name for name in ("torch", "SimpleITK", "scipy") if name in set(sys.modules) - before],
    "written": [path for path in written if "__pycache__" not in path],
    "temporary": os.listdir(slicer.app.temporaryPath),
    "offer": ui.torchOffer.visible,
    "line": ui.torchLabel.text,
    "button": ui.installTorchButton.text,
    "widgets": len(vars(ui)),
    "presets": [ui.presetComboBox.itemText(row) for row in range(ui.presetComboBox.count)],
    "tip": ui.runButton.toolTip,
    "windows": len(host.dialogs.shown),
    "process": panel.logic.process.processId,
    "samples": [source.sampleName for source in slicer.modules.sampleDataSources["SpikeReg"]],
}}
ui.installTorchButton.click()
told["after"] = ui.messageLabel.text
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """What a fresh process without PyTorch and network tells of the module."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "scene")]
    script = _SCRIPT.format(paths=paths, module=str(tools.MODULE))
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_panel_is_complete(told):
    assert told["widgets"] > 90
    assert told["presets"][0] == "brain" and sorted(told["presets"]) == preset_names()
    assert told["samples"] == ["SpikeRegSample"]


def test_nothing_is_written_started_or_asked(told, record_property):
    record_property("cpu_seconds", told["seconds"])
    print(f"module and panel: {told['seconds']:.3f} CPU seconds")
    assert told["written"] == [] and told["temporary"] == []
    assert told["windows"] == 0 and told["process"] == 0
    assert told["heavy"] == []


def test_there_is_an_offer_and_no_action(told):
    assert told["offer"] and told["button"] == "Install PyTorch"
    assert "Nothing is downloaded until you ask" in told["line"]
    assert "PyTorch is not installed" in told["tip"]


def test_without_the_pytorch_extension_the_button_says_where_to_get_it(told):
    assert "Extensions Manager" in told["after"]


def test_with_pytorch_there_is_no_offer(scene):
    panel = tools.openPanel()
    panel.parent.show()
    assert not panel.ui.torchOffer.visible
    host.closeModule(panel)


def test_the_button_leaves_the_installation_to_the_pytorch_extension(scene, monkeypatch):
    import types

    asked = []

    class PyTorchUtilsLogic:
        def installTorch(self, **keywords):
            asked.append(keywords)

    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    panel = tools.openPanel()
    panel.ui.installTorchButton.click()
    host.closeModule(panel)
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.4"}]
    assert not dialogs.shown


def test_from_a_source_tree_the_module_finds_its_library_and_its_file_runs_nothing_but_imports():
    tree = ast.parse(tools.MODULE.read_text())
    assert {type(node) for node in tree.body[1:]} <= {ast.Import, ast.ImportFrom, ast.ClassDef}
    root, folder = str(tools.MODULE.parents[1]), str(tools.MODULE.parent)
    script = f"""
import sys, types
sys.path[:] = [path for path in sys.path if path not in ("", {root!r})] + [{folder!r}]
sys.modules["slicer"] = types.ModuleType("slicer")
sys.modules["slicer.i18n"] = types.SimpleNamespace(tr=str)
import importlib.util
assert importlib.util.find_spec("SpikeRegLib") is None
import SpikeRegSlicerLib
print(importlib.util.find_spec("SpikeRegLib").origin)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(tools.MODULE.parents[1] / "SpikeRegLib" / "__init__.py"), done.stderr
