"""Draw the panel for the tutorial: `python Docs/make_panel_pictures.py` writes Docs/screenshots/panel-*.png.

The module is loaded into the tests' stand-in for Slicer's application, used as a person would use it on the bundled
sample pair, and drawn off screen; needs slicer-core and PySide6. In Slicer the style of the widgets is the desktop's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing" / "widget"), str(ROOT / "Testing" / "scene"), str(ROOT)]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import host  # noqa: E402
from host import gestures  # noqa: E402

WIDTH = 420
LONGEST_RUN_S = 1200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "Docs" / "screenshots", help="folder for the pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    host.start()
    _, widget = host.loadModule(ROOT / "SpikeRegSlicer" / "SpikeRegSlicer.py")
    from SpikeRegSlicerLib.sample import loadSample, loadSampleLabels

    fixed, moving = loadSample()
    fixedLabels, movingLabels = loadSampleLabels()
    ui = widget.ui
    gestures.chooseNode(ui.fixedSelector, fixed)
    gestures.chooseNode(ui.movingSelector, moving)
    ui.advancedCollapsibleButton.collapsed = False
    gestures.chooseNode(ui.fixedSegmentationSelector, fixedLabels)
    gestures.chooseNode(ui.movingSegmentationSelector, movingLabels)
    ui.structuresCollapsibleButton.collapsed = False
    print(gestures.picture(widget, arguments.out / "panel-before.png", WIDTH))
    ui.advancedCollapsibleButton.collapsed = True
    ui.segmentButton.click()
    gestures.waitUntil(lambda: not widget.logic.jobs, LONGEST_RUN_S)
    ui.runButton.click()
    gestures.waitUntil(lambda: ui.runButton.text == "Run", LONGEST_RUN_S)
    ui.checkerboardButton.click()
    print(gestures.picture(widget, arguments.out / "panel-after.png", WIDTH))
    host.closeModule(widget)


if __name__ == "__main__":
    main()
