"""A run survives save, close and reload of the scene: nodes, references, order, map, review."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from slicer_scene import ROOT
from small_pair import makeRunFolder


def inProcess(*arguments: str | Path) -> dict:
    command = [sys.executable, Path(__file__).with_name("bundle_round_trip.py"), *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_everything_is_found_again_after_a_reload(tmp_path):
    folder = makeRunFolder(tmp_path / "run", folded=4)
    saved = inProcess("save", tmp_path / "scene.mrb", folder)
    opened = inProcess("open", tmp_path / "scene.mrb")
    assert saved["review"]["note"].endswith("naïve 日本") and saved["spikes"] and saved["movingUnder"]
    for key in ("points", "back", "grids", "sums"):
        before, after = (np.array(report.pop(key)) for report in (saved, opened))
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-3 if key == "back" else 1e-4)
    assert opened == saved
