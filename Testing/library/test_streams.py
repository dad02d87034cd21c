"""Standard streams that are closed, full or unread, and names that are no text: one line, and the result counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from SpikeRegLib import cli
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import read_image, read_labels, write_volume
from SpikeRegLib.space.transforms import read_transform

ROOT = Path(__file__).parents[2]
# `spikereg` with a pipeline of two reports, as the command starts it.
SCRIPT = """
import sys, types
sys.path[:0] = [{here!r}, {root!r}]
from examples import a_registration
from SpikeRegLib.progress import Progress
stand_in = types.ModuleType("SpikeRegLib.pipeline")
def register(fixed, moving, *, listener, **options):
    for stage in ("prepare", "finish"):
        listener(Progress(stage, 0.0))
        listener(Progress(stage, 1.0, "done"))
    return a_registration()
stand_in.register = register
sys.modules["SpikeRegLib.pipeline"] = stand_in
from SpikeRegLib.cli import entry
sys.argv[1:] = ["register", "a.nii.gz", "b.nii.gz", "--out", {out!r}, "--progress", {progress!r}]
entry()
""".format
posix = pytest.mark.skipif(os.name != "posix", reason="streams are closed in the way of POSIX")


def ended(out: Path, progress: str, redirection: str) -> subprocess.CompletedProcess[str]:
    """The end of a registration whose streams a shell redirects; without a redirection nobody reads its stdout."""
    script = SCRIPT(here=str(Path(__file__).parent), root=str(ROOT), out=str(out), progress=progress)
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, script]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)


@posix
@pytest.mark.parametrize(
    ("progress", "redirection", "lines"),
    [
        ("json", "", 1),
        ("json", ">/dev/full", 1),
        ("bar", ">/dev/full 2>/dev/full", 0),
        ("bar", "<&- >&- 2>&-", 0),
    ],
)
def test_the_result_counts_whatever_becomes_of_the_streams(progress, redirection, lines, tmp_path):
    done = ended(tmp_path / "out", progress, redirection)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["schema"] >= 1
    assert done.stderr.count("\n") == lines
    if lines:
        assert done.stderr.startswith("spikereg: stdout cannot be written (") and "the run goes on" in done.stderr


@posix
def test_a_file_that_is_opened_never_takes_the_place_of_a_closed_stream(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from SpikeRegLib.commands.streams import hold\n"
        "hold()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "assert file.fileno() > 2 and sys.stdin and sys.stdout and sys.stderr\n"
        "print('nowhere'); print('nowhere', file=sys.stderr, flush=True)\n"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@posix
def test_a_command_whose_answer_cannot_be_printed_fails_in_one_line():
    command = f'exec "{sys.executable}" -m SpikeRegLib models > /dev/full'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "stdout cannot be written (no space left on device)" in done.stderr


@posix
@pytest.mark.parametrize("place", [0, 3])
def test_a_path_that_is_not_utf_8_is_one_line_and_exit_2(place, tmp_path):
    words: list[bytes] = [b"a.nii.gz", b"b.nii.gz", b"--out", os.fsencode(tmp_path / "out"), b"--progress=json"]
    words[place] = os.fsencode(tmp_path) + b"/\xff.nii.gz"
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"SpikeRegLib", b"register", *words],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    error = done.stderr.decode("ascii")
    assert done.returncode == 2 and error.count("\n") == 1
    assert rf"{tmp_path}/\xff.nii.gz: the name is not UTF-8; rename the file or folder" in error
    assert json.loads(done.stdout)["code"] == 2 and not (tmp_path / "out").exists()


@posix
@pytest.mark.parametrize("read", [read_image, read_labels, read_transform])
@pytest.mark.parametrize("suffix", [b".nii.gz", b".nrrd", b".h5", b".tfm"])
def test_no_reader_is_given_a_name_that_aborts_it(read, suffix, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix)
    Path(path).write_bytes(b"anything")
    with pytest.raises(InputError):
        read(path)


@posix
@pytest.mark.parametrize("suffix", [b".nii.gz", b".nrrd"])
def test_no_writer_is_given_a_name_that_aborts_it(suffix, tmp_path):
    volume = read_image(ROOT / "SpikeRegLib" / "sample" / "fixed.nii.gz")
    with pytest.raises(InputError, match="is not UTF-8"):
        write_volume(volume, os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix))
    assert list(tmp_path.iterdir()) == []


def test_a_line_in_letters_that_the_console_lacks_is_printed_with_escapes(capfdbinary, monkeypatch):
    with open(os.dup(1), "w", encoding="ascii") as console:
        monkeypatch.setattr(sys, "stdout", console)
        cli.streams.say("report: Gehirn-\N{GREEK SMALL LETTER ALPHA}")
    assert capfdbinary.readouterr().out == b"report: Gehirn-\\u03b1\n"
