"""`spikereg phantom`: makes, registers and measures; all files at once or none."""

from __future__ import annotations

import csv
import json

import pytest
import SimpleITK as sitk

from SpikeRegLib.cli import main
from SpikeRegLib.commands.demo import SAMPLE


@pytest.fixture(scope="module")
def small_head(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    image = sitk.ReadImage(str(SAMPLE / "fixed.nii.gz"), sitk.sitkFloat32)
    sitk.WriteImage(sitk.Shrink(image, [3, 3, 3]), str(path))
    return path


def test_phantoms_are_registered_and_measured(small_head, quick, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["phantom", "--image", str(small_head), "--kinds", "rigid", "local", "--preset", str(quick)]
    code = main([*arguments, "--out", str(out), "--threads", "1", "--progress", "json"])
    result = json.loads((out / "phantom.json").read_text())
    rows = result["phantoms"]
    assert list(rows) == ["head-rigid", "head-local"] and code == int(not all(row["passed"] for row in rows.values()))
    assert rows["head-rigid"]["error_mean_mm"] < 0.5 * rows["head-rigid"]["moved_mean_mm"]
    with (out / "phantom.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["error_p95_mm"]) for row in table] == [row["error_p95_mm"] for row in rows.values()]
    assert "phantoms/head-rigid/report.html" in (out / "phantom.html").read_text(encoding="utf-8")
    for name in rows:
        for file_name in ("fixed.nii.gz", "moving.nii.gz", "moving_to_fixed.h5", "transform.h5", "report.html"):
            assert f"phantoms/{name}/{file_name}" in result["files"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["path"].endswith("phantom.json")
    # Again, elsewhere in the folder nothing of a person's: replaced. With a file of a person's: refused, and kept.
    assert main([*arguments[:3], "--make-only", "--kinds", "smooth", "--out", str(out)]) == 0
    assert not (out / "phantom.html").exists() and sorted(p.name for p in (out / "phantoms").iterdir()) == [
        "head-smooth"
    ]
    assert sorted(p.name for p in (out / "phantoms" / "head-smooth").iterdir()) == [
        "fixed.nii.gz", "moving.nii.gz", "moving_to_fixed.h5",
    ]  # fmt: skip
    (out / "phantoms" / "mine.txt").write_text("kept")
    assert main([*arguments[:3], "--make-only", "--out", str(out)]) == 2
    assert "mine.txt" in capsys.readouterr().err and (out / "phantoms" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize("value", [0.0, 70.0])
def test_an_image_without_a_head_is_refused_by_name(tmp_path, capsys, value):
    sitk.WriteImage(sitk.Image([20, 20, 20], sitk.sitkFloat32) + value, str(tmp_path / "flat.nii.gz"))
    assert main(["phantom", "--image", str(tmp_path / "flat.nii.gz"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "flat.nii.gz: " in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_leaves_nothing(tmp_path, capsys):
    (tmp_path / "no.nii.gz").write_bytes(b"not an image")
    assert main(["phantom", "--image", str(tmp_path / "no.nii.gz"), "--out", str(tmp_path / "out")]) == 2
    assert "no.nii.gz" in capsys.readouterr().err and not (tmp_path / "out").exists()
