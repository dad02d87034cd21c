"""`spikereg worker` as a host sees it: JSON lines in, JSON lines out, whatever comes; one process, many requests."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import brains
import pytest

from SpikeRegLib import __version__
from SpikeRegLib.commands.requests import Desk, Request
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import read_array
from SpikeRegLib.images.volumes import write_volume
from SpikeRegLib.outputs.folder import OUTPUT_NAMES
from SpikeRegLib.pipeline import register
from SpikeRegLib.system import interrupt

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
WRITTEN = set(OUTPUT_NAMES) - {"codes.safetensors", "warped_seg.nii.gz", "spikes"}


class Host:
    """What a host does: start the worker, write lines, read events.

    Args:
        before: Python that runs in the worker's process first.
        options: of the command.
    """

    def __init__(self, before: str = "", *options: str) -> None:
        words = ["worker", *options]
        script = f"{before}\nimport sys\nfrom SpikeRegLib.cli import entry\nsys.argv[1:] = {words}\nentry()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self.ready = self.event()

    def send(self, *lines: dict | str) -> None:
        for line in lines:
            text = line if isinstance(line, str) else json.dumps(line)
            self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def event(self) -> dict:
        """The next event; every line must be one."""
        return json.loads(self.process.stdout.readline())

    def until(self, *kinds: str) -> list[dict]:
        """Events up to the first of one of these kinds."""
        events = [self.event()]
        while events[-1]["event"] not in kinds:
            events.append(self.event())
        return events

    def end(self) -> tuple[list[dict], str]:
        """Close stdin and wait: the events that were left, and stderr."""
        out, err = self.process.communicate(timeout=60)
        return [json.loads(line) for line in out.splitlines()], err.decode()


@pytest.fixture(scope="module")
def files(tmp_path_factory, known, quick) -> dict[str, str]:
    """A request about the small pair, but for `id` and `out`."""
    folder = tmp_path_factory.mktemp("files")
    write_volume(known.fixed, folder / "fixed.nii.gz")
    write_volume(known.moving, folder / "moving.nii.gz")
    paths = {name: str(folder / f"{name}.nii.gz") for name in ("fixed", "moving")}
    return {**paths, "preset": str(quick), "skip_affine": True, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def host():
    host = Host()
    yield host
    if host.process.poll() is None:
        host.end()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_request_gives_what_register_gives(host, files, tmp_path):
    assert host.ready == {"event": "ready", "pid": host.process.pid, "version": __version__}
    host.send({"id": "r1", **files, "out": str(tmp_path / "out")})
    events = host.until("result", "error")
    assert events[0] == {"event": "started", "id": "r1"}
    assert {event["id"] for event in events} == {"r1"}
    progress = [event for event in events if event["event"] == "progress"]
    assert list(dict.fromkeys(event["stage"] for event in progress)) == [
        "prepare",
        "align",
        "predict",
        "refine",
        "finish",
    ]
    assert progress[-1]["message"] == "writing the results"
    assert events[-1] == {"event": "result", "id": "r1", "path": str(tmp_path / "out" / "result.json")}
    assert left_in(tmp_path) == {"out"} and left_in(tmp_path / "out") == WRITTEN
    expected = register(files["fixed"], files["moving"], preset=files["preset"], skip_affine=True, threads=1)
    written, frame = read_array(tmp_path / "out" / "warped.nii.gz")
    assert (written == expected.warped.data.numpy()).all() and frame.shape == expected.fixed.frame.shape


def test_the_next_request_takes_up_where_the_change_is(host, files, tmp_path):
    host.send(
        {"id": "a", **files, "out": str(tmp_path / "a")},
        {"id": "b", **files, "out": str(tmp_path / "b"), "refine_iterations": 2},
    )
    ends = [host.until("result", "error")[-1] for _ in range(2)]
    assert [end["id"] for end in ends] == ["a", "b"]
    reused = json.loads(Path(ends[1]["path"]).read_text())["reused"]
    assert {"fixed image", "moving image", "alignment"} <= set(reused) and "refinement" not in reused


def test_only_the_outputs_asked_for_are_written(host, files, tmp_path):
    out = tmp_path / "out"
    host.send(
        {"id": "all", **files, "out": str(out)}, {"id": "few", **files, "out": str(out), "outputs": ["transform.h5"]}
    )
    host.until("result", "error")
    assert host.until("result", "error")[-1]["event"] == "result"
    assert left_in(out) == {"transform.h5", "result.json"}  # never files of two runs


def test_an_id_may_be_given_again_as_soon_as_its_end_is_told():
    desk, request = Desk(), Request("a", argparse.Namespace())
    desk.put(request)
    assert desk.take() is request
    with pytest.raises(InputError, match="waiting or running"):
        desk.put(request)
    desk.done()
    desk.cancel("a")
    assert not interrupt.cancelled()
    desk.put(request)
    assert desk.take() is request


def resident_mb(process: int) -> float:
    """Resident memory, once it does not change any more."""
    sizes: list[float] = []
    while len(sizes) < 4 or len(set(sizes[-4:])) > 1:
        time.sleep(0.05)
        sizes.append(int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    return sizes[-1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere freed memory is not this library's to give")
def test_a_worker_that_waits_holds_no_more_after_many_runs_than_after_one(files, tmp_path):
    host, sizes = Host(), []
    for run in range(3):
        host.send({"id": "a", **files, "regularisation": 1 + run / 10, "out": str(tmp_path / "out")})
        assert host.until("result", "error")[-1]["event"] == "result"
        sizes.append(resident_mb(host.process.pid))
    host.end()
    assert max(sizes) - sizes[0] < 4, sizes  # without giving back, 20 MB


BAD = {
    "nonsense": (None, "not a line of JSON"),
    "[1, 2]": (None, "a JSON list where an object is expected"),
    '{"id": "x", "seed": NaN}': (None, "NaN is no number"),
    "[" * 100_000: (None, "not a line of JSON"),
    '{"id": "x"}': ("x", "fixed: missing"),
    '{"fixed": "f", "moving": "m", "out": "o"}': (None, "id: missing"),
    '{"id": 7, "fixed": "f", "moving": "m", "out": "o"}': (None, "id: must be a text, got 7"),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "sed": 1}': (
        "x",
        'unknown key "sed"; known are id, fixed, moving',
    ),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "progress": "bar"}': ("x", "unknown key"),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "seed": -1}': (
        "x",
        "--seed: must be between 0 and 2147483647, got -1",
    ),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "seed": true}': ("x", "seed: must be a text"),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "method": "x"}': ("x", "invalid choice: 'x'"),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "spike_maps": 1}': ("x", "spike_maps: must be true or false"),
    '{"id": "x", "fixed": "f", "moving": "m", "out": "o", "outputs": ["a"]}': (
        "x",
        "outputs: must be a list of warped",
    ),
    '{"id": "x", "fixed": "a\\u0000b", "moving": "m", "out": "o"}': ("x", "fixed: must be a text"),
    '{"id": "x", "fixed": "\\ud800", "moving": "m", "out": "o"}': ("x", "fixed: must be a text"),
    '{"cancel": "x", "id": "y"}': ("y", "cancel: stands alone"),
    '{"quit": 1}': (None, "quit: must be true"),
    '{"id": "x", "segment": "i"}': ("x", "out: missing; a request needs id, segment and out"),
    '{"id": "x", "segment": "i", "out": "o", "fixed": "f"}': (
        "x",
        'unknown key "fixed"; known are id, segment, out',
    ),
    '{"id": "x", "segment": 3, "out": "o"}': ("x", "segment: must be a text, got 3"),
}


def test_a_bad_line_is_one_clear_error_and_the_worker_goes_on(host, tmp_path, files):
    for line, (identity, message) in BAD.items():
        host.send(line)
        event = host.event()
        assert event["event"] == "error" and event["code"] == 2 and event.get("id") == identity, (line[:80], event)
        assert message in event["message"] and "\n" not in event["message"] and len(event["message"]) < 700
    host.send("", {"cancel": "nobody"}, {"id": "m", **files, "moving": "gone.nii.gz", "out": str(tmp_path / "out")})
    events = host.until("error")
    assert [event["event"] for event in events if event["event"] != "progress"] == ["started", "error"]
    assert events[-1] == {
        "event": "error",
        "id": "m",
        "message": "gone.nii.gz: no such file; check the path",
        "code": 2,
    }
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("stage", ["align", "refine"])
def test_cancel_stops_a_running_request_and_forgets_a_waiting_one(host, files, tmp_path, stage):
    slow = {**files, "refine_iterations": 9999, "skip_affine": False, "seed": 3 if stage == "align" else 4}
    host.send({"id": "runs", **slow, "out": str(tmp_path / "1")}, {"id": "waits", **files, "out": str(tmp_path / "2")})
    while host.event().get("stage") != stage:
        pass
    host.send({"id": "runs", **files, "out": str(tmp_path / "3")}, {"cancel": "waits"}, {"cancel": "runs"})
    ends = {event["message"]: event for event in (host.until("error", "result")[-1] for _ in range(3))}
    assert {(event["id"], event["code"]) for event in ends.values()} == {("runs", 2), ("waits", 130), ("runs", 130)}
    assert any("waiting or running" in message for message in ends)
    host.send({"id": "next", **files, "out": str(tmp_path / "4"), "outputs": []})
    assert host.until("error", "result")[-1]["id"] == "next"
    assert left_in(tmp_path) == {"4"}


def test_the_end_of_stdin_lets_what_was_asked_be_finished(host, files, tmp_path):
    """The last test with this host."""
    host.send(*({"id": name, **files, "out": str(tmp_path / name), "outputs": []} for name in "ab"))
    events, error = host.end()
    assert [event["id"] for event in events if event["event"] == "result"] == ["a", "b"]
    assert host.process.returncode == 0 and error == ""


def test_with_end_with_stdin_nothing_is_finished_once_it_closes(files, tmp_path):
    host = Host("", "--end-with-stdin")
    assert host.ready == {"event": "starting", "pid": host.process.pid}
    host.send(*({"id": name, **files, "refine_iterations": 9999, "out": str(tmp_path / name)} for name in "ab"))
    while host.event().get("stage") != "refine":
        pass
    events, error = host.end()
    assert [event["event"] for event in events if event["event"] != "progress"] in (["error", "end"], []), error
    assert host.process.returncode in (0, 130) and error == "" and left_in(tmp_path) == set()


def test_with_end_with_stdin_not_even_a_step_that_hears_no_cancel_is_waited_for(files, tmp_path):
    mark = tmp_path / "refining"
    deaf = f"def deaf(*given, **named):\n    open({str(mark)!r}, 'w')\n    time.sleep(1000)\nstage.refine = deaf"
    host = Host(f"import time, SpikeRegLib.pipeline.refine as stage\n{deaf}", "--end-with-stdin")
    host.send({"id": "r", **files, "out": str(tmp_path / "r")})
    while not mark.exists():
        time.sleep(0.01)
    host.end()
    assert host.process.returncode == 130


@pytest.mark.parametrize("when", ["starting", "ready"])
def test_with_end_with_stdin_an_idle_worker_ends_and_says_so(when):
    host = Host("", "--end-with-stdin")
    events = [host.ready] if when == "starting" else host.until("ready")
    left, error = host.end()
    assert error == "" and host.process.returncode in (0, 130)
    assert (left[-1] if left else events[-1])["event"] in ("end", when)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_crash_leaves_a_trace_also_where_stderr_is_silenced_and_a_kill_leaves_none():
    silence = (
        "import faulthandler, os\nenable = faulthandler.enable\nquiet = lambda: os.open(os.devnull, os.O_WRONLY)\n"
    )
    silence += "faulthandler.enable = lambda *given: (enable(*given), os.dup2(quiet(), 2))"
    for number, trace in ((signal.SIGSEGV, "Fatal Python error: Segmentation fault"), (signal.SIGKILL, "")):
        host = Host(silence, "--end-with-stdin")
        host.until("ready")
        host.process.send_signal(number)
        events, error = host.end()
        assert events == [] and (error.startswith(trace) if trace else error == "")


NOISY = """
import os, sys, time, SpikeRegLib.pipeline as pipeline, SpikeRegLib.report as report
register = pipeline.register
def noisy(*arguments, **options):
    print("noise from Python")
    os.write(1, b"noise from C\\n")
    return register(*arguments, **options)
pipeline.register = noisy
"""


def test_stdout_carries_events_alone_and_quit_stops_everything(files, tmp_path):
    host = Host(NOISY)
    host.send(
        {"id": "r", **files, "refine_iterations": 9999, "out": str(tmp_path / "r")}, {"id": "s", **files, "out": "s"}
    )
    while host.event().get("stage") != "refine":
        pass
    host.send({"quit": True})
    events, error = host.end()
    assert (events[-1]["event"], events[-1]["id"], events[-1]["code"]) == ("error", "r", 130)
    assert host.process.returncode == 0 and left_in(tmp_path) == set()
    assert "noise from Python" in error and "noise from C" in error


FAILING = """
import SpikeRegLib.pipeline.assemble as finish
judge = finish.judge
def failing(result, **given):
    finish.judge = judge
    raise MemoryError
finish.judge = failing
"""


def test_after_a_failure_nothing_is_taken_over(files, tmp_path):
    host = Host(FAILING)
    host.send(*({"id": name, **files, "out": str(tmp_path / name), "outputs": []} for name in "ab"))
    events, _ = host.end()
    ends = [event for event in events if event["event"] in ("error", "result")]
    assert [(end["event"], end.get("code")) for end in ends] == [("error", 1), ("result", None)]
    assert ends[0]["message"].startswith("not enough memory")
    assert json.loads(Path(ends[1]["path"]).read_text())["reused"] == []


def test_nobody_listening_ends_it_quietly(files, tmp_path):
    host = Host()
    host.send({"id": "r", **files, "refine_iterations": 9999, "out": str(tmp_path / "r")})
    host.event()
    host.process.stdout.close()
    assert host.process.wait(timeout=60) == 0
    assert host.process.stderr.read() == b"" and left_in(tmp_path) == set()
    host.process.stderr.close()
    host.process.stdin.close()


BLOCKED = "import time, SpikeRegLib.report as report\nreport.write_report = lambda *given: time.sleep(60)"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_killed_while_writing_it_leaves_a_hidden_folder_that_a_later_run_sweeps(files, tmp_path):
    host = Host(BLOCKED)
    host.send({"id": "r", **files, "out": str(tmp_path / "out")})
    while host.event().get("message") != "writing the results":
        pass
    hidden: set[str] = set()
    while not any((tmp_path / name / "jacobian.nii.gz").exists() for name in hidden):
        hidden = left_in(tmp_path)
    host.process.send_signal(signal.SIGKILL)
    host.process.communicate()
    assert len(hidden) == 1 and left_in(tmp_path) == hidden and hidden.pop().startswith(".spikereg-")
    (left,) = tmp_path.iterdir()
    fresh = tmp_path / ".spikereg-0123abcd"  # of another process that is writing now
    fresh.mkdir()
    for path in (*left.rglob("*"), left):
        os.utime(path, (1e9, 1e9))
    host = Host()
    host.send({"id": "r", **files, "out": str(tmp_path / "out"), "outputs": []})
    host.end()
    assert left_in(tmp_path) == {"out", fresh.name}


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_signal_ends_it_while_it_waits_and_after_a_finished_run(files, tmp_path):
    host = Host()
    host.send({"id": "r", **files, "out": str(tmp_path / "out"), "outputs": []})
    assert host.until("result", "error")[-1]["event"] == "result"
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(timeout=60) == 0
    assert host.end() == ([], "")


def test_requests_are_parsed_as_the_command_parses_its_options():
    from SpikeRegLib.cli import build_parser
    from SpikeRegLib.commands.requests import Understanding

    understand = Understanding()
    words = [
        "f.nii",
        "-m.nii",
        "--out",
        "o",
        "--landmark-weight",
        "0.5",
        "--align",
        "--fixed-points",
        "p.csv",
        "--threads",
        "2",
    ]
    table = {"fixed": "f.nii", "moving": "-m.nii", "out": "o", "landmark_weight": 0.5, "align": True,
             "skip_affine": False, "fixed_points": "p.csv", "threads": 2, "region": None}  # fmt: skip
    parsed = vars(understand({"id": "r", **table}).options)
    words[1:2] = []
    expected = vars(build_parser(["register"]).parse_args(["register", *words, "--", "-m.nii"]))
    assert {key: expected[key] for key in parsed} == parsed
    assert brains.SAMPLE.is_dir()
