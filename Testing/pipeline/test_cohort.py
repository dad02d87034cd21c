"""A cohort does every row once, knows what is done by its content, and no row stops another."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from pathlib import Path

import cohorts
import pytest

from SpikeRegLib.cli import main
from SpikeRegLib.cohort import dask_cluster
from SpikeRegLib.cohort import rows as cohort_rows
from SpikeRegLib.cohort.alone import shard_of
from SpikeRegLib.cohort.folders import begun, times_begun
from SpikeRegLib.cohort.manifest import Row, read_manifest
from SpikeRegLib.cohort.rows import Outcome
from SpikeRegLib.cohort.summary import write_summary
from SpikeRegLib.errors import InputError


def run(folder: Path, *words: str) -> int:
    return main(cohorts.command(folder, *words)[3:])


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out" / "summary.csv").open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture
def cohort(tmp_path):
    cohorts.make_cohort(tmp_path, 4)
    return tmp_path


def test_rows_are_done_once_and_known_by_their_content(cohort, capsys):
    assert run(cohort, "--shard", "1/1") == 0
    first = cohorts.finished(cohort)
    assert first.keys() == {"r0", "r1", "r2", "r3"}
    os.utime(cohort / "i0.nii.gz")  # the same content at another time
    assert run(cohort, "--shard", "1/1") == 0
    assert cohorts.finished(cohort) == first
    assert "4 of them were done before" in capsys.readouterr().out
    cohorts.write_image(cohort / "i1.nii.gz", 7)  # of r0 and r3
    assert run(cohort, "--shard", "1/1") == 0
    second = cohorts.finished(cohort)
    assert {name for name in first if second[name] != first[name]} == {"r0", "r3"}
    assert run(cohort, "--shard", "1/1", "--regularisation", "1.5") == 0
    third = cohorts.finished(cohort)
    assert all(third[name] != second[name] for name in second)
    assert run(cohort, "--shard", "1/1", "--regularisation", "1.5", "--threads", "2") == 0
    assert cohorts.finished(cohort) == third, "the number of threads is no part of the content"
    preset = cohort / "quick.toml"
    preset.write_text(preset.read_text().replace("iterations = 2", "iterations = 3"))
    assert run(cohort, "--shard", "1/1", "--regularisation", "1.5") == 0
    assert all(stamp != third[name] for name, stamp in cohorts.finished(cohort).items()), "the preset's content counts"
    (cohort / "out" / "r2" / "transform.h5").unlink()
    fourth = cohorts.finished(cohort)
    with (cohort / "out" / "r2" / "result.json").open() as file:
        assert json.load(file)["cohort"]["id"] == "r2"
    assert run(cohort, "--shard", "1/1", "--regularisation", "1.5") == 0
    assert {name for name, stamp in cohorts.finished(cohort).items() if fourth[name] != stamp} == {"r2"}


def test_the_second_row_takes_networks_and_images_from_the_first(cohort):
    assert run(cohort, "--shard", "1/1") == 0
    results = [json.loads((cohort / "out" / f"r{n}" / "result.json").read_text()) for n in range(4)]
    assert results[0]["reused"] == [] or "moving image" not in results[0]["reused"]
    assert "fixed image" in results[1]["reused"]
    assert {"fixed image", "moving image", "moving input"} <= set(results[3]["reused"]), "i1 was read for r0"


def test_an_image_of_the_other_side_is_not_read_again_and_changes_nothing(tmp_path):
    folder = tmp_path
    cohorts.make_cohort(folder, 1)
    (folder / "table.csv").write_text("id,fixed,moving\na,i0.nii.gz,i1.nii.gz\nb,i1.nii.gz,i0.nii.gz\n")
    assert run(folder, "--shard", "1/1") == 0
    shared = json.loads((folder / "out" / "b" / "result.json").read_text())
    assert {"fixed image", "moving image", "fixed input", "moving input"} <= set(shared["reused"])
    cohort_rows._MEMORY.clear()
    (folder / "table.csv").write_text("id,fixed,moving\nb,i1.nii.gz,i0.nii.gz\n")
    assert run(folder, "--shard", "1/1", "--redo") == 0
    alone = json.loads((folder / "out" / "b" / "result.json").read_text())
    assert alone["reused"] == []
    for figures in ("similarity", "deformation"):
        assert alone[figures] == shared[figures]


def test_a_bad_row_stops_no_other_and_says_why(cohort, capsys):
    (cohort / "i2.nii.gz").unlink()  # of r1
    (cohort / "i3.nii.gz").write_bytes(b"no image")  # of r2
    assert run(cohort, "--shard", "1/1") == 1
    assert cohorts.finished(cohort).keys() == {"r0", "r3"}
    out = capsys.readouterr().out
    assert f"r1: {cohort / 'i2.nii.gz'}: " in out and "2 failed" in out
    assert run(cohort, "--summary") == 1
    rows = table(cohort)
    assert [rows[f"r{n}"]["state"] for n in range(4)] == ["kept", "failed", "failed", "kept"]
    assert rows["r1"]["code"] == "2" and "i2.nii.gz" in rows["r1"]["message"]
    for number in (2, 3):
        cohorts.write_image(cohort / f"i{number}.nii.gz", number)
    assert run(cohort, "--shard", "1/1") == 0
    assert not list((cohort / "out").glob("*/failed.json"))


def test_shares_are_done_by_several_processes_and_summarised(cohort):
    rows = [Row(f"r{n}", {}) for n in range(11)]
    shares = [shard_of(rows, part, 3) for part in (1, 2, 3)]
    assert sorted(row.id for share in shares for row in share) == sorted(row.id for row in rows)
    assert {len(share) for share in shares} == {3, 4}
    assert run(cohort, "--shard", "1/2") == 0
    assert cohorts.finished(cohort).keys() == {"r0", "r2"}
    assert run(cohort, "--summary") == 1
    assert table(cohort)["r1"]["state"] == "missing"
    assert run(cohort, "--shard", "2/2") == 0
    assert run(cohort, "--summary") == 0
    summary = json.loads((cohort / "out" / "summary.json").read_text())
    assert summary["counts"]["missing"] == 0 and len(summary["rows"]) == 4
    assert summary["figures"]["similarity_after"]["count"] == 4


def test_a_full_disk_ends_the_run_and_loses_nothing(cohort, capsys, monkeypatch):
    assert run(cohort, "--shard", "1/2") == 0
    before = cohorts.finished(cohort)
    real = cohort_rows.write_outputs

    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cohort_rows, "write_outputs", full)
    assert run(cohort, "--shard", "1/1") == 1
    error = capsys.readouterr().err
    assert "the disk is full" in error and "run again" in error
    assert cohorts.finished(cohort) == before
    monkeypatch.setattr(cohort_rows, "write_outputs", real)
    assert run(cohort, "--shard", "1/1") == 0
    assert before.items() <= cohorts.finished(cohort).items()


def test_a_failure_that_is_not_the_inputs_is_tried_again(cohort, monkeypatch):
    real, calls = cohort_rows.register, []

    def fails_once(**options):
        calls.append(options["moving"])
        if len(calls) == 1:
            raise RuntimeError("a hiccup")
        return real(**options)

    monkeypatch.setattr(cohort_rows, "register", lambda **options: fails_once(**options))
    assert run(cohort, "--shard", "1/4") == 0
    assert len(calls) == 2
    calls.clear()
    assert run(cohort, "--shard", "1/4", "--redo", "--retries", "0") == 1
    assert len(calls) == 1
    failed = json.loads((cohort / "out" / "r0" / "failed.json").read_text())
    assert failed["code"] == 1 and "a hiccup" in failed["message"]


def test_a_row_in_whose_midst_a_process_ended_comes_last(cohort, capsys):
    for _ in range(2):
        with begun(cohort / "out", "other"):
            pass
    assert times_begun(cohort / "out", "other") == 0
    marks = cohort / "out" / ".spikereg-begun"
    marks.mkdir(parents=True)
    (marks / "r0").write_text("host 1\n")
    assert run(cohort, "--shard", "1/1", "--progress", "json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["id"] for event in events if event["event"] == "row"] == ["r1", "r2", "r3", "r0"]
    assert not marks.exists()


def test_what_a_row_left_that_is_no_result_is_never_replaced(cohort):
    mine = cohort / "out" / "r1" / "transform.h5"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert run(cohort, "--shard", "1/1") == 1
    assert mine.read_text() == "mine"
    assert cohorts.finished(cohort).keys() == {"r0", "r2", "r3"}


def test_the_page_names_every_row_worst_first_and_escapes(tmp_path):
    cohorts.make_cohort(tmp_path, 1)
    (tmp_path / "table.csv").write_text(
        "id,fixed,moving\na & b,i0.nii.gz,i1.nii.gz\nc,i0.nii.gz,no <img src=x>.nii.gz\n", encoding="utf-8"
    )
    assert main([*cohorts.command(tmp_path, "--shard", "1/1")[3:], "--outputs", "report.html,transform.h5"]) == 1
    assert run(tmp_path, "--summary", "--outputs", "report.html,transform.h5") == 1
    page = (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    assert page.index(">c<") < page.index("a &amp; b</a>")
    assert 'href="a%20%26%20b/report.html"' in page
    assert "<img" not in page


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is empty"),
        ("id,fixed\na,b\n", "no column moving"),
        ("id,fixed,moving\n", "no rows"),
        ("id,fixed,moving,colour\na,b,c,d\n", "unknown column 'colour'"),
        ("id,fixed,moving,id\na,b,c,d\n", "two columns 'id'"),
        ("id,fixed,moving\n../a,b,c\n", "line 2: id: must be a name"),
        ("id,fixed,moving\n/a,b,c\n", "line 2: id: must be a name"),
        ("id,fixed,moving\n=1+2,b,c\n", "a formula in a spreadsheet"),
        ("id,fixed,moving\nNUL,b,c\n", "line 2: id NUL cannot name a folder"),
        ("id,fixed,moving\nsummary.csv,b,c\n", "line 2: id summary.csv cannot name a folder"),
        ("id,fixed,moving\na,b,c\n\nA,b,c\n", "line 4: id A is that of line 2"),
        ("id,fixed,moving\na,b\n", "2 cells under 3 columns"),
        ("id,fixed,moving\na,,c\n", "no fixed image"),
        ("id,fixed,moving,seed\na,b,c,soon\n", "seed is 'soon'; give a number"),
        ("id,fixed,moving,seed\na,b,c,-3\n", "--seed"),
        ("id,fixed,moving,align\na,b,c,maybe\n", "align is 'maybe'; give true or false"),
        ("id,fixed,moving,method\na,b,c,magic\n", "method is 'magic'"),
        ("id,fixed,moving,fixed_seg\na,b,c,d\n", "fixed_seg and moving_seg go together"),
        ('id,fixed,moving\na,"b,c\n', "not a line of CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, said, capsys):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_manifest(path)
    assert str(error.value).startswith(str(path)) and said in str(error.value)
    assert main(["cohort", str(path), "--out", str(tmp_path / "out"), "--shard", "1/1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_cells_become_options(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(
        "\ufeffid\tfixed\tmoving\tfixed_seg\tmoving_seg\tseed\talign\tinitial_transform\tpreset\tregularisation\n"
        "a\tx/f.nii\t/abs/m.nii\tfs.nii\tms.nii\t3\tYes\tt.h5\tbrain-t1\t\n"
        "b\tf\tm\t\t\t\t\t\tmine.toml\t2\n",
        encoding="utf-8",
    )
    first, second = read_manifest(path, {"threads": 1, "regularisation": 1.25})
    assert first.options == {
        "threads": 1, "fixed": str(tmp_path / "x/f.nii"), "moving": "/abs/m.nii",
        "fixed_labels": str(tmp_path / "fs.nii"), "moving_labels": str(tmp_path / "ms.nii"), "seed": 3, "align": True,
        "initial_transform": str(tmp_path / "t.h5"), "preset": "brain-t1", "regularisation": 1.25,
    }  # fmt: skip
    assert second.options["preset"] == str(tmp_path / "mine.toml") and second.options["regularisation"] == 2.0


def test_a_spreadsheet_takes_no_message_for_a_formula(tmp_path):
    write_summary([Outcome("a", "failed", {}, 1, "=1+2"), Outcome("b", "failed", {}, 1, "a = b")], tmp_path)
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert lines[1].endswith(",1,'=1+2") and lines[2].endswith(",1,a = b")


def test_a_scheduler_that_does_not_answer_is_refused_in_one_line(cohort, capfd, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_ANSWER_S", 1)
    assert run(cohort, "--scheduler", "tcp://127.0.0.1:9") == 2
    error = capfd.readouterr().err
    assert "--scheduler tcp://127.0.0.1:9: nobody answers there" in error and len(error.splitlines()) == 1
    assert run(cohort, "--scheduler", str(cohort / "none.json")) == 2
    assert "none.json: no such file" in capfd.readouterr().err


def test_without_dask_workers_are_refused_and_shares_go_on(cohort, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(cohort, "--workers", "2") == 2
    assert "pip install 'spikereg[cohort]'" in capsys.readouterr().err
    assert run(cohort, "--shard", "1/4") == 0
