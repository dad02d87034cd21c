"""An output folder holds the earlier result or the new one, whole, and what a person put there stays: at every step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from examples import a_registration

from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs import accounts, publishing
from SpikeRegLib.outputs import folder as outputs
from SpikeRegLib.outputs.folder import check_results_folder, check_writable, write_outputs
from SpikeRegLib.outputs.publishing import settle

ROOT = Path(__file__).parents[2]
NOTES = "a person's own"


def content(folder: Path) -> dict[str, bytes]:
    """Every file in `folder` that is not hidden."""
    files = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in named.items() if not name.startswith(".")}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def account(folder: Path) -> set[str]:
    """Results in `folder` as result.json lists them; fails if one is missing, changed, or not of this result."""
    there = {path for path in content(folder) if path.partition("/")[0] in accounts.OUTPUT_NAMES}
    if "result.json" not in there:
        return set()
    files = json.loads((folder / "result.json").read_text(encoding="utf-8"))["files"]
    assert there == files.keys() | {"result.json"}
    for name, digest in files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    return there


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[Path, Path]:
    """Two results of different files and content."""
    folder = tmp_path_factory.mktemp("results")
    first, second = a_registration(seed=1), a_registration(seed=2)
    second.warped_labels = None
    second.displacement[0] = 1.5
    wanted = set(accounts.OUTPUT_NAMES) - {"report.html"}
    write_outputs(first, folder / "first")
    write_outputs(second, folder / "second", wanted)
    return folder / "first", folder / "second"


def replace(folder: Path, new: Path) -> None:
    """Put the files of `new` into `folder` as a run does with those it has written."""
    with outputs.staged(folder, accounts.replaceable) as staging:
        shutil.copytree(new, staging, dirs_exist_ok=True)


def prepared(folder: Path, first: Path) -> dict[str, bytes]:
    """Make `folder` hold a result and a person's file; its content."""
    shutil.copytree(first, folder)
    (folder / "notes.txt").write_text(NOTES, encoding="utf-8")
    return content(folder)


class Renames:
    """os.rename that fails at the numbers given, counted from 1, and looks at the folder every time."""

    def __init__(self, monkeypatch, folder: Path, fail: set[int]) -> None:
        self.count, self.fail, self.folder, self.rename = 0, fail, folder, os.rename
        monkeypatch.setattr(os, "rename", self)

    def __call__(self, source, target):
        account(self.folder)
        self.count += 1
        if self.count in self.fail:
            raise PermissionError(13, "used by another process", str(source))
        self.rename(source, target)
        account(self.folder)


def steps(first: Path, second: Path) -> int:
    """Renames of one replacement: the journal, every file out, every file in."""
    return 1 + len(content(first)) + len(content(second))


def test_a_replacement_shows_no_result_json_before_its_files_are_whole(results, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    prepared(folder, results[0])
    renames = Renames(monkeypatch, folder, set())
    replace(folder, results[1])
    assert renames.count == steps(*results)
    assert content(folder) == content(results[1]) | {"notes.txt": NOTES.encode()}
    assert account(folder) and hidden(folder) == []


def test_a_failure_at_any_rename_leaves_the_earlier_result_whole(results, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    before = prepared(folder, results[0])
    for number in range(1, steps(*results) + 1):
        with monkeypatch.context() as patch:
            Renames(patch, folder, {number})
            with pytest.raises(InputError, match=r"cannot be moved \(used by another process\)"):
                replace(folder, results[1])
        assert content(folder) == before, number
        assert hidden(folder) == [], number


def test_a_failure_that_forbids_undoing_too_loses_nothing(results, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    before = prepared(folder, results[0])
    for number in range(2, steps(*results) + 1):
        with monkeypatch.context() as patch:
            Renames(patch, folder, set(range(number, 99)))
            with pytest.raises(InputError) as told:
                replace(folder, results[1])
        if number > 2:  # something had moved
            assert "nothing is lost: close what uses the folder and run again" in str(told.value)
        settle(folder)
        assert content(folder) == before, number
        assert hidden(folder) == [], number


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs a folder that cannot be written")
def test_a_file_that_cannot_be_moved_is_named(results, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    before = prepared(folder, results[0])
    rename = os.rename

    def refuse(source, target):
        if Path(source) == folder / "warped.nii.gz":
            raise PermissionError(1, "Operation not permitted", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(InputError) as told:
        write_outputs(a_registration(seed=3), folder, ["transform.h5"])
    assert str(told.value).startswith(f"{folder / 'warped.nii.gz'}: cannot be moved (Operation not permitted)")
    assert content(folder) == before and hidden(folder) == []


def as_root(*command: str | Path) -> None:
    """Run a command that needs Linux and its superuser, or skip the test."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if done.returncode:
        pytest.skip(done.stderr.strip())


def test_an_immutable_file_leaves_the_earlier_result_whole(results, tmp_path, capsys):
    folder = tmp_path / "out"
    before = prepared(folder, results[0])
    as_root("chattr", "+i", folder / "warped.nii.gz")
    try:
        with pytest.raises(InputError) as told:
            replace(folder, results[1])
    finally:
        as_root("chattr", "-i", folder / "warped.nii.gz")
    assert str(told.value).startswith(f"{folder / 'warped.nii.gz'}: cannot be moved (Operation not permitted)")
    assert content(folder) == before and hidden(folder) == []


def test_a_file_system_mounted_as_the_folder_of_spike_maps_is_refused_before_any_work(results, tmp_path):
    folder = tmp_path / "out"
    before = prepared(folder, results[1])
    (folder / "spikes").mkdir(exist_ok=True)
    as_root("mount", "-t", "tmpfs", "none", folder / "spikes")
    try:
        with pytest.raises(InputError, match=r"spikes: is another file system"):
            check_results_folder(folder)
    finally:
        as_root("umount", folder / "spikes")
    assert content(folder) == before | content(results[1])


_KILL = """
import os, shutil, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from SpikeRegLib.outputs import accounts, folder as outputs, publishing
first, second, place = Path({first!r}), Path({second!r}), Path({place!r})

def dying(function):
    def call(*given, **how):
        if state["left"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        state["left"] -= 1
        return function(*given, **how)
    return call

def replace(number):  # is killed at this step of replacing
    with outputs.staged(folder, accounts.replaceable) as staging:
        shutil.copytree(second, staging, dirs_exist_ok=True)
        state["left"] = number

def undo(number):  # is killed at this step of undoing what was stopped before its last move
    move = publishing._move
    def stopped(name, source, target):
        if name == "result.json" and target == folder:
            publishing._move = move
            state["left"] = number
            raise OSError("stopped")
        move(name, source, target)
    publishing._move = stopped
    try:
        replace(10**9)
    except publishing.InputError:
        pass

number = 0
while True:
    folder = place / str(number)
    shutil.copytree(first, folder)
    child = os.fork()
    if child == 0:
        state = {{"left": 10**9}}
        for name in ("rename", "unlink", "rmdir", "mkdir"):
            setattr(os, name, dying(getattr(os, name)))
        {what}(number)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        print(number)
        sys.exit(os.WEXITSTATUS(status))
    number += 1
"""


def killed_at_every_step(what: str, results: tuple[Path, Path], place: Path) -> int:
    """Replace or undo in the folders 0, 1, 2 ... of `place`, killed at that step; the number that was not killed."""
    first, second = map(str, results)
    code = _KILL.format(root=str(ROOT), first=first, second=second, place=str(place), what=what)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_step_is_finished_or_undone_by_whoever_comes_next(results, tmp_path):
    first, second = results
    count = killed_at_every_step("replace", results, tmp_path)
    assert count > steps(first, second)
    ends = []
    for number in range(count):
        folder = tmp_path / str(number)
        shown = account(folder)  # complete, or no result.json
        settle(folder)
        now = content(folder)
        assert now in (content(first), content(second)), number
        assert not shown or account(folder) == shown, "what counted before counts still"
        assert not [name for name in hidden(folder) if os.path.lexists(folder / name / publishing._JOURNAL)]
        settle(folder)
        assert content(folder) == now
        ends.append(now == content(second))
    assert ends == sorted(ends) and not ends[0] and ends[-1], "undone up to one step, finished from it on"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_undoing_that_is_killed_at_any_step_is_undone_by_whoever_comes_next(results, tmp_path):
    first, second = results
    count = killed_at_every_step("undo", results, tmp_path)
    assert count >= len(content(first)) + len(content(second)) - 1
    for number in range(count):
        folder = tmp_path / str(number)
        assert account(folder) in (set(), set(content(first)))
        settle(folder)
        assert content(folder) == content(first), number


def test_the_next_run_and_the_reading_commands_settle_what_they_find(results, tmp_path, monkeypatch, capsys):
    first, second = results
    for reader in ("register", "apply", "evaluate", "export"):
        folder = tmp_path / reader
        shutil.copytree(first, folder)
        with monkeypatch.context() as patch:
            Renames(patch, folder, set(range(steps(first, second) - 2, 99)))
            with pytest.raises(InputError):
                replace(folder, second)
        assert "result.json" not in content(folder) and len(hidden(folder)) == 1
        transform, image = str(folder / "transform.h5"), str(first / "warped.nii.gz")
        labels = str(first / "warped_seg.nii.gz")
        words = {
            "register": ["no-such-image", "no-such-image", "--out", str(folder), "--progress", "none"],
            "apply": [transform, image, str(tmp_path / "applied.nii.gz"), "--reference", image],
            "evaluate": ["--fixed-seg", labels, "--moving-seg", labels, "--transform", transform],
            "export": [transform, str(tmp_path / "exported.nii.gz"), "--reference", image],
        }[reader]
        assert main([reader, *words]) == (2 if reader == "register" else 0)
        assert content(folder) == content(first) and hidden(folder) == [], reader
        capsys.readouterr()


def test_two_runs_that_end_together_leave_one_whole_result(results, tmp_path, monkeypatch):
    """The second starts to move while the first is between two moves: it waits, and then replaces all of the first."""
    first, second = results
    folder = tmp_path / "out"
    prepared(folder, first)
    started: list[subprocess.Popen] = []
    code = (
        f"import sys, shutil; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from SpikeRegLib.outputs import accounts, folder as outputs\n"
        f"with outputs.staged(Path({str(folder)!r}), accounts.replaceable) as staging:\n"
        f"    shutil.copytree({str(first)!r}, staging, dirs_exist_ok=True)\n"
    )
    rename = os.rename

    def slow(source, target):
        rename(source, target)
        if not started and Path(source).parent == folder:
            started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE))
            while len(hidden(folder)) < 3:  # the lock, our files and its files
                assert started[0].poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                started[0].wait(0.2)

    monkeypatch.setattr(os, "rename", slow)
    replace(folder, second)
    assert started[0].communicate(timeout=60) == (None, b"")
    assert started[0].returncode == 0
    assert content(folder) == content(first) | {"notes.txt": NOTES.encode()}
    assert account(folder) and hidden(folder) == []


def test_a_folder_made_meanwhile_gets_the_result_beside_what_is_in_it(results, tmp_path):
    folder = tmp_path / "deep" / "out"
    with outputs.staged(folder, accounts.replaceable) as staging:
        shutil.copytree(results[0], staging, dirs_exist_ok=True)
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text(NOTES, encoding="utf-8")
    assert content(folder) == content(results[0]) | {"notes.txt": NOTES.encode()}
    assert hidden(folder) == [] and hidden(tmp_path) == []


# What belongs to a person ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["spikes/recording.csv", "warped.nii.gz", "warped_seg.nii.gz", "report.html", "result.json", "spikes/a/b"]
)
@pytest.mark.parametrize("after_a_run", [False, True])
def test_what_no_result_json_accounts_for_is_refused_before_any_work(name, after_a_run, results, tmp_path, capsys):
    folder = tmp_path / "q"
    if after_a_run:
        shutil.copytree(results[1], folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(NOTES, encoding="utf-8")
    before = content(folder)
    for command in (["register", "no-such-image", "no-such-image"], ["demo"]):
        assert main([*command, "--out", str(folder), "--progress", "none"]) == 2
        told = capsys.readouterr().err
        assert f"{folder / name}: " in told and "move it elsewhere or choose another folder" in told
    with pytest.raises(InputError, match="move it elsewhere"):
        write_outputs(a_registration(), folder, [])
    assert content(folder) == before and hidden(folder) == []


def test_a_result_that_was_changed_by_hand_is_a_persons(results, tmp_path):
    shutil.copytree(results[0], tmp_path / "q")
    labels = tmp_path / "q" / "warped_seg.nii.gz"
    labels.write_bytes(labels.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"warped_seg.nii.gz: was changed since the run that wrote it; move it"):
        check_results_folder(tmp_path / "q")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_links_and_folders_under_the_name_of_a_result_are_refused(results, tmp_path):
    (tmp_path / "precious").write_text(NOTES, encoding="utf-8")
    for name in ("transform.h5", "spikes", "result.json"):
        for target in ("precious", "nothing"):
            folder = tmp_path / f"{name}-{target}"
            folder.mkdir()
            (folder / name).symlink_to(tmp_path / target)
            with pytest.raises(InputError, match=name):
                check_results_folder(folder)
            assert (folder / name).is_symlink()
    (tmp_path / "q" / "warped.nii.gz").mkdir(parents=True)
    with pytest.raises(InputError, match=r"warped.nii.gz: was not written by a run"):
        check_results_folder(tmp_path / "q")


def test_a_list_of_files_that_leads_elsewhere_takes_nothing_away(tmp_path):
    (tmp_path / "precious").write_text(NOTES, encoding="utf-8")
    folder = tmp_path / "q"
    folder.mkdir()
    digest = hashlib.sha256(NOTES.encode()).hexdigest()
    table = {"schema": 1, "files": {"../precious": digest, "notes.txt": digest}}
    (folder / "result.json").write_text(json.dumps(table), encoding="utf-8")
    (folder / "notes.txt").write_text(NOTES, encoding="utf-8")
    write_outputs(a_registration(), folder, [])
    assert (tmp_path / "precious").exists() and (folder / "notes.txt").exists()


def test_a_journal_that_leads_elsewhere_moves_nothing(tmp_path):
    staging = tmp_path / "q" / ".spikereg-01234567"
    staging.mkdir(parents=True)
    (tmp_path / "precious").write_text(NOTES, encoding="utf-8")
    for name in ("../precious", str(tmp_path / "precious"), "..\\precious", "C:precious"):
        for table in ({"old": [name], "new": {"a": [1, 1]}}, {"old": [], "new": {name: [1, 1]}}, {"old": []}, []):
            (staging / publishing._JOURNAL).write_text(json.dumps(table), encoding="utf-8")
            with pytest.raises(InputError, match=r"cannot be read .* may hold earlier results"):
                settle(tmp_path / "q")
    assert (tmp_path / "precious").read_text() == NOTES


def test_a_file_that_came_between_a_kill_and_the_next_run_is_not_overwritten(results, tmp_path, monkeypatch):
    first, second = results
    folder = tmp_path / "out"
    shutil.copytree(first, folder)
    with monkeypatch.context() as patch:
        Renames(patch, folder, set(range(5, 99)))
        with pytest.raises(InputError):
            replace(folder, second)
    (folder / "result.json").write_text(NOTES, encoding="utf-8")
    with pytest.raises(InputError, match=r"result.json: lies where a result goes, and is none; move it elsewhere"):
        settle(folder)
    assert (folder / "result.json").read_text() == NOTES
    (folder / "result.json").unlink()
    settle(folder)
    assert content(folder) == content(first)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
@pytest.mark.parametrize("below", ["", "below"])
def test_a_link_to_nothing_is_refused_before_any_work(below, tmp_path, capsys):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    out = tmp_path / "link" / below
    for words in (["register", "a", "b"], ["interpolate", "identity", "b", "--steps", "2"]):
        assert main([*words, "--out", str(out)]) == 2
        told = capsys.readouterr().err
        assert f"link is a link to {tmp_path / 'nothing'}, which does not exist" in told
    assert os.path.lexists(tmp_path / "link") and hidden(tmp_path) == []


def test_names_that_are_too_long_are_refused_before_any_work(tmp_path, capsys):
    for out in (tmp_path / ("n" * 256), tmp_path / ("n" * 300) / "out", tmp_path.joinpath(*["n" * 200] * 21)):
        assert main(["register", "a", "b", "--out", str(out), "--progress", "none"]) == 2
        assert "output folder cannot be written (File name too long)" in capsys.readouterr().err
    assert hidden(tmp_path) == []


def test_a_name_of_250_characters_is_taken(tmp_path):
    folder = tmp_path / ("n" * 250)
    check_writable(folder)
    assert not folder.exists()
    write_outputs(a_registration(), folder, ["transform.h5"])
    assert account(folder) == {"transform.h5", "result.json"}


# Single files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def transform(results, tmp_path) -> Path:
    return Path(shutil.copy(results[0] / "transform.h5", tmp_path))


def test_a_file_that_a_command_reads_is_not_replaced_by_what_it_writes(results, transform, tmp_path, capsys):
    image = Path(shutil.copy(results[0] / "warped.nii.gz", tmp_path))
    points = tmp_path / "points.csv"
    points.write_text("1,2,3\n", encoding="utf-8")
    (tmp_path / "link.nii.gz").symlink_to(image)
    before = content(tmp_path)
    for words in (
        ["apply", transform, image, image, "--reference", image],
        ["apply", transform, results[0] / "warped.nii.gz", tmp_path / "link.nii.gz", "--reference", image],
        ["apply", transform, points, tmp_path / "." / "points.csv", "--points"],
        ["export", transform, transform, "--reference", image],
        ["export", transform, image, "--reference", image],
    ):
        assert main(list(map(str, words))) == 2
        assert "is read by this command and would be replaced; give the output another name" in capsys.readouterr().err
    assert content(tmp_path) == before and hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("n" * 250 + ".nii.gz", "cannot be written (File name too long)"),
        ("nowhere/a.nii.gz", "does not exist; create it first"),
        ("folder.nii.gz", "is a folder; give a file name"),
        ("a.jpg", "unknown file type; use one of"),
        ("a.mhd", "unknown file type; use one of"),
    ],
)
def test_an_output_file_that_cannot_be_is_refused_before_anything_is_read(name, message, tmp_path, capsys):
    (tmp_path / "folder.nii.gz").mkdir()
    output = str(tmp_path / name)
    for words in (["apply", "no-transform.h5", "no-image", output], ["export", "no-transform.h5", output]):
        assert main([*words, "--reference", "no-image"]) == 2
        told = capsys.readouterr().err
        assert message in told and "no-transform" not in told
    assert hidden(tmp_path) == []


def test_an_output_file_may_have_a_name_of_255_characters_and_is_replaced(results, transform, tmp_path):
    image = str(results[0] / "warped.nii.gz")
    for output in (tmp_path / ("n" * 248 + ".nii.gz"), tmp_path / ("n" * 252 + ".h5")):
        output.write_text(NOTES, encoding="utf-8")
        assert main(["export", str(transform), str(output), "--reference", image]) == 0
        assert output.stat().st_size > 1000
    assert hidden(tmp_path) == []


def test_training_into_a_folder_with_a_file_of_its_name_is_refused(tmp_path, capsys):
    for step, name in (
        ("teacher", "teacher.safetensors"),
        ("teacher", "log.jsonl"),
        ("nephi", "field.safetensors"),
        ("convert", "converted.safetensors"),
        ("finetune", "spiking.safetensors"),
        ("all", "finetuned-2/spiking.safetensors"),
        ("all", "converted/converted.safetensors"),
    ):
        out = tmp_path / f"{step}-{Path(name).name}"
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text(NOTES, encoding="utf-8")
        source = {"convert": ["--teacher", "none.safetensors"], "finetune": ["--model", "none.safetensors"]}
        assert main(["train", step, "--labels", "nowhere", "--out", str(out), *source.get(step, [])]) == 2
        assert f"{out / name}: would be overwritten; move it elsewhere or choose" in capsys.readouterr().err
        assert (out / name).read_text() == NOTES
