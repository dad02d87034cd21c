"""The `spikereg` command: exit codes, one-line errors, events, and output folders that are whole or not there."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from examples import FRAMES, a_registration, head

from SpikeRegLib.cli import main
from SpikeRegLib.commands import COMMANDS
from SpikeRegLib.errors import Cancelled, InputError, SpikeRegError
from SpikeRegLib.images.volumes import Volume, read_image, read_labels, write_volume
from SpikeRegLib.outputs import folder as outputs
from SpikeRegLib.progress import Progress
from SpikeRegLib.space.transforms import (
    AffineTransform,
    DisplacementTransform,
    Transform,
    read_transform,
    write_transform,
)
from SpikeRegLib.system import interrupt

ROOT = Path(__file__).parents[2]
COMPLETE = {
    "warped.nii.gz",
    "transform.h5",
    "inverse_transform.h5",
    "displacement.nii.gz",
    "jacobian.nii.gz",
    "warped_seg.nii.gz",
    "spikes",
    "report.html",
    "result.json",
}


pytestmark = pytest.mark.usefixtures("signal_handlers_restored")


@pytest.fixture
def pipeline(monkeypatch):
    """Stands in for the pipeline: `outcome` is returned or raised, `given` is what it was called with."""
    stand_in = types.ModuleType("SpikeRegLib.pipeline")
    stand_in.outcome = a_registration()

    def register(fixed, moving, *, listener, **options):
        stand_in.given = {"fixed": fixed, "moving": moving, **options}
        for stage in ("prepare", "align", "predict", "refine", "finish"):
            listener(Progress(stage, 0.0))
            listener(Progress(stage, 1.0, "done"))
        if isinstance(stand_in.outcome, BaseException):
            raise stand_in.outcome
        return stand_in.outcome

    stand_in.register = register
    monkeypatch.setitem(sys.modules, "SpikeRegLib.pipeline", stand_in)
    return stand_in


def run(*arguments) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse's way out
        return int(end.code or 0)


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What it costs to ask -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_no_torch(command):
    code = (
        "import sys\n"
        "from SpikeRegLib.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'SimpleITK', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    arguments = [command, "--help"] if command else ["--help"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: spikereg" in done.stdout


def test_every_command_is_listed_in_the_help(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"    {name}" in text for name in COMMANDS)


# Wrong use ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["regster", "a", "b"], "regster"),
        (["register", "a", "b"], "--out"),
        (["register", "a", "b", "--out", "o", "--method", "magic"], "magic"),
        (["register", "a", "b", "--out", "o", "--threads", "0"], "--threads"),
        (["register", "a", "b", "--out", "o", "--timesteps", "four"], "--timesteps"),
        (["register", "a", "b", "--out", "o", "--ref", "3"], "--ref"),
        (["apply", "t.h5", "a", "b", "--labels", "--points"], "--points"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(arguments, named, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and named in error and error.startswith("spikereg")


def test_one_segmentation_without_the_other_is_refused(tmp_path, pipeline, capsys):
    assert run("register", "a", "b", "--out", tmp_path / "out", "--fixed-seg", "f.nii.gz") == 2
    assert "--fixed-seg: given without --moving-seg" in capsys.readouterr().err
    assert not hasattr(pipeline, "given") and left_in(tmp_path) == []


def test_unknown_preset_exits_2_and_lists_the_known(tmp_path, pipeline, capsys):
    assert run("register", "a", "b", "--out", tmp_path / "out", "--preset", "liver") == 2
    assert "'liver': unknown; choose one of any-anatomy" in capsys.readouterr().err
    assert not hasattr(pipeline, "given") and left_in(tmp_path) == []


# Ends of a run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (
            InputError("a.nii.gz: no such file; check the path"),
            2,
            "spikereg: error: a.nii.gz: no such file; check the path",
        ),
        (SpikeRegError("it failed"), 1, "spikereg: error: it failed"),
        (Cancelled("stop"), 130, "spikereg: cancelled before any result was written"),
        (KeyboardInterrupt(), 130, "spikereg: cancelled before any result was written"),
        (MemoryError(), 1, "spikereg: error: not enough memory"),
        (ZeroDivisionError("a\nb"), 1, "spikereg: error: unexpected ZeroDivisionError: a b; run again with --debug"),
    ],
)
def test_every_end_has_its_code_and_one_line(outcome, code, line, tmp_path, pipeline, capsys):
    pipeline.outcome = outcome
    assert run("register", "a", "b", "--out", tmp_path / "out", "--progress", "json") == code
    out, error = capsys.readouterr()
    assert error.startswith(line) and error.count("\n") == 1
    last = events(out)[-1]
    assert last["event"] == "error" and last["code"] == code and last["message"] in error
    assert left_in(tmp_path) == []


def test_debug_shows_the_traceback(tmp_path, pipeline, capsys):
    pipeline.outcome = ZeroDivisionError("x")
    assert run("register", "a", "b", "--out", tmp_path / "out", "--debug", "--progress", "none") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_run_writes_everything_promised(tmp_path, pipeline, capsys):
    out = tmp_path / "deep" / "out"
    assert run("register", "a.nii.gz", "b.nii.gz", "--out", out, "--progress", "json", "--seed", "7") == 0
    assert set(left_in(out)) == COMPLETE
    assert left_in(out / "spikes") == ["enc0.nii.gz"]
    assert left_in(tmp_path) == ["deep"] and left_in(tmp_path / "deep") == ["out"]
    reported = events(capsys.readouterr().out)
    assert reported[-1] == {"event": "result", "path": str(out / "result.json")}
    stages = [event["stage"] for event in reported[:-1] if event["fraction"] == 1]
    assert stages == ["prepare", "align", "predict", "refine", "finish"]
    assert all(set(event) == {"event", "stage", "fraction", "message"} for event in reported[:-1])
    assert pipeline.given["seed"] == 7 and pipeline.given["preset"] == "brain"
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result == outputs.finite_or_null(pipeline.outcome.result)


def test_options_of_the_registration_network_choose_a_preset_that_has_one(tmp_path, pipeline):
    words = ("register", "a.nii.gz", "b.nii.gz", "--out", tmp_path / "out", "--progress", "none")
    for option in (("--timesteps", 2), ("--tile", 64), ("--model", "brain-t1")):
        assert run(*words, *option) == 0
        assert pipeline.given["preset"] == "brain-t1", option


def test_written_files_hold_what_was_registered(tmp_path):
    registration = a_registration(FRAMES["oblique"])
    frame = registration.fixed.frame
    registration.displacement[0] = 1.25
    outputs.write_outputs(registration, tmp_path / "out")
    warped = read_image(tmp_path / "out" / "warped.nii.gz")
    assert torch.equal(warped.data, registration.warped.data)
    assert np.allclose(warped.frame.matrix, frame.matrix, atol=1e-4)
    assert torch.equal(read_labels(tmp_path / "out" / "warped_seg.nii.gz").data, registration.warped_labels.data)
    assert np.allclose(read_transform(tmp_path / "out" / "transform.h5").matrix, np.eye(4))
    field = sitk.ReadImage(str(tmp_path / "out" / "displacement.nii.gz"))
    assert field.GetNumberOfComponentsPerPixel() == 3 and field.GetMetaData("intent_code") in ("1006", "1007")
    assert np.allclose(sitk.GetArrayFromImage(field), (1.25, 0, 0))


def test_numbers_that_json_lacks_become_null():
    given = {"a": float("nan"), 3: [np.float32(1.5), float("inf")], "b": torch.tensor(2), "c": (True, None, "x")}
    expected = {"a": None, "3": [1.5, None], "b": 2, "c": [True, None, "x"]}
    assert outputs.finite_or_null(given) == expected


def test_a_second_run_replaces_the_first_and_leaves_other_files(tmp_path, pipeline):
    out = tmp_path / "out"
    assert run("register", "a", "b", "--out", out, "--progress", "none") == 0
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    pipeline.outcome = a_registration(seed=2)
    pipeline.outcome.warped_labels, pipeline.outcome.spike_maps = None, {}
    assert run("register", "a", "b", "--out", out, "--progress", "none") == 0
    assert set(left_in(out)) == COMPLETE - {"warped_seg.nii.gz", "spikes"} | {"notes.txt"}
    assert json.loads((out / "result.json").read_text())["seed"] == 2


# Output folders that cannot be --------------------------------------------------------------------------------------


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(tmp_path, pipeline, capsys):
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    for out in (taken, taken / "below"):
        assert run("register", "a", "b", "--out", out) == 2
        assert "output folder cannot be written" in capsys.readouterr().err
    assert not hasattr(pipeline, "given") and taken.read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody may write: /proc")
def test_an_output_folder_that_may_not_be_written_is_refused_before_any_work(pipeline, capsys):
    assert run("register", "a", "b", "--out", "/proc/spikereg/out") == 2
    assert "/proc/spikereg/out: output folder cannot be written" in capsys.readouterr().err
    assert not hasattr(pipeline, "given")


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_is_one_line_and_leaves_the_folder_as_it_was(existing, tmp_path, pipeline, capsys, monkeypatch):
    out = tmp_path / "out"
    if existing:
        assert run("register", "a", "b", "--out", out, "--progress", "none") == 0
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(folder, on_disk):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs, "prove_space", full)
    assert run("register", "a", "b", "--out", out, "--progress", "none") == 2
    assert f"{out}: cannot be written, the disk is full; free some space" in capsys.readouterr().err
    if existing:
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    else:
        assert left_in(tmp_path) == []


def test_a_failure_while_writing_names_the_folder_asked_for(tmp_path, pipeline, capsys, monkeypatch):
    def refuse(volume, path):
        raise InputError(f"{path}: cannot be written (why); choose another folder")

    monkeypatch.setattr("SpikeRegLib.images.volumes.write_volume", refuse)
    assert run("register", "a", "b", "--out", tmp_path / "out", "--progress", "none") == 2
    assert f"{tmp_path / 'out' / 'warped.nii.gz'}: cannot be written (why)" in capsys.readouterr().err
    assert left_in(tmp_path) == []


# Interrupts -----------------------------------------------------------------------------------------------------------

_SCRIPT = """
import sys, time, types
sys.path[:0] = [{root!r}, {tests!r}]
from examples import a_registration
from SpikeRegLib import report
from SpikeRegLib.outputs import folder as outputs
from SpikeRegLib.cli import entry
from SpikeRegLib.progress import Progress
where = {where!r}

def wait(listener=None, seconds=30.0):
    print("here", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        if listener:
            listener(Progress("align", 0.5))

def register(fixed, moving, *, listener, **options):
    if where == "computing":
        wait(listener)
    if where == "swallowing":  # foreign code that loses the exception; the listener must still stop the run
        try:
            wait()
        except BaseException:
            pass
        listener(Progress("align", 0.5))
    if where == "inside ITK":  # which prints what is raised inside it, and goes on
        import SimpleITK as sitk
        median = sitk.MedianImageFilter()
        median.SetNumberOfThreads(1)
        waited = []
        median.AddCommand(sitk.sitkProgressEvent, lambda: waited or waited.append(wait(seconds=1.0)))
        median.Execute(sitk.Image(32, 32, 32, sitk.sitkFloat32))
        listener(Progress("align", 0.5))
    return a_registration()

stand_in = types.ModuleType("SpikeRegLib.pipeline")
stand_in.register = register
sys.modules["SpikeRegLib.pipeline"] = stand_in
if where == "writing":
    report.write_report = lambda registration, path: wait()
if where == "publishing":
    publish = outputs._publish
    def slow(*arguments):
        print("here", flush=True)
        time.sleep(1.0)
        publish(*arguments)
    outputs._publish = slow
sys.argv = ["spikereg", "register", "a", "b", "--out", {out!r}, "--progress", "none"]
entry()
"""


def interrupted(where: str, out: Path, number: int) -> subprocess.CompletedProcess:
    """Run `register`, send a signal when it is at the point named, and wait for its end."""
    code = _SCRIPT.format(root=str(ROOT), tests=str(Path(__file__).parent), where=where, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    time.sleep(0.1)
    process.send_signal(number)
    out_text, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out_text, error)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["computing", "swallowing", "inside ITK", "writing"])
def test_an_interrupt_exits_130_and_leaves_nothing(where, number, tmp_path):
    done = interrupted(where, tmp_path / "out", number)
    assert (done.returncode, done.stderr) == (130, "spikereg: cancelled before any result was written\n")
    assert left_in(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupt_while_results_are_put_in_place_finishes_them(tmp_path):
    done = interrupted("publishing", tmp_path / "out", signal.SIGTERM)
    assert done.returncode == 0, done.stderr
    assert set(left_in(tmp_path / "out")) == COMPLETE and left_in(tmp_path) == ["out"]


def test_a_listener_stops_the_run_after_a_signal(monkeypatch):
    from SpikeRegLib.commands.events import listener_for

    monkeypatch.setitem(interrupt._state, "asked", True)
    with pytest.raises(Cancelled):
        listener_for("none")(Progress("align", 0.1))


# apply and evaluate ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shifted(tmp_path):
    """A transform that maps fixed x to moving x + 5 mm along the patient's left, and a head to carry through it."""
    matrix = np.eye(4)
    matrix[0, 3] = 5.0
    write_transform(AffineTransform(matrix), tmp_path / "t.h5")
    moving = head(FRAMES["plain"])
    write_volume(moving, tmp_path / "moving.nii.gz")
    return tmp_path, moving


def test_apply_resamples_an_image_on_the_reference(shifted):
    folder, moving = shifted
    arguments = ("apply", folder / "t.h5", folder / "moving.nii.gz", folder / "out.nii.gz")
    assert run(*arguments, "--reference", folder / "moving.nii.gz") == 0
    warped = read_image(folder / "out.nii.gz")
    assert torch.allclose(warped.data[..., :-5], moving.data[..., 5:], atol=1e-3)  # out(x) = moving(x + 5)
    assert run(*arguments, "--reference", folder / "moving.nii.gz", "--inverse") == 0
    warped = read_image(folder / "out.nii.gz")
    assert torch.allclose(warped.data[..., 5:], moving.data[..., :-5], atol=1e-3)


def test_apply_keeps_labels_whole(shifted):
    folder, _ = shifted
    labels = head(FRAMES["plain"]).data.to(torch.int16)
    write_volume(Volume(labels, FRAMES["plain"]), folder / "seg.nii.gz")
    matrix = np.eye(4)
    matrix[0, 3] = 5.3
    write_transform(AffineTransform(matrix), folder / "t.h5")
    arguments = ("apply", folder / "t.h5", folder / "seg.nii.gz", folder / "out.nii.gz", "--labels")
    assert run(*arguments, "--reference", folder / "seg.nii.gz") == 0
    warped = read_labels(folder / "out.nii.gz")
    assert set(warped.data.unique().tolist()) <= set(labels.unique().tolist())
    assert torch.equal(warped.data[..., :-5], labels[..., 5:])


def test_apply_moves_points_with_the_transform_and_back(shifted):
    folder, _ = shifted
    (folder / "fixed.csv").write_text("x,y,z\n1,2,3\n-4,5.5,6\n", encoding="utf-8")
    assert run("apply", folder / "t.h5", folder / "fixed.csv", folder / "moving.csv", "--points") == 0
    moved = np.loadtxt(folder / "moving.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
    assert np.allclose(moved, [[6, 2, 3], [1, 5.5, 6]])
    assert run("apply", folder / "t.h5", folder / "moving.csv", folder / "back.csv", "--points", "--inverse") == 0
    back = np.loadtxt(folder / "back.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
    assert np.allclose(back, [[1, 2, 3], [-4, 5.5, 6]])


def test_apply_needs_a_grid_for_images_and_none_for_points(shifted, capsys):
    folder, _ = shifted
    assert run("apply", folder / "t.h5", folder / "moving.nii.gz", folder / "out.nii.gz") == 2
    assert "--reference: needed" in capsys.readouterr().err
    assert run("apply", folder / "t.h5", "p.csv", folder / "q.csv", "--points", "--reference", "r.nii.gz") == 2
    assert "--reference: points have no grid" in capsys.readouterr().err
    assert not (folder / "out.nii.gz").exists()


def test_evaluate_prints_overlap_and_regularity(tmp_path, capsys):
    frame = FRAMES["plain"]
    labels = (head(frame).data > 0).to(torch.int16)
    moving = torch.roll(labels, 4, dims=2)
    shift = torch.zeros(3, *frame.shape)
    shift[0] = 4.0
    for name, data in (("f", labels), ("m", moving)):
        write_volume(Volume(data, frame), tmp_path / f"{name}.nii.gz")
    write_transform(DisplacementTransform(shift, frame), tmp_path / "t.h5")
    (tmp_path / "groups.json").write_text('{"map": {"1": 17}}', encoding="utf-8")
    files = ("--fixed-seg", tmp_path / "f.nii.gz", "--moving-seg", tmp_path / "m.nii.gz")
    assert run("evaluate", *files, "--transform", tmp_path / "t.h5", "--groups", tmp_path / "groups.json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["dice"]["before_mean"] == pytest.approx(
        float(2 * (labels * moving).sum() / (labels.sum() + moving.sum()))
    )
    assert result["dice"]["after_mean"] == 1.0 and result["dice"]["per_label"] == {"17": 1.0}
    assert result["dice"]["per_label_before"] == {"17": result["dice"]["before_mean"]}
    assert result["hd95_mm"] == {"17": 0.0}
    assert result["deformation"]["folding_percent"] == 0.0
    assert result["deformation"]["mean_mm"] == pytest.approx(4.0)


def test_evaluate_refuses_segmentations_without_a_common_label(tmp_path, capsys):
    frame = FRAMES["plain"]
    labels = (head(frame).data > 0).to(torch.int16)
    write_volume(Volume(labels, frame), tmp_path / "f.nii.gz")
    write_volume(Volume(labels * 2, frame), tmp_path / "m.nii.gz")
    write_transform(Transform.identity(), tmp_path / "t.h5")
    files = ("--fixed-seg", tmp_path / "f.nii.gz", "--moving-seg", tmp_path / "m.nii.gz")
    assert run("evaluate", *files, "--transform", tmp_path / "t.h5") == 2
    assert "shares no label" in capsys.readouterr().err


# models, demo ---------------------------------------------------------------------------------------------------------


def test_models_lists_what_the_files_say(tmp_path, capsys, monkeypatch):
    import struct

    from SpikeRegLib.commands import models

    metadata = {"format": "spikereg-model-1", "kind": "spiking", "spec": '{"name": "small"}', "facts": '{"seed": 3}'}
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": metadata, "w": tensor}).encode()
    (tmp_path / "toy.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    (tmp_path / "toy.md").write_text("# Toy", encoding="utf-8")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    assert run("models", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["name"] == "toy" and listed["kind"] == "spiking" and listed["spec"] == "small"
    assert listed["facts"] == {"seed": 3} and listed["card"].endswith("toy.md") and len(listed["sha256"]) == 64
    assert run("models") == 0
    assert "toy: spiking network, spec small" in capsys.readouterr().out


def test_demo_registers_the_sample_with_everything_shown(tmp_path, pipeline, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("demo") == 0
    assert (
        pipeline.given["fixed"].name == "fixed.nii.gz" and pipeline.given["moving_labels"].name == "moving_seg.nii.gz"
    )
    assert pipeline.given["spike_maps"] is True and pipeline.given["preset"] == "brain-t1"
    printed = capsys.readouterr().out
    assert "mean Dice            0.410 -> 0.830" in printed and "verdict              good" in printed
    assert str(Path("spikereg-demo") / "report.html") in printed
    assert set(left_in(tmp_path / "spikereg-demo")) == COMPLETE


# The package ----------------------------------------------------------------------------------------------------------


def test_every_public_name_can_be_imported_and_shadows_no_module():
    import SpikeRegLib

    for name in SpikeRegLib.__all__:
        assert getattr(SpikeRegLib, name) is not None
        assert importlib.util.find_spec(f"SpikeRegLib.{name}") is None, f"{name} is also a module"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = SpikeRegLib.nothing


def test_the_bar_prints_one_line_a_stage_with_its_last_message_where_there_is_no_terminal(capsys):
    from SpikeRegLib.commands.events import listener_for

    listener = listener_for("bar")
    for stage in ("align", "finish"):
        listener(Progress(stage, 0.0))
        listener(Progress(stage, 1.0, f"{stage} went well"))
        listener(Progress(stage, 1.0))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("[")[0].strip() for line in lines] == ["align", "finish"]
    assert all(line.endswith(f"{stage} went well") for line, stage in zip(lines, ("align", "finish"), strict=True))
