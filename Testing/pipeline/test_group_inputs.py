"""What the commands for several images refuse before any work, each in one line; and pieces known by their content."""

from __future__ import annotations

import json
import subprocess
import sys

import brains
import numpy as np
import pytest

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.groups.members import digests_of, members_of
from SpikeRegLib.groups.working import Working, key_of


@pytest.fixture
def files(tmp_path):
    """Three files that are no images, but different."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.nii.gz").write_bytes(name.encode())
    return [tmp_path / f"{name}.nii.gz" for name in ("a", "b", "c")]


def refused(*how, **named) -> str:
    with pytest.raises(InputError) as caught:
        digests_of(members_of(*how, **{"least": 2, "what": "image", **named}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_are_named_after_their_files_and_by_a_list(files, tmp_path):
    assert list(members_of(files, None, least=2, what="image")) == ["a", "b", "c"]
    (tmp_path / "list.csv").write_text("id,image\nfirst,a.nii.gz\n\n# none\nb.nii.gz\n")
    found = members_of(files[2:], tmp_path / "list.csv", least=2, what="image")
    assert list(found) == ["c", "first", "b"] and found["first"] == files[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,a.nii.gz\nX,b.nii.gz\n", "second image is called X"),
        ("../x,a.nii.gz\nb.nii.gz\n", "must be a name"),
        (".hidden,a.nii.gz\nb.nii.gz\n", "must be a name"),
        ("x,a.nii.gz\ny,gone.nii.gz\n", "no such file"),
        ("x,y,a.nii.gz\n", "line 1: is no image"),
        ("x,a.nii.gz\n", "1 given and 2 needed"),
    ],
)
def test_a_bad_list_is_refused_in_one_line(files, tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    assert said in refused([], tmp_path / "list.csv")


def test_one_image_twice_is_refused_whatever_it_is_called(files, tmp_path):
    (tmp_path / "copy.nii.gz").write_bytes(files[0].read_bytes())
    assert "the same image as" in refused([files[0], tmp_path / "copy.nii.gz"], None)


@pytest.mark.parametrize("command", ["group", "longitudinal"])
def test_commands_refuse_before_any_work(command, files, tmp_path, capsys, signal_handlers_restored):
    out = tmp_path / "out"
    assert main([command, str(files[0]), "--out", str(out)]) == 2
    assert "1 given and 2 needed" in capsys.readouterr().err
    assert main([command, str(files[0]), str(files[0]), "--out", str(out)]) == 2
    assert "is called a" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("command", ["group", "longitudinal", "series"])
def test_commands_explain_themselves_without_torch(command):
    code = (
        "import sys\nfrom SpikeRegLib.cli import build_parser\n"
        f"build_parser(['{command}'])\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pieces_are_made_once_and_damaged_ones_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"values": np.arange(5), "facts": {"number": 3}}

    for _ in range(2):
        piece = Working(tmp_path / "work").recall(key_of("one", 1), make)
        assert piece["values"].tolist() == [0, 1, 2, 3, 4] and piece["facts"] == {"number": 3}
    assert len(made) == 1
    path = next((tmp_path / "work").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-40])
    Working(tmp_path / "work").recall(key_of("one", 1), make)
    assert len(made) == 2 and key_of("one", 1) != key_of("one", 2)


def test_a_working_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.doc").write_text("a person's own")
    with pytest.raises(InputError, match=r"thesis\.doc: was not written by a run like this"):
        Working(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.doc").is_file()


def test_a_preset_without_levels_is_refused(tmp_path, capsys, signal_handlers_restored):
    sample = [str(brains.SAMPLE / f"{name}.nii.gz") for name in ("fixed", "moving")]
    assert main(["group", *sample, "--out", str(tmp_path / "out"), "--preset", "fast-preview"]) == 2
    assert "has no levels of refinement" in capsys.readouterr().err


def test_foreign_files_are_not_replaced(tmp_path, capsys, signal_handlers_restored):
    out = tmp_path / "out"
    (out / "subjects" / "x").mkdir(parents=True)
    (out / "subjects" / "x" / "notes.txt").write_text("a person's own")
    sample = [str(brains.SAMPLE / f"{name}.nii.gz") for name in ("fixed", "moving")]
    assert main(["group", *sample, "--out", str(out)]) == 2
    assert "was not written by a run whose group.json lies there" in capsys.readouterr().err
    (out / "group.json").write_text(json.dumps({"schema": 1, "files": {}}))
    assert main(["group", *sample, "--out", str(out)]) == 2
    assert (out / "subjects" / "x" / "notes.txt").is_file()
