"""Input that cannot be used: one line on stderr that names it, exit 2, no traceback, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from brains import SAMPLE, on_grid, sample

from SpikeRegLib import models
from SpikeRegLib.cli import main
from SpikeRegLib.commands.events import JsonLines
from SpikeRegLib.errors import Cancelled
from SpikeRegLib.images.volumes import write_volume
from SpikeRegLib.models import save_model
from SpikeRegLib.pipeline import register
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, SpikingUNet

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("signal_handlers_restored")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A good small pair, and every kind of file that is not to be used."""
    folder = tmp_path_factory.mktemp("input")
    for name in ("fixed", "moving", "fixed_seg", "moving_seg"):
        write_volume(on_grid(sample(name), (4.0, 4.0, 4.0)), folder / f"{name}.nii.gz")
    good = sitk.ReadImage(str(folder / "fixed.nii.gz"))
    array = sitk.GetArrayFromImage(good)

    def write(name: str, values: np.ndarray, like: sitk.Image | None = good) -> None:
        image = sitk.GetImageFromArray(values)
        if like is not None:
            image.CopyInformation(like)
        sitk.WriteImage(image, str(folder / name))

    write("flat.nii.gz", array[20], None)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([array, array]), isVector=False), str(folder / "series.nrrd"))
    write("thin.nii.gz", array[:8], None)
    write("zero.nii.gz", np.zeros_like(array))
    write("constant.nii.gz", np.full_like(array, 7))
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        spoilt = array.copy()
        spoilt[0, 0, :11] = value
        write(f"{name}.nrrd", spoilt)
    content = (folder / "fixed.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    (folder / "text.nii.gz").write_text("no image", encoding="utf-8")
    sitk.WriteImage(good, str(folder / "good.mha"), False)
    header, _, voxels = (folder / "good.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    for name, matrix in (("sheared", "1 0 0 0.4 1 0 0 0 1"), ("singular", "1 0 0 1 0 0 0 0 1")):
        lines = [
            f"TransformMatrix = {matrix}" if x.startswith("TransformMatrix") else x
            for x in header.decode().splitlines()
        ]
        (folder / f"{name}.mha").write_bytes("\n".join(lines).encode() + b"\nElementDataFile = LOCAL\n" + voxels)
    shifted = sitk.ReadImage(str(folder / "fixed_seg.nii.gz"))
    shifted.SetOrigin([v + 4 for v in shifted.GetOrigin()])
    sitk.WriteImage(shifted, str(folder / "shifted_seg.nii.gz"))
    centre = ",".join(f"{v:.2f}" for v in on_grid(sample("fixed")).frame.corners().mean(0))
    moving_centre = ",".join(f"{v:.2f}" for v in on_grid(sample("moving")).frame.corners().mean(0))
    (folder / "f.csv").write_text(f"x,y,z\n{centre}\n", encoding="utf-8")
    (folder / "m.csv").write_text(f"x,y,z\n{moving_centre}\n", encoding="utf-8")
    (folder / "m2.csv").write_text(f"x,y,z\n{moving_centre}\n{moving_centre}\n", encoding="utf-8")
    (folder / "away.csv").write_text(f"x,y,z\n{centre}\n5000,0,0\n", encoding="utf-8")
    (folder / "words.csv").write_text("x,y,z\nleft,right,up\n", encoding="utf-8")
    (folder / "empty.toml").write_text("", encoding="utf-8")
    save_model(
        SpikingUNet(velocity_unet("tiny", encoder=(4, 6, 6, 6), decoder=(6, 6, 4))), folder / "tiny.safetensors", {}
    )
    save_model(
        AnalogUNet(velocity_unet("tiny", encoder=(4, 6, 6, 6), decoder=(6, 6, 4))), folder / "dense.safetensors", {}
    )
    whole = (folder / "tiny.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-100])
    # The tensors of one spec under the name and layers of another.
    other = SpikingUNet(velocity_unet("other", encoder=(4, 6, 6, 8), decoder=(8, 6, 4)))
    from safetensors.torch import load_file, save_file

    metadata = {"format": models.FORMAT, "kind": "spiking", "spec": other.spec.to_json(), "facts": "{}"}
    save_file(load_file(str(folder / "tiny.safetensors")), str(folder / "misfit.safetensors"), metadata=metadata)
    (folder / "pickle.safetensors").write_bytes(pickle.dumps({"weights": [1.0]}))
    torch.save({"w": torch.zeros(1)}, folder / "pickle.pt")
    (folder / "a_file").write_text("mine", encoding="utf-8")
    return folder


PAIR = ["fixed.nii.gz", "moving.nii.gz"]
SEGMENTATIONS = ["--fixed-seg", "fixed_seg.nii.gz", "--moving-seg", "moving_seg.nii.gz"]
CASES = {
    "missing": (["nothing.nii.gz", PAIR[1]], "nothing.nii.gz: no such file"),
    "missing moving": ([PAIR[0], "nothing.nii.gz"], "nothing.nii.gz: no such file"),
    "unreadable": (["text.nii.gz", PAIR[1]], "text.nii.gz: cannot be read"),
    "truncated": (["cut.nii.gz", PAIR[1]], "cut.nii.gz: "),
    "2-D": (["flat.nii.gz", PAIR[1]], "flat.nii.gz: a 2-D image"),
    "4-D": ([PAIR[0], "series.nrrd"], "series.nrrd: a 4-D volume of 2 frames"),
    "too thin": (["thin.nii.gz", PAIR[1]], "axis under 16 voxels"),
    "empty": (["zero.nii.gz", PAIR[1]], "zero.nii.gz: the image is empty or constant, every voxel is 0"),
    "constant": ([PAIR[0], "constant.nii.gz"], "constant.nii.gz: the image is empty or constant, every voxel is 7"),
    "NaN": (["nan.nrrd", PAIR[1]], "nan.nrrd: 11 of "),
    "infinite": ([PAIR[0], "inf.nrrd"], "inf.nrrd: 11 of "),
    "labels as image": ([PAIR[0], str(SAMPLE / "moving_seg.nii.gz")], "moving_seg.nii.gz: this looks like a label map"),
    "image as labels": ([*PAIR, "--fixed-seg", "fixed.nii.gz", "--moving-seg", "moving_seg.nii.gz"], "fixed.nii.gz: "),
    "segmentation elsewhere": (
        [*PAIR, "--fixed-seg", "shifted_seg.nii.gz", "--moving-seg", "moving_seg.nii.gz"],
        "shifted_seg.nii.gz: the segmentation is on another grid",
    ),
    "empty segmentation": ([*PAIR, "--fixed-seg", "zero.nii.gz", "--moving-seg", "moving_seg.nii.gz"], "zero.nii.gz: "),
    "mask elsewhere": ([*PAIR, "--moving-mask", "fixed_seg.nii.gz"], "fixed_seg.nii.gz: the mask is on another grid"),
    "sheared": (["sheared.mha", PAIR[1]], "sheared.mha: the header's axes are singular or sheared"),
    "singular": (["singular.mha", PAIR[1]], "singular.mha: the header's axes are singular or sheared"),
    "points outside": ([*PAIR, "--fixed-points", "away.csv", "--moving-points", "m2.csv"], "away.csv: 1 of 2 points"),
    "unequal points": ([*PAIR, "--fixed-points", "f.csv", "--moving-points", "m2.csv"], "1 fixed but 2 moving points"),
    "points of words": ([*PAIR, "--fixed-points", "words.csv", "--moving-points", "m.csv"], "words.csv: cannot be"),
    "unknown preset": ([*PAIR, "--preset", "liver"], "'liver': unknown"),
    "missing preset": ([*PAIR, "--preset", "nothing.toml"], "nothing.toml: "),
    "empty preset": ([*PAIR, "--preset", "empty.toml"], "empty.toml: "),
    "unknown method": ([*PAIR, "--method", "magic"], "magic"),
    "unknown model": ([*PAIR, "--model", "liver"], "'liver': not shipped"),
    "no dense twin": ([*PAIR, "--preset", "brain-t1-sparse", "--method", "ann"], "ships without a dense twin; take"),
    "missing model": ([*PAIR, "--model", "nothing.safetensors"], "nothing.safetensors: cannot be read"),
    "truncated model": ([*PAIR, "--model", "cut.safetensors"], "cut.safetensors: truncated"),
    "tensors of another spec": ([*PAIR, "--model", "misfit.safetensors"], "tensors do not fit its spec other"),
    "dense model": ([*PAIR, "--model", "dense.safetensors"], "dense.safetensors: holds a network of kind analog"),
    "pickle": ([*PAIR, "--model", "pickle.safetensors"], "pickle.safetensors: a pickle"),
    "torch pickle": ([*PAIR, "--model", "pickle.pt"], "pickle.pt: a pickle"),
    "image as model": ([*PAIR, "--model", "fixed.nii.gz"], "fixed.nii.gz: truncated or not a safetensors file"),
    "missing transform": ([*PAIR, "--initial-transform", "nothing.h5"], "nothing.h5: no such file"),
    "image as transform": ([*PAIR, "--initial-transform", "fixed.nii.gz"], "fixed.nii.gz: not a displacement field"),
    "text as transform": ([*PAIR, "--initial-transform", "f.csv"], "f.csv: cannot be read as a transform"),
    "no such device": ([*PAIR, "--device", "mps" if not torch.backends.mps.is_available() else "cuda"], "--device"),
}  # fmt: skip


def run(folder: Path, arguments: list[str], out: Path) -> int:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return main(["register", *arguments, "--out", str(out), "--threads", "1", "--progress", "json"])
    except SystemExit as end:  # argparse's way out
        return int(end.code or 0)
    finally:
        os.chdir(before)


@pytest.mark.parametrize(("arguments", "message"), CASES.values(), ids=list(CASES))
def test_one_line_exit_2_and_nothing_written(folder, arguments, message, tmp_path, capsys):
    before = sorted(folder.iterdir())
    assert run(folder, arguments, tmp_path / "out") == 2
    out, error = capsys.readouterr()
    assert message in error and error.count("\n") == 1 and "Traceback" not in error, error
    events = [json.loads(line) for line in out.splitlines()]
    if error.startswith("spikereg: error:"):  # argparse's own errors come before --progress is known
        assert events[-1]["event"] == "error" and events[-1]["message"] in error
    assert list(tmp_path.iterdir()) == [] and sorted(folder.iterdir()) == before


def test_nonfinite_voxels_are_counted_in_nifti_too(folder, tmp_path, capsys):
    image = sitk.ReadImage(str(folder / "nan.nrrd"))
    sitk.WriteImage(image, str(tmp_path / "nan.nii.gz"))
    arguments = [str(tmp_path / "nan.nii.gz"), PAIR[1], "--preset", "fast-preview", "--skip-affine"]
    assert run(folder, arguments, tmp_path / "out") == 2
    assert "nan.nii.gz: 11 of " in capsys.readouterr().err


def test_an_output_folder_below_a_file_is_refused(folder, capsys):
    assert run(folder, PAIR, folder / "a_file" / "out") == 2
    assert "a_file/out: output folder cannot be written" in capsys.readouterr().err
    assert (folder / "a_file").read_text() == "mine"


def test_nonfinite_voxels_are_taken_as_background_on_request_and_counted(folder, quick, tmp_path, capsys):
    arguments = ["nan.nrrd", PAIR[0], "--allow-nonfinite", "--preset", str(quick), "--skip-affine"]
    assert run(folder, arguments, tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert any("nan.nrrd: 11 NaN or infinite voxels were taken as background" in line for line in result["warnings"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-1] == {"event": "result", "path": str((tmp_path / "out" / "result.json").resolve())}


# A process of its own ------------------------------------------------------------------------------------------------


def command(folder: Path, out: Path, *options: str) -> list[str]:
    images = [str(folder / name) for name in PAIR]
    return [
        sys.executable, "-m", "SpikeRegLib", "register", *images, "--out", str(out), "--threads", "1",
        "--progress", "json", *options,
    ]  # fmt: skip


def stopped_at(stage: str, number: int, folder: Path, out: Path, *options: str) -> tuple[int, list[dict], str]:
    """Send a signal when the run reports `stage`; exit code, events, stderr."""
    process = subprocess.Popen(
        command(folder, out, *options), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if json.loads(line).get("stage") == stage:
            process.send_signal(number)
            break
    rest, error = process.communicate(timeout=120)
    return process.returncode, [json.loads(line) for line in [*lines, *rest.splitlines()]], error


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("stage", "number"), [("prepare", signal.SIGINT), ("align", signal.SIGTERM), ("refine", signal.SIGINT)]
)
def test_a_signal_stops_a_real_run_without_a_trace(stage, number, folder, quick, tmp_path):
    code, events, error = stopped_at(stage, number, folder, tmp_path / "out", "--preset", str(quick))
    assert (code, error) == (130, "spikereg: cancelled before any result was written\n")
    assert events[-1]["event"] == "error" and events[-1]["code"] == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_run_leaves_no_file_under_its_final_name(folder, quick, tmp_path):
    code, _, _ = stopped_at("finish", signal.SIGKILL, folder, tmp_path / "out", "--preset", str(quick), "--skip-affine")
    assert code == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_files_that_may_not_grow_are_one_line_and_leave_nothing(folder, quick, tmp_path):
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = subprocess.run(
        command(folder, tmp_path / "out", "--preset", str(quick), "--skip-affine"),
        cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "error"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_file_that_ends_the_process_is_named_by_the_last_report(folder, quick, tmp_path):
    """ITK dies of a B-spline in HDF5 whose mesh is another than its parameters'; nothing here can read that before."""
    spline = sitk.BSplineTransformInitializer(sitk.Image([20, 20, 20], sitk.sitkFloat32), [4, 4, 4])
    bad = tmp_path / "spline.h5"
    sitk.WriteTransform(spline, str(bad))
    size, huge = (np.array(v, "<f8").tobytes() for v in (spline.GetFixedParameters()[:3], [1e9] * 3))
    assert bad.read_bytes().count(size) == 1
    bad.write_bytes(bad.read_bytes().replace(size, huge))
    options = ["--preset", str(quick), "--initial-transform", str(bad)]
    done = subprocess.run(command(folder, tmp_path / "out", *options), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    last = json.loads(done.stdout.splitlines()[-1])
    assert str(bad) in last["message"]
    assert last["event"] == ("progress" if done.returncode < 0 else "error")


def test_every_file_is_named_before_it_is_read(folder, quick, tmp_path):
    reports: list = []
    names = {
        "fixed_mask": "fixed_seg.nii.gz", "moving_mask": "moving_seg.nii.gz", "fixed_labels": "fixed_seg.nii.gz",
        "moving_labels": "moving_seg.nii.gz", "fixed_points": "f.csv", "moving_points": "m.csv",
        "region": "fixed_seg.nii.gz",
    }  # fmt: skip
    given = {option: folder / name for option, name in names.items()}
    lines: list[dict] = []
    events = JsonLines(lambda event, **values: lines.append(values))

    def listener(progress):
        events(progress)
        reports.append(progress)
        if progress.stage == "align":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        register(folder / PAIR[0], folder / PAIR[1], preset=quick, listener=listener, threads=1, **given)
    read = [line["message"].removeprefix("reading ") for line in lines if line["message"].startswith("reading ")]
    wanted = ["fixed.nii.gz", "fixed_seg.nii.gz", "fixed_seg.nii.gz", "f.csv"]
    wanted += [name.replace("fixed", "moving").replace("f.csv", "m.csv") for name in wanted] + ["fixed_seg.nii.gz"]
    assert read == [str(folder / name) for name in wanted]
    assert all(0 <= report.fraction <= 1 for report in reports)
