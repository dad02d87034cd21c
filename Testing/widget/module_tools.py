"""What tests of the module SpikeRegSlicer share: its panel, the sample pair, and small workers that misbehave."""

from __future__ import annotations

from pathlib import Path

import slicer
from host import gestures, loadModule
from host.start import makeWidget

MODULE = Path(__file__).parents[2] / "SpikeRegSlicer" / "SpikeRegSlicer.py"
_module = None

# Stands in for the worker where it has to hang, die or break off: obeys one request as the name says. It is the child
# of a launcher, as the real one is.
WORKERS = {
    "hang": "time.sleep(1000)",
    "obey": "json.loads(sys.stdin.readline()); tell(event='error', id=one['id'], message='cancelled', code=130)",
    "die": "print('a last word', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)",
    "crash": "faulthandler.enable(); os.kill(os.getpid(), 11)",
    "stop": "print('the disk is gone', file=sys.stderr, flush=True); tell(event='end'); sys.exit(3)",
    "refuse": "tell(event='error', id=one['id'], message='fixed.nrrd: holds NaN; take it out', code=2)",
    "whole": "tell(event='progress', id=one['id'], stage='finish', fraction=1.0, message='writing the results'); "
    "tell(event='result', id=one['id'], path=os.path.join(one['out'], 'result.json'))",
    "finish": "tell(event='result', id=one['id'], path=os.path.join(one['out'], 'result.json'))",
    "part": "os.makedirs(one['out']); open(os.path.join(one['out'], 'half'), 'w'); time.sleep(1000)",
}
_SCRIPT = """
import faulthandler, json, os, sys, time
def tell(**event):
    print(json.dumps(event), flush=True)
tell(event='ready', pid=os.getpid(), version='0')
for line in sys.stdin:
    one = json.loads(line)
    tell(event='started', id=one['id'])
    tell(event='progress', id=one['id'], stage='align', fraction=0.5, message='half way')
    {}
"""


def module():
    """The Python module, loaded as Slicer loads it."""
    global _module
    if _module is None:
        _module, widget = loadModule(MODULE)
        widget.cleanup()
    return _module


def openPanel():
    """A new panel on the scene as it is; close it with `host.closeModule`."""
    return makeWidget(module(), "SpikeRegSlicer")


def part(panel, name: str):
    """A part of a panel, by the name of its class."""
    return next(part for part in panel.panel.parts if type(part).__name__ == name)


def standIn(behaviour: str):
    """A process whose worker behaves like this."""
    module()
    from SpikeRegSlicerLib.process import WorkerProcess

    return WorkerProcess(arguments=["-c", _SCRIPT.format(WORKERS[behaviour])])


def useStandIn(panel, behaviour: str) -> None:
    """Let a panel's logic start this instead of the worker."""
    process = panel.logic.process
    process._arguments = ["-c", _SCRIPT.format(WORKERS[behaviour])]


def loadPair():
    """The bundled pair: fixed, moving."""
    module()
    from SpikeRegSlicerLib.sample import loadSample

    return loadSample()


def choosePair(panel, fixed, moving, preset: str = "fast-preview") -> None:
    """Choose the pair and the preset by hand, with one thread."""
    gestures.chooseNode(panel.ui.fixedSelector, fixed)
    gestures.chooseNode(panel.ui.movingSelector, moving)
    gestures.chooseText(panel.ui.presetComboBox, preset)
    panel.ui.threadsSpinBox.value = 1


def saveAndReload() -> None:
    """Save the scene as XML, close it, load it again."""
    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(0)
    loadScene(text)


def loadScene(text: str) -> None:
    """Close the scene and load another one from its XML."""
    scene = slicer.mrmlScene
    scene.Clear(False)
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    scene.Connect()
    scene.SetLoadFromXMLString(0)
    slicer.app.processEvents()


def family(pid: int) -> set[int]:
    """A process and everything it started, and what that started."""
    found, todo = set(), [pid]
    while todo:
        found.add(one := todo.pop())
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            todo += [int(text) for text in children.read_text().split()]
    return found


def isAlive(pid: int) -> bool:
    """Whether a process of this number runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def leftovers() -> list[str]:
    """What lies in Slicer's temporary folder."""
    return sorted(path.name for path in Path(slicer.app.temporaryPath).iterdir())


def filesLeft() -> list[str]:
    """Every file in Slicer's temporary folder and below it."""
    return sorted(str(path) for path in Path(slicer.app.temporaryPath).rglob("*") if path.is_file())


def message(panel) -> str:
    """What the panel says below the Run button."""
    return panel.ui.messageLabel.text
