"""The extension as Slicer has it after installation: everything is there, and it works without the repository."""

from __future__ import annotations

import importlib.util
import json
import shutil

import cmake_lists
import pytest
from installation import ROOT, Installation, configure, install, linked_copy

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("cmake", "make", "cc", "c++"))),
    reason="THE INSTALLED EXTENSION IS NOT TESTED: cmake, make and a C++ compiler are needed",
)

IMPORT_SCENE_AND_DISPLAY = """
import importlib, json, pathlib, sys, types
sys.modules["slicer.i18n"] = types.SimpleNamespace(tr=str)  # which slicer-core lacks
from SpikeRegSlicerLib import library, sample
registered = []
sys.modules["SampleData"] = types.SimpleNamespace(SampleDataLogic=types.SimpleNamespace(
    registerCustomSampleDataSource=lambda **source: registered.append(source)))
sample.registerSample(str(pathlib.Path(library.__file__).parents[1] / "Resources" / "Icons"))
folder = pathlib.Path(library.__file__).parent
names = [f"SpikeRegSlicerLib.{path.parent.name}.{path.stem}" for part in ("scene", "display")
         for path in sorted((folder / part).glob("*.py"))]
files = [importlib.import_module(name.removesuffix(".__init__")).__file__ for name in names]
print(json.dumps({
    "files": files,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "library": library.libraryFolder(),
    "sample": [{key: value for key, value in source.items() if key != "customDownloader"} for source in registered],
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installation:
    return install(ROOT, tmp_path_factory.mktemp("extension"))


def test_every_file_is_installed_unchanged_and_nothing_else(installed):
    assert installed.differences() == []


def test_every_script_is_compiled_for_the_python_of_the_build(installed):
    scripts = {path for path in installed.modules.rglob("*.py")}
    compiled = {importlib.util.cache_from_source(str(path)) for path in scripts}
    assert compiled == {str(path) for path in installed.modules.rglob("*.pyc")} and len(scripts) > 100


def test_the_catalog_gets_the_description(installed):
    description = (installed.prefix / "share" / "Slicer-5.12" / "SpikeReg.s4ext").read_text(encoding="utf-8")
    fields = dict(line.split(" ", 1) for line in description.splitlines())
    assert fields["category"] == "Registration" and fields["depends"] == "PyTorch"
    assert fields["iconurl"].endswith("/Resources/Icons/SpikeRegSlicer.png")


def test_slicer_runs_the_self_test_and_the_generic_test(installed):
    listing = (installed.build / "SpikeRegSlicer" / "CTestTestfile.cmake").read_text(encoding="utf-8")
    assert "runUnitTest" in listing and "'SpikeRegSlicer')" in listing
    assert "--no-main-window" in listing and "'qSlicerSpikeRegSlicerModuleGenericTest')" in listing


@pytest.mark.slow
def test_the_demo_runs_from_the_installed_tree_alone(installed):
    """With PyTorch, what Slicer ships, and what requirements.txt asks for; the repository cannot be imported."""
    out = installed.folder / "demo"
    where = installed.python("-c", "import SpikeRegLib, importlib.util as u; print(SpikeRegLib.__file__)")
    assert where.stdout.strip() == str(installed.modules / "SpikeRegLib" / "__init__.py"), where.stderr
    demo = installed.python("-m", "SpikeRegLib", "demo", "--out", out, "--threads", 1, "--progress", "none")
    assert demo.returncode == 0, demo.stderr
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["verdict"]["level"] == "good" and result["deformation"]["folding_percent"] == 0
    assert result["dice"]["after_mean"] > 0.6
    assert {path.name for path in out.iterdir()} >= {"transform.h5", "warped.nii.gz", "report.html", "spikes"}


def test_scene_and_display_layers_load_from_the_installed_tree(installed):
    """And find the library and the sample pair beside them. They need no Qt, and must not load any."""
    if importlib.util.find_spec("slicer") is None:
        pytest.skip("THE INSTALLED SCENE LAYER IS NOT TESTED: slicer-core is missing, pip install -e .[test]")
    loading = installed.python("-c", IMPORT_SCENE_AND_DISPLAY)
    assert loading.returncode == 0, loading.stderr
    found = json.loads(loading.stdout.splitlines()[-1])
    assert len(found["files"]) > 10 and all(file.startswith(str(installed.modules)) for file in found["files"])
    assert not {"torch", "SimpleITK", "PySide6", "qt", "ctk"} & set(found["loaded"])
    assert found["library"] == str(installed.modules)
    (source,) = found["sample"]
    folder = installed.modules / "SpikeRegLib" / "sample"
    assert source["uris"] == [(folder / f"{name}.nii.gz").as_uri() for name in ("fixed", "moving")]
    assert len(source["fileNames"]) == len(source["nodeNames"]) == 2  # Slicer refuses lists of other lengths, or none
    assert source["thumbnailFileName"] == str(installed.modules / "Resources" / "Icons" / "SpikeRegSample.png")


def test_a_file_that_is_not_listed_is_missed_after_installation(tmp_path):
    source = linked_copy(tmp_path)
    path = source / "SpikeRegLib" / "CMakeLists.txt"
    text = path.read_text(encoding="utf-8")
    scripts = [file for file in cmake_lists.listed(text, "LIBRARY_PYTHON_SCRIPTS") if file != "quality/verdict.py"]
    path.write_text(cmake_lists.relisted(text, "LIBRARY_PYTHON_SCRIPTS", scripts), encoding="utf-8")
    incomplete = install(source, tmp_path, compiled=False)
    assert incomplete.differences() == ["SpikeRegLib/quality/verdict.py is not installed"]
    error = incomplete.python("-c", "import SpikeRegLib.quality.verdict").stderr
    assert "No module named 'SpikeRegLib.quality.verdict'" in error


def test_a_listed_file_that_is_gone_stops_the_configuration(tmp_path):
    source = linked_copy(tmp_path)
    (source / "SpikeRegSlicer" / "Resources" / "UI" / "SpikeRegSlicer.ui").unlink()
    configured = configure(source, tmp_path / "build")
    assert configured.returncode != 0
    assert "lists Resources/UI/SpikeRegSlicer.ui, which is not there" in configured.stderr
