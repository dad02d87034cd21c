"""`spikereg segment`: labels lie where structures are on any grid, what is no head is refused, all files or none."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import drawn_head
import numpy as np
import pytest
import torch

from SpikeRegLib import models, segment
from SpikeRegLib.anatomy import head_check, pose, segmentation
from SpikeRegLib.anatomy.brain import BrainMask
from SpikeRegLib.anatomy.head_check import check_head
from SpikeRegLib.anatomy.label_maps import label_map
from SpikeRegLib.anatomy.layout import Layout, Places
from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegLib.anatomy.structures import CLASSES, LABELS, MIRRORED
from SpikeRegLib.cli import main
from SpikeRegLib.errors import Cancelled, InputError
from SpikeRegLib.images import volumes
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_image, read_labels, write_volume
from SpikeRegLib.outputs.accounts import SEGMENTATION, digest
from SpikeRegLib.space.transforms import AffineTransform, warp_image

DATA = Path(os.environ.get("SPIKEREG_DATA", "../shared/data"))
RAS = replace(
    drawn_head.STRAIGHT, origin=(89.0, 85.0, -45.0), direction=(-1.0, 0, 0, 0, -1, 0, 0, 0, 1)
)  # stored from left to right and front to back


def turn() -> np.ndarray:
    a, b = np.radians([25.0, -20.0])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return about_z @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])


def oblique() -> Frame:
    """Anisotropic, around the drawn head."""
    frame = Frame((32, 84, 100), spacing=(1.7, 2.3, 5.5), direction=tuple(float(v) for v in turn().ravel()))
    middle = frame.to_mm((np.array(frame.size) - 1) / 2)
    return replace(frame, origin=tuple(float(v) for v in drawn_head.MIDDLE - middle))


GRIDS = {"straight": drawn_head.STRAIGHT, "ras": RAS, "oblique": oblique()}


@pytest.fixture
def read(monkeypatch, signal_handlers_restored):
    """The drawn head is read, without weights; the list of what was read."""
    monkeypatch.setattr(pose, "Reader", None)
    monkeypatch.setattr(segmentation, "load_structure_model", None)
    return drawn_head.install()


@pytest.fixture
def file(tmp_path) -> Path:
    write_volume(drawn_head.image(), tmp_path / "head.nii.gz")
    return tmp_path / "head.nii.gz"


def run(*words) -> int:
    return main(["segment", *map(str, words), "--progress", "none"])


def content(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_lie_where_the_structures_are(grid, read, tmp_path):
    write_volume(drawn_head.image(GRIDS[grid]), tmp_path / "head.nii.gz")
    assert run(tmp_path / "head.nii.gz", "--out", tmp_path / "out") == 0
    found, given = read_labels(tmp_path / "out" / "labels.nii.gz"), read_image(tmp_path / "head.nii.gz")
    assert np.abs(found.frame.matrix - given.frame.matrix).max() < 1e-4 and found.frame.shape == given.frame.shape
    assert found.data.dtype == torch.int16
    labels, truth = found.data.numpy(), drawn_head.truth(given.frame)
    assert (labels == truth)[truth > 0].mean() > 0.9 and (labels == truth).mean() > 0.95
    for label, centre in drawn_head.BALLS.items():
        middle = given.frame.to_mm(np.argwhere(labels == label).mean(0)[::-1]) - drawn_head.MIDDLE
        assert np.linalg.norm(middle - centre) < 1.2, label


def test_every_block_of_a_fine_grid_has_what_the_whole_would_have():
    """Only the classes that are likeliest around a block are compared in it."""
    source = Frame((30, 30, 30), (-29.0, -29.0, -29.0), (2.0, 2.0, 2.0))
    random = torch.Generator().manual_seed(2)
    logits = 60 * torch.nn.functional.avg_pool3d(torch.randn(CLASSES, 36, 36, 36, generator=random), 7, 1)
    logits[0] += 5
    axes = tuple(float(v) for v in turn().ravel())
    frame = Frame((40, 52, 60), (0.0, 0.0, 0.0), (0.6, 0.5, 0.9), axes)
    frame = replace(frame, origin=tuple(float(v) for v in -frame.to_mm((np.array(frame.size) - 1) / 2)))
    brain = BrainMask.found_in(logits, source)
    labels, mask = label_map(logits, brain, frame)
    volume = Volume(logits[0], source)
    whole = torch.stack([drawn_values(replace(volume, data=one), frame) for one in logits]).argmax(0)
    inside = drawn_values(replace(volume, data=brain.likelier), frame) > 0
    assert torch.equal(inside, brain.on(frame))
    assert torch.equal(mask, inside) and bool(mask.any()) and not bool(mask.all())
    numbers = torch.tensor([0, *LABELS], dtype=torch.int16)
    same = labels == torch.where(inside, numbers[whole], 0)
    assert float(same.float().mean()) > 0.995 and len(labels.unique()) > 10


def drawn_values(volume: Volume, frame: Frame) -> torch.Tensor:
    return warp_image(volume, AffineTransform.identity(), frame).data


def test_figures_are_those_of_the_files(read, file, tmp_path):
    assert run(file, "--out", tmp_path / "out", "--threads", 1) == 0
    result = json.loads((tmp_path / "out" / "segmentation.json").read_text())
    labels = read_labels(tmp_path / "out" / "labels.nii.gz").data
    mask = read_labels(tmp_path / "out" / "brain_mask.nii.gz").data
    assert result["schema"] == 1 and result["head"] is True and result["input"] == str(file)
    assert [row["label"] for row in result["structures"]] == sorted(LABELS)
    for row in result["structures"]:
        assert row["ml"] == pytest.approx(int((labels == row["label"]).sum()) * drawn_head.VOXEL_ML)
        assert row["name"] == STRUCTURES[row["label"]].name and 0.9 < row["confidence"] <= 1
    assert result["brain_ml"] == pytest.approx(int(mask.sum()) * drawn_head.VOXEL_ML)
    assert result["brain_ml"] == pytest.approx(drawn_head.BRAIN_ML, rel=0.03)
    ball = next(row for row in result["structures"] if row["label"] == 17)["ml"]
    assert ball == pytest.approx(4 / 3 * np.pi * drawn_head.BALL_MM**3 / 1000, rel=0.15)
    assert result["head_check"]["structures"] == 32 and result["head_check"]["off_mm"] < 1 and result["threads"] == 1
    assert result["files"] == {
        name: found for name, found in content(tmp_path / "out").items() if name != "segmentation.json"
    }
    assert set(content(tmp_path / "out")) == set(SEGMENTATION.names)


def test_the_brain_is_one_piece_without_holes_and_stripped_of_the_rest(monkeypatch, read):
    drawn_head.install(extra=True)
    found = segment(drawn_head.image(), threads=1)
    truth = drawn_head.truth(drawn_head.STRAIGHT, extra=True)
    mask, labels = found.mask.data.numpy(), found.labels.data.numpy()
    hole, island = (np.round(drawn_head.STRAIGHT.to_index(place + drawn_head.MIDDLE)).astype(int)[::-1] for place in (
        drawn_head.HOLE, drawn_head.ISLAND))  # fmt: skip
    assert truth[tuple(hole)] == 0 and mask[tuple(hole)] and labels[tuple(hole)] == 0  # nothing is said to be there
    assert truth[tuple(island)] == 3 and not mask[tuple(island)] and labels[tuple(island)] == 0
    assert not labels[~mask].any() and mask.sum() * drawn_head.VOXEL_ML == pytest.approx(drawn_head.BRAIN_ML, rel=0.03)
    image = drawn_head.image().data.numpy()
    assert (found.brain.data.numpy() == np.where(mask, image, 7.0)).all()


def test_a_brain_that_the_field_of_view_cuts_is_warned_of(read):
    found = segment(cut_image())
    assert "the field of view cuts the brain: volumes are of what it shows" in found.result["warnings"]
    assert segment(drawn_head.image()).result["warnings"] == []


def cut_image() -> Volume:
    """Without the lowest 21 mm."""
    frame = drawn_head.STRAIGHT.part((0, 0, 7), (49, 62, 52))
    return Volume(drawn_head.image().data[7:].clone(), frame, "cut")


def test_what_is_no_head_is_said_so_in_one_line_and_nothing_is_written(read, file, tmp_path, capsys):
    drawn_head.install(shuffled=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert run(file, "--out", tmp_path / "out") == 2 and run(file, "--out", tmp_path / "new") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2 and f"{file}: does not look like a human head (" in error and "whole head" in error
    assert list(content(tmp_path / "out")) == ["notes.txt"] and not (tmp_path / "new").exists()


def scattered(seed: int = 0) -> Places:
    centres = np.random.default_rng(seed).normal(0, 30, (CLASSES, 3))
    centres[0] = np.nan
    return Places(centres, np.full(CLASSES, 2.0))


@pytest.mark.parametrize(
    ("change", "figures", "reason"),
    [
        (lambda head: head, {}, ""),
        (lambda head: Places(head.centres * 1.35, head.volumes_ml), {}, ""),
        (lambda head: head, {"brain_ml": head_check.BRAIN_ML[0] - 1}, "the brain would have 599 ml"),
        (lambda head: head, {"brain_ml": head_check.BRAIN_ML[1] + 1}, "the brain would have 2301 ml"),
        (lambda head: head, {"confidence": 0.65}, "the network is unsure"),
        (lambda head: Places(head.centres * 0.7, head.volumes_ml), {}, "0.70 to 0.70 times as large as usual"),
        (lambda head: Places(head.centres * [1, 1, 1.5], head.volumes_ml), {}, "times as large as usual"),
        (lambda head: scattered(1), {}, "mm off where they belong"),
        (lambda head: Places(np.where(np.arange(CLASSES)[:, None] < 20, head.centres, np.nan), head.volumes_ml), {},
         "19 of 32 structures are there"),
        (lambda head: Places(head.centres * np.nan, head.volumes_ml), {}, "0 of 32 structures are there"),
    ],
)  # fmt: skip
def test_each_bound_of_a_head(change, figures, reason):
    layout = Layout(scattered(), np.ones(CLASSES))
    found = check_head(change(scattered()), layout, **{"brain_ml": 1400.0, "confidence": 0.78, **figures})
    assert found.head == (reason == "") and reason in found.reason


def test_label_maps_and_series_are_refused_as_images_are(read, tmp_path, capsys):
    labels = torch.from_numpy(drawn_head.truth(drawn_head.STRAIGHT)).to(torch.int16)
    write_volume(Volume(labels, drawn_head.STRAIGHT), tmp_path / "seg.nii.gz")
    assert run(tmp_path / "seg.nii.gz", "--out", tmp_path / "out") == 2
    assert run(tmp_path / "gone.nii.gz", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "seg.nii.gz: this looks like a label map" in error and "gone.nii.gz: no such file" in error
    assert read == [] and not (tmp_path / "out").exists()
    assert run(tmp_path / "seg.nii.gz", "--out", tmp_path / "out", "--allow-few-values") == 0


def test_nan_is_background_only_if_allowed(read, tmp_path, capsys):
    image = drawn_head.image()
    image.data[20, 20, 20] = float("nan")
    write_volume(image, tmp_path / "nan.nii.gz")
    assert run(tmp_path / "nan.nii.gz", "--out", tmp_path / "out") == 2 and "NaN or infinite" in capsys.readouterr().err
    assert run(tmp_path / "nan.nii.gz", "--out", tmp_path / "out", "--allow-nonfinite") == 0
    result = json.loads((tmp_path / "out" / "segmentation.json").read_text())
    assert ["1 NaN or infinite voxels were taken as background" in text for text in result["warnings"]] == [True]


def test_a_failure_leaves_the_folder_as_it_was(read, file, tmp_path, monkeypatch, capsys):
    assert run(file, "--out", tmp_path / "out") == 0
    before = content(tmp_path / "out")
    write = volumes.write_volume

    def fails(volume: Volume, path: Path) -> None:
        if path.name == "brain.nii.gz":
            raise OSError(28, "No space left on device", str(path))
        write(volume, path)

    monkeypatch.setattr(volumes, "write_volume", fails)
    for folder in ("out", "new"):
        assert run(file, "--out", tmp_path / folder) == 2
    monkeypatch.undo()
    assert content(tmp_path / "out") == before and sorted(path.name for path in tmp_path.iterdir()) == [
        "head.nii.gz",
        "out",
    ]


def test_only_what_a_segmentation_accounts_for_is_replaced(read, file, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "result.json").write_text("{}")  # of something else
    assert run(file, "--out", out) == 0 and run(file, "--out", out) == 0
    assert set(content(out)) == {*SEGMENTATION.names, "notes.txt", "result.json"}
    del read[:]
    (out / "labels.nii.gz").write_bytes(b"drawn by hand")
    assert run(file, "--out", out) == 2 and "labels.nii.gz: was changed since" in capsys.readouterr().err
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "brain_mask.nii.gz").write_bytes(b"mine")
    assert run(file, "--out", mine) == 2
    assert "brain_mask.nii.gz: was not written by a run whose segmentation.json" in capsys.readouterr().err
    assert read == []  # refused before any work
    assert (out / "labels.nii.gz").read_bytes() == b"drawn by hand" and list(content(mine)) == ["brain_mask.nii.gz"]


def test_a_person_reads_a_table_and_a_program_events(read, file, tmp_path, capsys):
    assert main(["segment", str(file), "--out", str(tmp_path / "a")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("hippocampus") and len(line.split()) == 4 for line in lines)
    assert any(line.startswith("brain stem") and len(line.split()) == 4 for line in lines)
    assert len(lines) < 25 and lines[-1] == f"labels: {tmp_path / 'a' / 'labels.nii.gz'}"
    assert main(["segment", str(file), "--out", str(tmp_path / "b"), "--progress", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stages = [event["stage"] for event in events if event["event"] == "progress"]
    assert list(dict.fromkeys(stages)) == ["prepare", "read", "finish"]
    assert events[-1] == {"event": "result", "path": str(tmp_path / "b" / "segmentation.json")}


def test_a_listener_stops_it_in_every_step(read):
    drawn_head.install(slow_s=0.05)
    for step in ("prepare", "read", "finish"):

        def listener(progress, step=step):
            if progress.stage == step and progress.fraction > 0:
                raise Cancelled("enough")

        with pytest.raises(Cancelled):
            segment(drawn_head.image(), listener=listener)


def test_every_structure_has_a_name_and_a_colour_of_its_own_side():
    assert sorted(STRUCTURES) == sorted(LABELS) and len({one.name for one in STRUCTURES.values()}) == len(LABELS)
    for left, right in MIRRORED.items():
        assert STRUCTURES[left].name == STRUCTURES[right].name.replace("right ", "left ")
        assert STRUCTURES[left].name.startswith("left ")


def test_a_model_that_cannot_tell_heads_is_refused(tmp_path):
    shipped = models.find("structures", "spikereg")
    facts = {name: fact for name, fact in models.read_header(shipped).facts.items() if name != "layout"}
    models.save_model(models.load_model(shipped), tmp_path / "unplaced.safetensors", facts, weight_bits=8)
    for name in ("brain-t1", tmp_path / "unplaced.safetensors"):
        with pytest.raises(InputError, match=r"names no structures|no layout of 32 structures"):
            segment(drawn_head.image(), model=name)


@pytest.fixture(scope="module")
def brain() -> Path:
    path = DATA / "dev" / "oasis_1000_t1brain.nii.gz"
    if not path.is_file():
        pytest.skip(f"REAL BRAIN NOT SEGMENTED: {path} is missing; set SPIKEREG_DATA")
    try:
        models.find("structures", "spikereg")
    except InputError as error:
        pytest.skip(f"REAL BRAIN NOT SEGMENTED: {error}")
    return path


def manual_labels() -> np.ndarray:
    """[D, H, W] what a person drew in the brain of `brain`, in FreeSurfer's numbers."""
    groups = json.loads((DATA / "dev" / "label_groups.json").read_text())["map"]
    manual = read_labels(DATA / "dev" / "oasis_1000_seg.nii.gz").data.numpy()
    table = np.zeros(manual.max() + 1, int)
    for number, label in groups.items():
        if int(number) < len(table):
            table[int(number)] = label
    return table[manual]


def agree(labels: np.ndarray, truth: np.ndarray) -> None:
    for label in (7, 8, 10, 11, 12, 17, 46, 47, 49, 50, 51, 53):  # both sides
        one, other = labels == label, truth == label
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.6, STRUCTURES[label].name


@pytest.mark.data
@pytest.mark.slow
def test_a_real_brain_is_segmented_like_a_person_did(brain):
    found = segment(brain, threads=1)
    agree(found.labels.data.numpy(), manual_labels())
    assert found.result["tilt_degrees"] < 10 and not any("turned by" in line for line in found.result["warnings"])
    assert found.result["spikes"]["mean_rate"] > 0 and found.result["energy"]["reduction_vs_twin"] > 1


@pytest.mark.data
@pytest.mark.slow
def test_a_brain_that_lies_otherwise_than_its_header_says_is_found_as_it_lies(brain):
    image = read_image(brain)
    found = segment(replace(image, data=image.data.flip(0, 1)), threads=1)
    agree(found.labels.data.numpy(), np.flip(manual_labels(), (0, 1)))
    assert found.result["tilt_degrees"] > 170
    assert any("the head is turned by 17" in line for line in found.result["warnings"])
