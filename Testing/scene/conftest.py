"""The real MRML scene for the tests of this folder, and a registration of the bundled pair to load into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[test]")
import slice_view
import slicer_scene

SAMPLE = slicer_scene.ROOT / "SpikeRegLib" / "sample"


@pytest.fixture
def scene():
    """The application's scene, empty; what a test leaves in it is gone before the next one.

    A test during which VTK or MRML reported an error fails, unless it takes the error out of `vtkErrors`.
    """
    errors = slicer_scene.boot().vtkErrors
    errors.clear()
    yield slicer_scene.emptyScene()
    slicer_scene.emptyScene()
    assert not errors, "errors reported by VTK or MRML:\n" + "".join(errors)


@pytest.fixture
def vtkErrors(scene) -> list[str]:
    """Messages of the errors that VTK and MRML have reported in this test so far."""
    return slicer_scene.boot().vtkErrors


@pytest.fixture
def panel(scene) -> slice_view.SlicePanel:
    """Three off-screen slice views of the scene; without OpenGL the test is skipped and says why."""
    problem = slice_view.problem()
    if problem:
        pytest.skip(f"nothing drawn was tested: {problem}")
    panel = slice_view.sharedPanel()
    panel.reset()
    return panel


@pytest.fixture(scope="session")
def sampleRun(tmp_path_factory) -> Path:
    """The folder that `spikereg register` wrote for the bundled pair, with rate maps and segmentations; read only."""
    folder = tmp_path_factory.mktemp("sample") / "run"
    command = [sys.executable, "-m", "SpikeRegLib", "register", SAMPLE / "fixed.nii.gz", SAMPLE / "moving.nii.gz"]
    command += ["--out", folder, "--preset", "fast-preview", "--spike-maps", "--threads", "1", "--progress", "none"]
    command += ["--fixed-seg", SAMPLE / "fixed_seg.nii.gz", "--moving-seg", SAMPLE / "moving_seg.nii.gz"]
    done = subprocess.run(list(map(str, command)), cwd=slicer_scene.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder
