"""The BIDS App: what is found, what comes out under which name, and what other tools say of it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import brains
import cohorts
import nitransforms.manip
import numpy as np
import pytest
import SimpleITK as sitk

from SpikeRegLib.bids.layout import find_images
from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError


def data_set(root: Path, *images: str) -> Path:
    """A data set with an image for each of "01/1" (subject, session) or "01" (subject)."""
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "Test", "BIDSVersion": "1.10.0"}')
    (root / "README").write_text("A test.\n")
    for number, named in enumerate(images):
        subject, _, session = named.partition("/")
        stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        place = root / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
        place.mkdir(parents=True)
        cohorts.write_image(place / f"{stem}_T1w.nii.gz", number)
    return root


def run(root: Path, out: Path, level: str, *words: str) -> int:
    preset = root.parent / "quick.toml"
    preset.write_text(cohorts.PRESET, encoding="utf-8")
    how = ["--preset", str(preset), "--shard", "1/1", "--skip-segmentation"]
    return main(["bids", str(root), str(out), level, *how, *words])


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("work/")}


def validator_errors(folder: Path) -> list[str]:
    tool = Path(sys.executable).with_name("bids-validator-deno")
    command = [str(tool) if tool.exists() else "bids-validator-deno", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [f"{issue['code']} {issue.get('location')}" for issue in issues if issue["severity"] == "error"]


def test_sessions_are_registered_to_the_first_and_named_as_bids_has_it(tmp_path):
    root, out = data_set(tmp_path / "in", "01/1", "01/2", "02/1"), tmp_path / "out"
    assert run(root, out, "participant", "--between-sessions") == 0
    place = "sub-01/ses-2/anat/sub-01_ses-2"
    assert files(out) == {
        "dataset_description.json", "README", ".bidsignore", "sub-01_ses-2_to-ses1T1w.html",
        f"{place}_from-T1w_to-ses1T1w_mode-image_xfm.h5", f"{place}_from-T1w_to-ses1T1w_mode-image_xfm.json",
        f"{place}_from-ses1T1w_to-T1w_mode-image_xfm.h5", f"{place}_from-ses1T1w_to-T1w_mode-image_xfm.json",
        f"{place}_space-ses1T1w_T1w.nii.gz", f"{place}_space-ses1T1w_T1w.json",
    }  # fmt: skip
    assert validator_errors(out) == []
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "SpikeReg" and description["DatasetType"] == "derivative"


@pytest.mark.filterwarnings("ignore:Reference space not set")
def test_the_transform_resamples_the_image_onto_the_space_in_other_tools_too(tmp_path):
    root, out = data_set(tmp_path / "in", "01/1", "01/2"), tmp_path / "out"
    assert run(root, out, "participant", "--between-sessions") == 0
    place = out / "sub-01" / "ses-2" / "anat"
    to = place / "sub-01_ses-2_from-T1w_to-ses1T1w_mode-image_xfm.h5"
    image = sitk.ReadImage(str(root / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz"))
    first = sitk.ReadImage(str(root / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz"))
    warped = sitk.GetArrayFromImage(sitk.Resample(image, first, sitk.ReadTransform(str(to)), sitk.sitkLinear))
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(place / "sub-01_ses-2_space-ses1T1w_T1w.nii.gz")))
    inside = (slice(3, -3),) * 3
    assert np.abs(warped - written)[inside].max() < 0.02 * written.max()
    # At the nodes of the field: between them nitransforms reads it with splines, ITK linearly.
    here = sitk.CompositeTransform(sitk.ReadTransform(str(to)))
    parts = [here.GetNthTransform(n).Downcast() for n in range(here.GetNumberOfTransforms())]
    field = next(part for part in parts if part.GetName() == "DisplacementFieldTransform").GetDisplacementField()
    nodes = [[size // 2 + n for size in field.GetSize()] for n in (-2, -1, 0, 1)]
    points = np.array([field.TransformIndexToPhysicalPoint(node) for node in nodes])
    expected = np.array([here.TransformPoint(point.tolist()) for point in points])
    assert np.abs(expected - points).max() > 0.5
    turned = np.array([-1.0, -1.0, 1.0])  # nitransforms has RAS
    assert np.abs(nitransforms.manip.load(to, fmt="itk").map(points * turned) * turned - expected).max() < 1e-3
    back = place / "sub-01_ses-2_from-ses1T1w_to-T1w_mode-image_xfm.h5"
    assert np.abs(nitransforms.manip.load(back, fmt="itk").map(expected * turned) * turned - points).max() < 0.5


def test_a_template_has_a_name_and_group_sums_up(tmp_path, capsys):
    root, out = data_set(tmp_path / "in", "01", "02"), tmp_path / "out"
    cohorts.write_image(tmp_path / "template.nii.gz", 5)
    to = ("--template", str(tmp_path / "template.nii.gz"), "--template-name", "Ball1")
    assert run(root, out, "group", *to) == 2
    assert "run `participant`" in capsys.readouterr().err
    assert run(root, out, "participant", *to, "--participant-label", "sub-02") == 0
    assert (out / "sub-02" / "anat" / "sub-02_from-T1w_to-Ball1_mode-image_xfm.h5").is_file()
    assert not (out / "sub-01").exists()
    assert run(root, out, "participant", *to) == 0
    assert "1 of them were done before" in capsys.readouterr().out
    assert run(root, out, "group", *to) == 0
    with (out / "group_registrations.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["id"] for row in rows] == ["sub-01_to-Ball1", "sub-02_to-Ball1"]
    assert 'href="sub-01_to-Ball1.html"' in (out / "group_registrations.html").read_text()
    assert validator_errors(out) == []


def test_one_image_of_a_session_is_taken(tmp_path):
    root = data_set(tmp_path / "in", "01", "02/pre")
    anat = root / "sub-01" / "anat"
    shutil.copy(anat / "sub-01_T1w.nii.gz", anat / "sub-01_acq-other_run-2_T1w.nii.gz")
    shutil.copy(anat / "sub-01_T1w.nii.gz", anat / "sub-09_T1w.nii.gz")  # of somebody else
    found = find_images(root)
    assert [image.path.name for image in found] == ["sub-01_T1w.nii.gz", "sub-02_ses-pre_T1w.nii.gz"]
    assert [image.folder for image in found] == ["sub-01/anat", "sub-02/ses-pre/anat"]


def test_a_failed_subject_stops_no_other(tmp_path, capsys):
    root, out = data_set(tmp_path / "in", "01/1", "01/2", "01/3"), tmp_path / "out"
    (root / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz").write_bytes(b"")
    assert run(root, out, "participant", "--between-sessions") == 1
    assert "sub-01_ses-2_to-ses1T1w: " in capsys.readouterr().out
    assert (out / "sub-01_ses-3_to-ses1T1w.html").is_file()


@pytest.mark.parametrize(
    "words, said",
    [
        (("--between-sessions",), "no subject has two sessions"),
        (("--template", "none.nii.gz"), "--template none.nii.gz: no such file"),
        (("--between-sessions", "--participant-label", "7"), "no T1-weighted image of sub-7"),
        (("--between-sessions", "--participant-label", "../x"), "a label is of letters and digits"),
        (("--between-sessions", "--template-name", "MNI"), "--template-name: names the space of a template"),
        (("--between-sessions", "--template-name", "a b"), "a label is of letters and digits"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(tmp_path, words, said, capsys):
    root = data_set(tmp_path / "in", "01/1", "02/1")
    assert run(root, tmp_path / "out", "participant", *words) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_trees_that_are_no_data_sets_are_refused(tmp_path):
    with pytest.raises(InputError, match="give the root of a BIDS data set"):
        find_images(tmp_path)
    (tmp_path / "dataset_description.json").write_text("[]")
    with pytest.raises(InputError, match="has no BIDSVersion"):
        find_images(tmp_path)
    (tmp_path / "dataset_description.json").write_text('{"BIDSVersion": "1.10.0"}')
    with pytest.raises(InputError, match="no T1-weighted image"):
        find_images(tmp_path)


def test_somebody_elses_derivatives_are_left_alone(tmp_path, capsys):
    root, out = data_set(tmp_path / "in", "01/1", "01/2"), tmp_path / "out"
    out.mkdir()
    theirs = out / "dataset_description.json"
    theirs.write_text('{"Name": "theirs", "GeneratedBy": [{"Name": "fMRIPrep"}]}')
    assert run(root, out, "participant", "--between-sessions") == 2
    assert "SpikeReg did not make" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [theirs.name] and "theirs" in theirs.read_text()


@pytest.mark.slow
def test_structures_are_named_too(tmp_path):
    root, out = data_set(tmp_path / "in", "01"), tmp_path / "out"
    shutil.copy(brains.SAMPLE / "fixed.nii.gz", root / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    how = ["--template", str(brains.SAMPLE / "moving.nii.gz"), "--preset", "fast-preview", "--shard", "1/1"]
    assert main(["bids", str(root), str(out), "participant", *how]) == 0
    anat = out / "sub-01" / "anat"
    labels = sitk.ReadImage(str(anat / "sub-01_dseg.nii.gz"))
    assert labels.GetSize() == sitk.ReadImage(str(brains.SAMPLE / "fixed.nii.gz")).GetSize()
    with (anat / "sub-01_dseg.tsv").open() as file:
        names = {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}
    assert names[17] == "left hippocampus"
    assert set(np.unique(sitk.GetArrayFromImage(labels))) - {0} <= names.keys()
    assert json.loads((anat / "sub-01_desc-brain_mask.json").read_text())["Type"] == "Brain"
    assert validator_errors(out) == []
