"""`spikereg train`: clear refusals, and teacher, conversion, fine-tuning and resume in a few steps from label maps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))
from test_subjects import patches, written

from SpikeRegLib.cli import main
from SpikeRegLib.models import find, load_model, read_header, save_model
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, key
from SpikeRegLib.training.config import load_config
from SpikeRegLib.training.whole import chain


def train(*arguments) -> int:
    try:
        return main(["train", *(str(argument) for argument in arguments)])
    except SystemExit as end:
        return int(end.code or 0)


def train_all(first: str, made: str, folder: Path, *common) -> tuple[Path, Path, Path]:
    """What the first step makes in a folder of its own, what conversion makes of it, and fine-tuning of that."""
    assert train(first, *common, "--out", folder / first, "--no-progress") == 0
    teacher = folder / first / made
    assert train("convert", *common, "--out", folder / "converted", "--teacher", teacher) == 0
    converted = folder / "converted" / "converted.safetensors"
    assert train("finetune", *common, "--out", folder / "tuned", "--model", converted, "--no-progress") == 0
    return teacher, converted, folder / "tuned" / "spiking.safetensors"


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    """Two label maps drawn by hand."""
    folder = tmp_path_factory.mktemp("labels")
    for seed in (0, 1):
        written(folder / f"head_{seed}.nii.gz", patches(seed))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """The shipped recipe with one calibration pair and a checkpoint at every step."""
    file = tmp_path_factory.mktemp("recipe") / "short.toml"
    text = "calibration_pairs = 1\ntimesteps = 4\n"
    for step in ("teacher", "finetune"):
        text += f"[{step}]\nsteps = 2\nwarmup = 1\ncheckpoint_every = 1\nlog_every = 1\nsecond_pass = 0.0\n"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def trained(labels, recipe, tmp_path_factory) -> Path:
    """All three steps, each in its folder."""
    runs = tmp_path_factory.mktemp("runs")
    common = ("--labels", labels, "--recipe", recipe, "--device", "cpu", "--threads", 1)
    assert train("teacher", *common, "--out", runs / "teacher", "--steps", 2, "--no-progress") == 0
    teacher = runs / "teacher" / "teacher.safetensors"
    assert train("convert", *common, "--out", runs / "converted", "--teacher", teacher, "--timesteps", 6) == 0
    converted = runs / "converted" / "converted.safetensors"
    assert train("finetune", *common, "--out", runs / "tuned", "--model", converted, "--steps", 1, "--no-progress") == 0
    return runs


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_three_steps_hand_on_what_they_made(trained):
    teacher, converted, tuned = (
        read_header(trained / name)
        for name in ("teacher/teacher.safetensors", "converted/converted.safetensors", "tuned/spiking.safetensors")
    )
    assert [header.kind for header in (teacher, converted, tuned)] == ["analog", "spiking", "spiking"]
    assert teacher.facts["steps"] == 2 and tuned.facts["steps"] == 1
    assert "2 label maps" in teacher.facts["training_data"] and tuned.facts["before"]["step"] == "convert"
    assert load_model(tuned.path).spec.timesteps == 6
    assert [entry["step"] for entry in log(trained / "teacher")] == [1, 2]
    for entry in log(trained / "teacher") + log(trained / "tuned"):
        assert entry["loss"] == entry["loss"] and 0 <= entry["lncc"] <= 1


def test_one_command_gives_the_weights_of_the_single_steps_and_goes_on_where_it_stopped(labels, tmp_path, capsys):
    loops = "".join(
        f"[{step}]\nsteps = 2\nwarmup = 1\ncheckpoint_every = 1\nlog_every = 1\nsecond_pass = 0.0\n"
        for step in ("teacher", "finetune")
    )
    loops += "[finetune.weights]\nteacher = 0.5\n"
    whole, single = tmp_path / "whole", tmp_path / "single"
    further = f'teacher_goes_on = true\ninitial = "{single / "teacher" / "teacher.safetensors"}"\n'
    fewer_steps = loops.replace("[finetune]\n", "[finetune]\ntimesteps = 2\n")
    (tmp_path / "one.toml").write_text(f'seed = 3\ncalibration_pairs = 1\nthen = "two.toml"\n{loops}', encoding="utf-8")
    (tmp_path / "two.toml").write_text(f"seed = 4\n{further}{fewer_steps}", encoding="utf-8")
    common = ("--labels", labels, "--device", "cpu", "--threads", 1)
    arguments = ("all", *common, "--recipe", tmp_path / "one.toml", "--out", whole, "--no-progress")
    assert train(*arguments) == 0
    assert capsys.readouterr().out.strip() == str(whole / "finetuned-2" / "spiking.safetensors")
    teacher, converted = single / "teacher" / "teacher.safetensors", single / "converted" / "converted.safetensors"
    one = ("--recipe", tmp_path / "one.toml", *common)
    assert train("teacher", *one, "--out", teacher.parent, "--no-progress") == 0
    assert train("convert", *one, "--out", converted.parent, "--teacher", teacher) == 0
    two = ("--recipe", tmp_path / "two.toml", *common)
    assert train("teacher", *two, "--out", single / "teacher-2", "--no-progress") == 0
    tuned, second_teacher = converted, single / "teacher-2" / "teacher.safetensors"
    for name, near in (("one", teacher), ("two", second_teacher)):
        options = ("--recipe", tmp_path / f"{name}.toml", "--model", tuned, "--teacher", near, "--no-progress")
        assert train("finetune", *common, *options, "--out", single / name) == 0
        tuned = single / name / "spiking.safetensors"
    ends = {path: load_model(path).state_dict() for path in (tuned, whole / "finetuned-2" / "spiking.safetensors")}
    first, second = ends.values()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_model(converted).spec.timesteps == 4 and load_model(tuned).spec.timesteps == 2
    assert read_header(tuned).facts["before"]["before"]["step"] == "convert"
    assert read_header(second_teacher).facts["before"] == read_header(teacher).facts
    teachers = [load_model(path / "teacher-2" / "teacher.safetensors").state_dict() for path in (single, whole)]
    assert all(torch.equal(teachers[0][name], teachers[1][name]) for name in teachers[0])

    assert train(*arguments) == 2 and "holds a run already" in capsys.readouterr().err
    for name in ("spiking.safetensors", "checkpoint.safetensors", "log.jsonl"):
        (whole / "finetuned-2" / name).unlink()
    kept = (whole / "finetuned-1" / "log.jsonl").read_bytes()
    assert train(*arguments, "--resume") == 0
    again = load_model(whole / "finetuned-2" / "spiking.safetensors").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert (whole / "finetuned-1" / "log.jsonl").read_bytes() == kept


def test_recipes_that_follow_each_other_in_a_circle_are_refused(labels, tmp_path, capsys):
    for name, then in (("one", "two.toml"), ("two", "one.toml")):
        (tmp_path / f"{name}.toml").write_text(f'then = "{then}"\n', encoding="utf-8")
    arguments = ("all", "--labels", labels, "--recipe", tmp_path / "one.toml", "--out", tmp_path / "out")
    assert train(*arguments) == 2
    assert "follows itself" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_shipped_recipes_lead_to_the_shipped_weights():
    """As many fine-tunings, of as many pairs, as the weights' headers tell of."""
    for name in ("brain-t1", "brain-t1-fine"):
        facts, told = read_header(find(name, "spikereg")).facts, []
        while facts["step"] == "finetune":
            told.append(facts["steps"])
            facts = facts["before"]
        planned = [config.finetune.steps for config in chain(name)]
        assert len(told) == len(planned)
        # The first of brain-t1 was stopped before its end.
        assert told[::-1][1:] == planned[1:] and told[-1] <= planned[0]
        dense, trained = read_header(find(name, "ann")).facts, [config.teacher.steps for config in chain(name)]
        further = [config.teacher_goes_on for config in chain(name)].index(True)
        assert [dense["before"]["steps"], dense["steps"]] == [trained[0], trained[further]]
        sparse, loop = read_header(find(f"{name}-sparse", "spikereg")), load_config(f"{name}-sparse").finetune
        assert (sparse.facts["steps"], load_model(sparse.path).spec.timesteps) == (loop.steps, loop.timesteps)
        assert sparse.facts["before"] == read_header(find(name, "spikereg")).facts


def test_a_finished_run_is_not_overwritten_and_resuming_it_changes_nothing(trained, labels, recipe, capsys):
    common = ("--labels", labels, "--recipe", recipe, "--device", "cpu", "--threads", 1, "--out", trained / "teacher")
    before = (trained / "teacher" / "teacher.safetensors").read_bytes()
    assert train("teacher", *common, "--steps", 2, "--no-progress") == 2
    assert "holds a run already; continue it with --resume" in capsys.readouterr().err
    assert (trained / "teacher" / "teacher.safetensors").read_bytes() == before
    tensors = load_model(trained / "teacher" / "teacher.safetensors").state_dict()
    assert train("teacher", *common, "--steps", 2, "--resume", "--no-progress") == 0
    again = load_model(trained / "teacher" / "teacher.safetensors").state_dict()
    assert all(bool((tensors[name] == again[name]).all()) for name in tensors)
    assert [entry["step"] for entry in log(trained / "teacher")] == [1, 2]
    assert train("teacher", *common, "--steps", 3, "--resume", "--no-progress") == 2
    assert "another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("teacher", "--out", "OUT"), "--labels"),
        (
            ("teacher", "--labels", "LABELS", "--out", "OUT", "--steps", 0),
            "--steps: must be between 1 and 10000000, got 0",
        ),
        (
            ("teacher", "--labels", "LABELS", "--out", "OUT", "--threads", 0),
            "--threads: must be between 1 and 1024, got 0",
        ),
        (("teacher", "--labels", "LABELS", "--out", "OUT", "--steps", "many"), "many"),
        (("teacher", "--labels", "LABELS", "--out", "OUT", "--recipe", "liver"), "recipe 'liver': unknown"),
        (("teacher", "--labels", "nowhere", "--out", "OUT"), "nowhere: 0 label maps found"),
        (("teacher", "--labels", "LABELS", "--out", "OUT", "--resume"), "holds no checkpoint to resume from"),
        (("teacher", "--labels", "LABELS", "--out", "OUT", "--validation", "no.csv"), "no.csv: cannot be read"),
        (("teacher", "--labels", "LABELS", "--out", "A_FILE"), "output folder cannot be written (is a file)"),
        (("convert", "--labels", "LABELS", "--out", "OUT"), "--teacher"),
        (("convert", "--labels", "LABELS", "--out", "OUT", "--teacher", "no.safetensors"), "no.safetensors: cannot be"),
        (
            ("convert", "--labels", "LABELS", "--out", "OUT", "--teacher", "T", "--timesteps", 0),
            "--timesteps: must be between 1 and",
        ),
        (
            ("convert", "--labels", "LABELS", "--out", "OUT", "--teacher", "T", "--percentile", 0),
            "--percentile: must be between",
        ),
        (("finetune", "--labels", "LABELS", "--out", "OUT", "--model", "TEACHER"), "of kind analog, not spiking"),
        (("finetune", "--labels", "LABELS", "--out", "OUT", "--model", "liver"), "model 'liver': not shipped"),
        (
            ("finetune", "--labels", "LABELS", "--out", "OUT", "--model", "brain-t1", "--teacher", "liver"),
            "model 'liver': not shipped",
        ),
    ],
)
def test_arguments_that_cannot_work_are_one_line(arguments, message, trained, labels, tmp_path, capsys):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    places = {
        "OUT": tmp_path / "out",
        "LABELS": labels,
        "A_FILE": tmp_path / "file",
        "TEACHER": trained / "teacher" / "teacher.safetensors",
    }
    assert train(*(places.get(argument, argument) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_manifest_without_its_columns_is_refused(labels, tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("fixed,moving\na,b\n", encoding="utf-8")
    arguments = ("teacher", "--labels", labels, "--out", tmp_path / "out", "--validation", tmp_path / "pairs.csv")
    assert train(*arguments) == 2
    assert "needs the columns fixed, fixed_seg, moving, moving_seg" in capsys.readouterr().err


def test_a_fine_pass_is_trained_on_crops_after_the_coarse_one_and_sees_whole_images_when_shipped(
    trained, labels, tmp_path
):
    coarse = trained / "tuned" / "spiking.safetensors"
    recipe = tmp_path / "fine.toml"
    text = f'network = "velocity-1mm"\ncoarse = "{coarse}"\ncalibration_pairs = 1\n'
    for step in ("teacher", "finetune"):
        text += f"[{step}]\nsteps = 1\nwarmup = 1\nlog_every = 1\nsecond_pass = 0.0\n"
    recipe.write_text(text, encoding="utf-8")
    common = ("--labels", labels, "--recipe", recipe, "--device", "cpu", "--threads", 1)
    teacher, converted, tuned = train_all("teacher", "teacher.safetensors", tmp_path, *common)
    for path in (teacher, converted, tuned):
        spec = load_model(path).spec
        assert spec.name == "velocity-1mm" and spec.standardise and spec.input_spacing_mm == 1.0
    facts = read_header(tmp_path / "tuned" / "spiking.safetensors").facts
    assert facts["coarse_pass"] == coarse.name


def test_a_teacher_goes_on_from_given_weights_of_the_same_layers(trained, labels, tmp_path, capsys):
    teacher = trained / "teacher" / "teacher.safetensors"
    recipe = tmp_path / "on.toml"
    text = f'initial = "{teacher}"\n[teacher]\nsteps = 1\nwarmup = 1\nlog_every = 1\nlearning_rate = 0.0\n'
    recipe.write_text(text, encoding="utf-8")
    common = ("--labels", labels, "--device", "cpu", "--threads", 1, "--no-progress")
    assert train("teacher", *common, "--recipe", recipe, "--out", tmp_path / "out") == 0
    after = load_model(tmp_path / "out" / "teacher.safetensors")
    before = load_model(teacher).state_dict()
    assert all(bool((after.state_dict()[name] == before[name]).all()) for name in before if "weights." in name)
    assert read_header(tmp_path / "out" / "teacher.safetensors").facts["initial_weights"] == teacher.name
    recipe.write_text(f'network = "velocity-1mm"\n{text}', encoding="utf-8")
    capsys.readouterr()
    assert train("teacher", *common, "--recipe", recipe, "--out", tmp_path / "other") == 2
    assert f"initial model {teacher} fits " in capsys.readouterr().err


def test_layers_that_differ_from_the_initial_model_start_anew(trained, labels, tmp_path):
    torch.manual_seed(8)
    before = AnalogUNet(velocity_unet())  # its first kernels are larger than those of the recipe's network
    save_model(before, tmp_path / "initial.safetensors", {})
    recipe = tmp_path / "on.toml"
    text = f'initial = "{tmp_path}/initial.safetensors"\n[teacher]\nsteps = 1\nwarmup = 1\nlearning_rate = 0.0\n'
    recipe.write_text(text, encoding="utf-8")
    common = ("--labels", labels, "--device", "cpu", "--threads", 1, "--no-progress")
    assert train("teacher", *common, "--recipe", recipe, "--out", tmp_path / "out") == 0
    after = load_model(tmp_path / "out" / "teacher.safetensors")
    assert after.spec.layers[0].kernel == 2
    for layer in after.spec.layers[1:]:
        name = f"weights.{key(layer.name)}"
        assert torch.equal(after.state_dict()[name], before.state_dict()[name].half().float()), layer.name


def test_a_recipe_that_stays_near_the_teacher_needs_one(trained, labels, tmp_path, capsys):
    recipe = tmp_path / "near.toml"
    recipe.write_text("[finetune]\nsteps = 1\n[finetune.weights]\nteacher = 1.0\n", encoding="utf-8")
    common = ("--labels", labels, "--recipe", recipe, "--device", "cpu", "--threads", 1, "--no-progress")
    converted = trained / "converted" / "converted.safetensors"
    assert train("finetune", *common, "--out", tmp_path / "out", "--model", converted) == 2
    assert "--teacher: the recipe stays near the dense teacher" in capsys.readouterr().err
    teacher = trained / "teacher" / "teacher.safetensors"
    assert train("finetune", *common, "--out", tmp_path / "out", "--model", converted, "--teacher", teacher) == 0
    assert log(tmp_path / "out")[-1]["teacher_distance"] > 0
