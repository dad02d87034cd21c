"""Stages declare what they read and follow: nothing else can be looked at, and nothing is declared in vain."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import SpikeRegLib
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.pipeline import engine, register
from SpikeRegLib.pipeline.plan import PLANS
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.pipeline.stage import Chosen, Stage, Tracked, Undeclared, Work
from SpikeRegLib.presets.preset import METHODS, Preset
from SpikeRegLib.progress import Clock, silent

SAMPLE = Path(SpikeRegLib.__file__).parent / "sample"
STEPS = ["prepare", "align", "predict", "refine", "finish"]
CHOSEN = {"fixed", "moving", "field", "network_file", "fine_network_file", "structures_file", "structures_for"}
KNOWN = CHOSEN | set(OPTIONS) | {f"preset.{field.name}" for field in dataclasses.fields(Preset)}


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_can_be_followed(method):
    plan = PLANS[method]
    steps = [stage.step for stage in plan]
    assert steps == sorted(steps, key=STEPS.index) and set(steps) == set(STEPS)
    before: set[str] = set()
    for stage in plan:
        assert stage.name not in before, "a name belongs to one stage"
        assert set(stage.follows) <= before, f"{stage.name} comes before what it follows"
        assert set(stage.reads) <= KNOWN, f"{stage.name} reads an option that does not exist"
        before.add(stage.name)
    assert plan[-1].name == "registration"


def a_stage(**facts) -> Stage:
    return Stage("this", "refine", lambda work, settings: settings, **facts)


def test_what_a_stage_does_not_declare_it_cannot_read():
    values = {"seed": 3, "threads": 4, "preset.passes": 2, "preset.name": "p"}
    work = Work({"alignment": 1, "prediction": 2}, silent, "this", ("alignment",))
    chosen = Chosen(values, a_stage(reads=("seed", "preset.passes")))
    assert (chosen.seed, chosen.preset.passes, work["alignment"]) == (3, 2, 1)
    for look in (lambda: chosen.threads, lambda: chosen.preset.name, lambda: work["prediction"]):
        with pytest.raises(Undeclared, match="say"):
            look()


def test_a_stage_that_reads_in_secret_stops_the_run(monkeypatch):
    """The check is in every run: here a real method with one declaration taken away."""
    plan = tuple(
        dataclasses.replace(stage, reads=stage.reads[1:]) if stage.name == "refinement" else stage
        for stage in PLANS["optimize"]
    )
    monkeypatch.setitem(engine.PLANS, "optimize", plan)
    with pytest.raises(Undeclared, match="'refinement' reads 'refine_iterations'"):
        register(SAMPLE / "fixed.nii.gz", SAMPLE / "moving.nii.gz", method="optimize", skip_affine=True, threads=1)


def test_a_kept_value_is_never_made_from_one_that_is_not(monkeypatch):
    """Else it would be taken over although that has changed."""
    stages = (
        Stage("given", "prepare", lambda work, settings: 1, kept=False),
        Stage("made", "finish", lambda work, settings: work["given"], follows=("given",)),
    )
    with pytest.raises(Undeclared, match="'given'"):
        engine.run_plan(stages, {}, Clock(silent), Memory())


def test_settings_decide_what_is_taken_over():
    made = []
    stages = (
        Stage("given", "prepare", lambda work, settings: settings["seed"], reads=("seed",), kept=False),
        Stage(
            "odd", "finish", lambda work, odd: made.append(odd) or odd, follows=("given",),
            settings=lambda chosen, work: work["given"] % 2,
        ),
    )  # fmt: skip
    memory = Memory()
    reused = []
    for seed in (1, 3, 4, 4):
        found = engine.run_plan(stages, {"seed": seed}, Clock(silent), memory)
        assert found == {"given": seed, "odd": seed % 2}
        reused.append(list(memory.reused))
    assert made == [1, 0] and reused == [[], ["odd"], [], ["odd"]]


def test_parts_of_another_method_are_forgotten():
    memory = Memory()
    first = (Stage("a", "prepare", lambda *_: 1), Stage("b", "prepare", lambda *_: 2, follows=("a",)))
    engine.run_plan(first, {}, Clock(silent), memory)
    engine.run_plan(first[:1], {}, Clock(silent), memory)
    engine.run_plan(first, {}, Clock(silent), memory)
    assert memory.reused == ["a"]


def test_a_file_is_known_by_its_state_and_a_volume_by_nothing(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"1")
    stage = a_stage(reads=("fixed",))
    first, again = (Chosen({"fixed": str(path)}, stage).fixed for _ in range(2))
    assert first == again and first.given == str(path)
    path.write_bytes(b"12")
    assert Chosen({"fixed": str(path)}, stage).fixed != first
    volume = torch.zeros(2)
    assert Chosen({"fixed": volume}, stage).fixed != Chosen({"fixed": volume}, stage).fixed
    assert Tracked(1, "key") == Tracked(2, "key")


RUNS = (
    {"preset": "fast-preview", "skip_affine": True, "landmark_weight": 0.0},
    {"method": "optimize", "refine_iterations": 1},
    {"preset": "brain", "refine_iterations": 1, "spike_maps": True},
    {"preset": "nephi-fast", "field_iterations": 1, "skip_affine": True},
)


def test_every_stage_reads_all_that_it_declares_and_uses_all_that_it_follows(monkeypatch):
    """What is declared in vain would make things anew for nothing."""
    fixed = read_image(SAMPLE / "fixed.nii.gz")
    middle = torch.from_numpy(fixed.frame.matrix @ np.array([*(n / 2 for n in fixed.frame.size), 1.0]))[None, :3]
    asked = {
        "threads": 1, "region": Volume(torch.ones(fixed.frame.shape).short(), fixed.frame),
        "fixed_points": middle, "moving_points": middle + 1, "landmark_weight": 0.1,
        "fixed_labels": SAMPLE / "fixed_seg.nii.gz", "moving_labels": SAMPLE / "moving_seg.nii.gz",
    }  # fmt: skip
    read, used = defaultdict(set), defaultdict(set)
    look, take = Chosen.__getattr__, Work.__getitem__

    def looked(chosen, name):
        if name != "preset":
            read[chosen._stage.name].add(name)
        return look(chosen, name)

    def taken(work, name):
        used[work.stage].add(name)
        return take(work, name)

    monkeypatch.setattr(Chosen, "__getattr__", looked)
    monkeypatch.setattr(Work, "__getitem__", taken)
    for options in RUNS:
        register(fixed, SAMPLE / "moving.nii.gz", **{**asked, **options})
    for plan in PLANS.values():
        for stage in plan:
            # The name of the preset is read for one message only.
            assert set(stage.reads) - {"preset.name"} <= read[stage.name], stage.name
            assert set(stage.follows) <= used[stage.name], stage.name
