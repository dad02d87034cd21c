"""What a worker keeps of the last run: the next one recomputes what a change concerns, and gives the cold result."""

from __future__ import annotations

import os
from collections import ChainMap
from types import SimpleNamespace

import brains
import pytest
import torch

from SpikeRegLib.errors import Cancelled
from SpikeRegLib.images.points import write_points
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.recall import Memory, file_key
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.space.transforms import AffineTransform, write_transform

OF_THIS_RUN = ("timing_s", "cpu_s", "peak_memory_mb", "reused")
FILES = {"fixed image", "moving image", "fixed segmentation", "moving segmentation"}
MASKS = {"fixed input", "moving input", "fixed mask", "moving mask"}
COMPUTED = {"alignment", "working pair", "prediction", "refinement", "mapping", "overlap", "predicted error"}
EVERYTHING = FILES | MASKS | COMPUTED


@pytest.fixture(scope="module")
def pair(tmp_path_factory, known, quick) -> SimpleNamespace:
    """The small pair as files, with what belongs to it."""
    folder = tmp_path_factory.mktemp("pair")
    for name, volume in (("fixed", known.fixed), ("moving", known.moving)):
        write_volume(volume, folder / f"{name}.nii.gz")
        inside = Volume((volume.data > 20).short(), volume.frame)
        write_volume(inside, folder / f"{name}_mask.nii.gz")
        write_volume(Volume((volume.data > 60).short(), volume.frame), folder / f"{name}_seg.nii.gz")
    half = (known.fixed.data > 20) & (torch.arange(known.fixed.frame.shape[2]) > known.fixed.frame.shape[2] // 2)
    write_volume(Volume(half.short(), known.fixed.frame), folder / "region.nii.gz")
    write_points(known.points[:5], folder / "fixed.csv")
    write_points(known.truth.map_points(known.points[:5]), folder / "moving.csv")
    write_points(known.truth.map_points(known.points[:5]) + 1.0, folder / "moved.csv")
    write_transform(known.truth.transforms[1], folder / "start.tfm")
    options = {
        "preset": quick, "skip_affine": True, "refine_iterations": 3, "threads": 1, "device": "cpu",
        "fixed_labels": folder / "fixed_seg.nii.gz", "moving_labels": folder / "moving_seg.nii.gz",
        "fixed_points": folder / "fixed.csv", "moving_points": folder / "moving.csv",
    }  # fmt: skip
    return SimpleNamespace(
        folder=folder, fixed=folder / "fixed.nii.gz", moving=folder / "moving.nii.gz", options=options
    )


@pytest.fixture(scope="module")
def memory(pair) -> Memory:
    """Of a first run."""
    memory = Memory()
    first = register(pair.fixed, pair.moving, memory=memory, **pair.options)
    assert first.result["reused"] == []
    return memory


def assert_same(warm: Registration, cold: Registration) -> None:
    """Bit for bit, but for what tells of the run itself."""
    results = [{k: v for k, v in run.result.items() if k not in OF_THIS_RUN} for run in (warm, cold)]
    assert results[0] == results[1]
    assert torch.equal(warm.displacement, cold.displacement)
    for name in ("warped", "jacobian", "warped_labels"):
        volumes = getattr(warm, name), getattr(cold, name)
        assert torch.equal(volumes[0].data, volumes[1].data) and volumes[0].frame == volumes[1].frame, name
    points = brains.brain_points(cold.fixed, 50)
    assert torch.equal(warm.inverse.map_points(points), cold.inverse.map_points(points))
    assert warm.spike_maps.keys() == cold.spike_maps.keys()
    assert all(torch.equal(volume.data, cold.spike_maps[layer].data) for layer, volume in warm.spike_maps.items())


CHANGES = {
    "nothing": ({}, set()),
    "other landmarks": ({"moving_points": "moved.csv"}, set()),
    "other regularisation": ({"regularisation": 2.0}, {"refinement", "mapping", "overlap", "predicted error"}),
    "other refine_iterations": ({"refine_iterations": 2}, {"refinement", "mapping", "overlap", "predicted error"}),
    "region": ({"region": "region.nii.gz"}, {"refinement", "mapping", "overlap", "predicted error"}),
    "landmarks that pull": ({"landmark_weight": 0.05}, {"mapping", "overlap", "predicted error"}),
    "other mask": ({"fixed_mask": "fixed_mask.nii.gz"}, {"fixed input", "fixed mask"} | COMPUTED),
    "other segmentation": ({"moving_labels": "moving_mask.nii.gz"}, {"moving segmentation", "overlap"}),
    "initial transform": ({"initial_transform": "start.tfm", "skip_affine": False}, {"initial transform"} | COMPUTED),
    "swapped": ({"fixed": "moving.nii.gz", "fixed_labels": "moving_seg.nii.gz", "fixed_points": "moving.csv"},
                {"fixed image", "fixed input", "fixed mask", "fixed segmentation"} | COMPUTED),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_recomputes_what_it_concerns_and_gives_the_cold_result(pair, memory, change):
    changed, anew = CHANGES[change]
    given = {k: pair.folder / v if isinstance(v, str) else v for k, v in changed.items()}
    options = dict(ChainMap(given, {"fixed": pair.fixed, "moving": pair.moving}, pair.options))
    register(pair.fixed, pair.moving, memory=memory, **pair.options)  # whatever the test before it left
    warm = register(memory=memory, **options)
    assert set(warm.result["reused"]) == EVERYTHING - anew
    assert_same(warm, register(**options))


def test_another_seed_aligns_anew(pair):
    options = {**pair.options, "skip_affine": False, "refine_iterations": 0}
    memory = Memory()
    register(pair.fixed, pair.moving, memory=memory, **options)
    warm = register(pair.fixed, pair.moving, memory=memory, **options, seed=5)
    assert set(warm.result["reused"]) == FILES | MASKS
    assert_same(warm, register(pair.fixed, pair.moving, **options, seed=5))


def test_a_network_its_time_steps_and_its_maps_are_kept_apart(pair):
    options = {**pair.options, "preset": "fast-preview", "refine_iterations": None}
    memory = Memory()
    register(pair.fixed, pair.moving, memory=memory, **options)
    later = {"prediction", "refinement", "mapping", "overlap", "predicted error"}
    again = register(pair.fixed, pair.moving, memory=memory, **options, regularisation=2.0)
    assert set(again.result["reused"]) == EVERYTHING | {"network"}  # nothing to regularise: the deformation stays
    assert_same(again, register(pair.fixed, pair.moving, **options, regularisation=2.0))
    mapped = register(pair.fixed, pair.moving, memory=memory, **options, spike_maps=True)
    assert set(mapped.result["reused"]) == (EVERYTHING | {"network"}) - later
    fewer = register(pair.fixed, pair.moving, memory=memory, **options, timesteps=2)
    assert set(fewer.result["reused"]) == EVERYTHING - later
    assert_same(fewer, register(pair.fixed, pair.moving, **options, timesteps=2))


def test_a_file_of_the_same_size_that_changed_is_read_again(pair, known, tmp_path):
    moving, other = tmp_path / "moving.nii", tmp_path / "other.nii"
    write_volume(known.moving, moving)
    write_volume(known.fixed, other)
    assert moving.stat().st_size == other.stat().st_size
    changed = moving.stat().st_mtime_ns + 1
    memory = Memory()
    register(pair.fixed, moving, memory=memory, **pair.options)
    moving.write_bytes(other.read_bytes())
    os.utime(moving, ns=(0, changed))
    warm = register(pair.fixed, moving, memory=memory, **pair.options)
    assert set(warm.result["reused"]) == {"fixed image", "fixed input", "fixed mask", "fixed segmentation"}
    assert_same(warm, register(pair.fixed, moving, **pair.options))


def test_path_size_and_time_of_change_each_make_another_file(tmp_path):
    file, twin = tmp_path / "image.nii", tmp_path / "twin.nii"
    for path, content, changed in ((file, b"12", 5), (twin, b"12", 5)):
        path.write_bytes(content)
        os.utime(path, ns=(0, changed))
    keys = [file_key(file), file_key(twin)]
    os.utime(file, ns=(0, 6))
    keys.append(file_key(file))
    file.write_bytes(b"123")
    os.utime(file, ns=(0, 5))
    keys.append(file_key(file))
    assert len(set(keys)) == 4
    file.write_bytes(b"12")
    os.utime(file, ns=(7, 5))
    assert file_key(file) == keys[0] == file_key(str(file))


def test_after_a_cancel_what_was_finished_is_taken_up(pair):
    memory = Memory()

    def stop(progress):
        if progress.stage == "refine":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        register(pair.fixed, pair.moving, memory=memory, listener=stop, **pair.options)
    warm = register(pair.fixed, pair.moving, memory=memory, **pair.options)
    assert set(warm.result["reused"]) == FILES | MASKS | {"alignment", "working pair", "prediction"}
    assert_same(warm, register(pair.fixed, pair.moving, **pair.options))


def test_stages_taken_over_cost_no_time_of_this_run(pair, memory):
    register(pair.fixed, pair.moving, memory=memory, **pair.options)
    result = register(pair.fixed, pair.moving, memory=memory, **pair.options).result
    assert result["timing_s"]["total"] == pytest.approx(sum(result["timing_s"].values()) / 2)
    assert {"alignment", "prediction", "refinement"} <= set(result["reused"])


def test_parts_fall_with_what_they_were_made_from():
    memory, made = Memory(), []

    def recall(name, key=(), after=()):
        return memory.recall(name, lambda: made.append(name) or name, key=key, after=after)

    def run(a=0, b=0):
        made.clear()
        memory.begin()
        recall("a", a), recall("b", b), recall("c", after=("a",)), recall("d", after=("c", "b"))
        return list(made)

    assert run() == ["a", "b", "c", "d"]
    assert run() == [] and memory.reused == ["a", "b", "c", "d"]
    assert run(b=1) == ["b", "d"]
    assert run(a=1, b=1) == ["a", "c", "d"]
    with pytest.raises(ZeroDivisionError):
        memory.recall("a", lambda: 1 // 0, key=2)
    assert run(a=1, b=1) == ["a", "c", "d"]  # the failed part took what depended on it along


def test_what_is_not_one_whole_file_is_never_known(tmp_path):
    header = tmp_path / "image.nhdr"
    header.write_text("NRRD0004\ndata file: image.raw\n")
    detached = tmp_path / "image.nrrd"
    detached.write_bytes(b"NRRD0004\nencoding: raw\ndata file: image.raw\n\n")
    attached = tmp_path / "whole.nrrd"
    attached.write_bytes(b"NRRD0004\nencoding: raw\n\n" + bytes(100))
    for source in (header, detached, tmp_path / "missing.nii", AffineTransform(torch.eye(4).numpy())):
        assert file_key(source) != file_key(source)
    assert file_key(attached) == file_key(attached)
    assert file_key(None) == file_key(None)
