"""The real MRML scene for the tests of this folder."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
import slicer_scene


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
