"""Studies that cannot be measured: one line with the file or option, the problem and the remedy, before any work."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from study_examples import study

from SpikeRegLib.cli import main
from SpikeRegLib.studies.manifest import read_manifest


def refused(capsys, *words):
    """The one line on stderr of a call that ends with 2."""
    assert main(["evaluate", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("spikereg: error: ")
    return printed.err.removeprefix("spikereg: error: ")


HEAD = "id,fixed_seg,moving_seg\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no column id"),
        ("name,fixed_seg,moving_seg\na,f,m\n", "has no column id"),
        ("id,fixed,moving\na,f,m\n", "has no columns fixed_seg and moving_seg"),
        ("id,fixed_seg,moving_points\na,f,m\n", "has no columns fixed_seg and moving_seg"),
        ("id,id,fixed_seg,moving_seg\na,a,f,m\n", "the column id comes twice"),
        (HEAD, "lists no pairs"),
        (HEAD + "a,f\n", "line 2 has 2 cells and the heading 3"),
        (HEAD + "a,f,m\n\na,f,m\n", "the id a comes twice"),
        (HEAD + "a,f,m\nA,f,m\n", "the id A comes twice"),
        (HEAD + "../a,f,m\n", "id: must be a name"),
        (HEAD + "/etc/passwd,f,m\n", "id: must be a name"),
        (HEAD + "..,f,m\n", "id: must be a name"),
        (HEAD + ",f,m\n", "id: must be a name"),
        (HEAD + "a,f,\n", "line 2 has no moving_seg"),
        (HEAD + "a,,\n", "line 2 has neither segmentations nor points"),
        ("id,fixed_seg,moving_seg,fixed_points,moving_points\na,f,m,,m\n", "line 2 has no fixed_points"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path, capsys, text, problem):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    line = refused(capsys, tmp_path, "--manifest", path, "--out", tmp_path / "out")
    assert line.startswith(f"{path}: ") and problem in line and ";" in line
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_is_missing_or_no_text(tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    assert "no such file" in refused(capsys, tmp_path, "--manifest", path, "--out", tmp_path / "out")
    path.write_bytes(b"id,fixed_seg\xff\xfe\n")
    assert "cannot be read as CSV" in refused(capsys, tmp_path, "--manifest", path, "--out", tmp_path / "out")


def pair(fixed="./imagesTr/T_0001_0000.nii.gz", moving="./imagesTr/T_0002_0000.nii.gz"):
    return {"fixed": fixed, "moving": moving}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is no JSON"),
        ("[]", "lists no pairs"),
        ("{}", "lists no pairs"),
        ('{"registration_val": []}', "lists no pairs"),
        ('{"registration_val": {"fixed": 1}}', "lists no pairs"),
        ('{"registration_val": [7]}', "a pair has no fixed image"),
        ('{"registration_val": [{"fixed": "./imagesTr/T_0001_0000.nii.gz"}]}', "a pair has no moving image"),
        (json.dumps({"eval_pairs": [pair("../imagesTr/T_0001_0000.nii.gz")]}), "is no image below its folder"),
        (json.dumps({"eval_pairs": [pair("/imagesTr/T_0001_0000.nii.gz")]}), "is no image below its folder"),
        (json.dumps({"eval_pairs": [pair("./imagesTr/T_1_0000.nii.gz")]}), "is no image below its folder"),
        (json.dumps({"eval_pairs": [pair(), pair()]}), "comes twice"),
        (json.dumps({"eval_pairs": [pair()], "evaluation_methods": [{"labels": ["x"]}]}), "labels that are no numbers"),
        (json.dumps({"eval_pairs": [pair()], "evaluation_methods": 7}), "labels that are no numbers"),
    ],
)
def test_lists_of_pairs_that_cannot_be_used(tmp_path, capsys, text, problem):
    path = tmp_path / "pairs.json"
    path.write_text(text)
    line = refused(capsys, tmp_path, "--pairs", path, "--out", tmp_path / "out")
    assert line.startswith(f"{path}: ") and problem in line and ";" in line


def test_results_without_a_transform(tmp_path, capsys):
    example = study(tmp_path / "study", pairs=1)
    words = ("--manifest", example.manifest, "--out", tmp_path / "out")
    line = refused(capsys, tmp_path, *words)
    assert f"{tmp_path}: holds no transform of the 1 pairs" in line and "s0_s1/transform.h5" in line
    assert "no such folder" in refused(capsys, tmp_path / "none", *words)


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    example = study(tmp_path / "study", pairs=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "per_pair.csv").write_text("mine")
    line = refused(capsys, example.results, "--manifest", example.manifest, "--out", tmp_path / "out")
    assert "per_pair.csv: was not written by a run" in line
    assert (tmp_path / "out" / "per_pair.csv").read_text() == "mine"
    line = refused(capsys, example.results, "--manifest", example.manifest, "--out", example.manifest)
    assert "is a file" in line


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "--fixed-seg, --moving-seg, --transform: required"),
        (["--fixed-seg", "f"], "--moving-seg, --transform: required"),
        (["R"], "--out: required"),
        (["--manifest", "m", "--out", "o"], "RESULTS: required"),
        (["R", "--out", "o"], "a study needs one of them"),
        (["R", "--out", "o", "--manifest", "m", "--pairs", "p"], "a study needs one of them"),
        (["R", "--out", "o", "--manifest", "m", "--data", "d"], "--data: goes with --pairs"),
        (["R", "--out", "o", "--dataset", "brains", "."], "--dataset: brains is unknown; choose among oasis-learn2reg"),
        (["R", "--transform", "t"], "--transform: of one transform"),
        (["R", "--out", "o", "--manifest", "m", "--metric", "dice"], "--metric: does not go with"),
        (["R", "--compare", "a", "b"], "RESULTS: does not go with --compare"),
        (["R", "--write-manifest", "m.csv"], "RESULTS: does not go with --write-manifest"),
        (["--write-manifest", "m.csv"], "a study needs one of them"),
    ],
)
def test_options_that_do_not_go_together(capsys, words, problem):
    assert problem in refused(capsys, *words)


def test_the_options_are_declared_without_torch_and_scipy():
    code = (
        "import sys, argparse; from SpikeRegLib.commands import evaluate; "
        "evaluate.add_arguments(argparse.ArgumentParser()); "
        "print([name for name in ('torch', 'scipy', 'numpy', 'SimpleITK') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_files_stand_for_subjects_and_pairs_without_a_shared_file_are_subjects_of_their_own(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("id,fixed_seg,moving_seg\na,x,y\nb,y,z\nc,p,q\n")
    x, y, z = (str(tmp_path / name) for name in "xyz")
    assert [pair.subjects for pair in read_manifest(path).pairs] == [(x, y), (y, z), ("c", "c")]
    path.write_text("id,fixed_seg,moving_seg,fixed_subject,moving_subject\na,x,y,s,t\nb,p,q,t,u\n")
    assert [pair.subjects for pair in read_manifest(path).pairs] == [("s", "t"), ("t", "u")]
