"""A segmentation asked of the worker: events, files, a cancel, and a registration's request that goes on as before."""

from __future__ import annotations

import json
from pathlib import Path

import drawn_head
import pytest
from test_worker import Host

from SpikeRegLib.images.volumes import write_volume
from SpikeRegLib.outputs.accounts import SEGMENTATION

DRAWN = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport drawn_head\n"
DRAWN += "drawn_head.install(slow_s={})"


@pytest.fixture
def head(tmp_path) -> str:
    write_volume(drawn_head.image(), tmp_path / "head.nii.gz")
    return str(tmp_path / "head.nii.gz")


def test_a_segmentation_is_done_and_told_of(head, tmp_path):
    host, out = Host(DRAWN.format(0.3)), tmp_path / "out"
    host.send(
        {"id": "s", "segment": head, "out": str(out), "threads": 1},
        {"id": "gone", "segment": "gone.nii.gz", "out": str(out)},
        {"id": "r", "fixed": head, "moving": "gone.nii.gz", "out": str(tmp_path / "r"), "preset": "any-anatomy"},
    )
    events = host.until("result", "error")
    assert events[0] == {"event": "started", "id": "s"} and {event["id"] for event in events} == {"s"}
    stages = [event["stage"] for event in events if event["event"] == "progress"]
    assert list(dict.fromkeys(stages)) == ["prepare", "read", "finish"]
    assert events[-2]["message"] == "writing the results"
    assert events[-1] == {"event": "result", "id": "s", "path": str(out / "segmentation.json")}
    assert {path.name for path in out.iterdir()} == set(SEGMENTATION.names)
    assert json.loads((out / "segmentation.json").read_text())["threads"] == 1
    for name in ("gone", "r"):
        end = host.until("result", "error")[-1]
        assert (end["id"], end["code"]) == (name, 2) and "gone.nii.gz: no such file" in end["message"]
    assert host.end()[1] == ""


def test_a_segmentation_is_cancelled_and_leaves_nothing(head, tmp_path):
    host = Host(DRAWN.format(60))
    host.send(*({"id": name, "segment": head, "out": str(tmp_path / name)} for name in ("runs", "waits")))
    while host.event().get("stage") != "read":
        pass
    host.send({"cancel": "waits"}, {"cancel": "runs"})
    ends = [host.until("result", "error")[-1] for _ in range(2)]
    assert {(end["id"], end["code"]) for end in ends} == {("waits", 130), ("runs", 130)}
    assert host.end()[1] == "" and [path.name for path in tmp_path.iterdir()] == ["head.nii.gz"]
