"""What the benchmarks of the neural fields measure, on cases whose figures are known."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))

import consistency_ablation
import field_memory
import field_tables
import field_warps
import methods

from SpikeRegLib.cli import build_parser
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.grids import Grid


def shifting_field(there_mm: float, back_mm: float) -> tuple[NeuralField, Frame, Grid]:
    """A field whose map moves everything along x by `there_mm`, and whose inverse map by `back_mm`."""
    grid = Grid((10, 12, 14), 2.0)
    codes = Codes(torch.zeros(32), torch.zeros(32, 4, 4, 4), Grid((4, 4, 4), 8.0), (13.0, 11.0, 9.0))
    decoders = Decoders(FieldSizes())
    for decoder, shift in ((decoders.forward_map, there_mm), (decoders.inverse_map, back_mm)):
        with torch.no_grad():
            decoder.last.bias[0] = shift / codes.grid.spacing_mm
    return NeuralField(decoders, [codes]), Frame(shape=grid.shape, origin=(0, 0, 0), spacing=(2.0,) * 3), grid


def test_inverse_consistency_is_the_distance_of_going_there_and_back():
    for back_mm, expected in ((-3.0, 0.0), (0.0, 3.0), (1.0, 4.0)):
        field, frame, grid = shifting_field(3.0, back_mm)
        found = consistency_ablation.judged(field, torch.ones(grid.shape, dtype=torch.bool), frame, grid)
        assert found["inverse_consistency_mm"] == pytest.approx(expected, abs=1e-4)
        assert found["folding_percent"] == found["inverse_folding_percent"] == 0
        assert found["sdlogj"] == pytest.approx(0, abs=1e-4)
        assert torch.allclose(found["displacement"][0], torch.tensor(3.0))


def test_the_error_of_a_warp_is_the_distance_from_the_true_displacement():
    for found_mm, expected in ((3.0, 0.0), (1.0, 2.0)):
        field, _, grid = shifting_field(found_mm, 0.0)
        truth = torch.zeros(3, *grid.shape)
        truth[0] = 3.0
        errors = field_warps.errors(field, truth, torch.ones(grid.shape, dtype=torch.bool), grid, 0)
        assert errors["after_mm"] == pytest.approx(expected, abs=1e-4)
        assert errors["after_p95_mm"] == pytest.approx(expected, abs=1e-4)
        assert (errors["folding_percent"], errors["jacobian_min"]) == (0, pytest.approx(1, abs=1e-4))


@pytest.mark.parametrize("name", field_warps.WARPS)
def test_a_known_warp_is_as_long_as_it_says_and_the_pair_shows_it(name, monkeypatch):
    frame = Frame(shape=(40, 44, 48), origin=(0, 0, 0), spacing=(4.0,) * 3)
    z, y, x = torch.meshgrid(*(torch.arange(n) - n / 2 for n in frame.shape), indexing="ij")
    image = (1 - (z**2 + y**2 + x**2).sqrt() / 16).clamp_min(0)
    truth = field_warps.true_displacement(name, frame, image, 1)
    length = field_warps.largest(name, 4.0)
    assert truth.norm(dim=0)[image > field_warps.NOISE].max() == pytest.approx(length, rel=1e-4)
    assert length == pytest.approx({"10 mm": 10, "30 mm": 30}.get(name, 80))
    monkeypatch.setattr(field_warps, "NOISE", 0.0)
    fixed, moving = field_warps.pair_of(image, truth, 4.0, 1)
    assert torch.allclose(warp(moving[None, None], truth[None] / 4.0)[0, 0], fixed, atol=1e-6)
    assert (moving - fixed).abs().max() > 0.05


def test_the_ablation_changes_the_weight_of_one_term_and_nothing_else():
    options = Namespace(steps=30, initial=None)
    with_term, without = (asdict(consistency_ablation.recipe(options, weight)) for weight in (3.0, 0.0))
    assert with_term["field_weights"].pop("consistency") == 3.0
    assert without["field_weights"].pop("consistency") == 0.0
    assert with_term == without
    assert with_term["teacher"]["steps"] == 30


def test_a_halved_encoder_gives_the_codes_of_the_image_at_twice_the_voxel_size():
    torch.manual_seed(0)
    halved = field_memory.build(field_memory.Case("field-codes-2mm", field=True, halved=True)).eval()
    image = torch.rand(1, 2, 32, 32, 32)
    with torch.no_grad():
        found = halved.encode(image, spacing_mm=1.0)
        expected = FieldNetwork.encode(halved, torch.nn.functional.avg_pool3d(image, 2), spacing_mm=2.0)
    assert found.grid == expected.grid
    assert torch.equal(found.local, expected.local)


def test_the_papers_points_are_two_percent_of_the_voxels_but_not_more_than_a_hundred_thousand():
    case = field_memory.Case("field-codes-2mm", field=True, paper=True)
    for shape, points in (((80, 96, 112), 0.02 * 80 * 96 * 112), ((256, 256, 256), 100_000)):
        weights = field_memory.weights_of(case, shape)
        assert weights.cubes * weights.cube**3 == pytest.approx(points, rel=0.1)
    assert field_memory.build(case).options.width == 128


def test_peak_memory_keeps_what_was_freed():
    before = field_memory.status_mb("VmRSS")
    torch.ones(50 * 2**18)  # 50 MB, gone at once
    assert field_memory.status_mb("VmHWM") >= before + 45


@pytest.mark.parametrize("name", list(field_memory.CASES))
def test_a_measured_training_step_trains(name):
    case = field_memory.CASES[name]
    made = []
    build = field_memory.build
    field_memory.build = lambda case: made.append(build(case)) or made[-1]
    try:
        run = field_memory.training(case, (64,) * 3 if case.halved else (32,) * 3, 1)
    finally:
        field_memory.build = build
    before = [parameter.detach().clone() for parameter in made[0].parameters()]
    run()
    changed = sum(not torch.equal(a, b) for a, b in zip(before, made[0].parameters(), strict=True))
    assert changed > 0.5 * len(before)


def test_every_method_is_a_command_that_register_takes():
    for method in methods.METHODS.values():
        command = ["register", "a.nii", "b.nii", "--out", "c", *method.command()]
        assert build_parser(command).parse_args(command).preset == method.preset


def test_a_method_without_preset_or_weights_is_left_out_with_the_reason(tmp_path, monkeypatch, capsys):
    own = tmp_path / "own.toml"
    text = (methods.PRESET_FOLDER / "brain-t1.toml").read_text().replace('model = "brain-t1"', 'model = "nobodys"')
    own.write_text(text)
    known = {"no preset": methods.Method("nothing"), "no weights": methods.Method(str(own))}
    monkeypatch.setattr(methods, "METHODS", known)
    monkeypatch.setattr(sys, "argv", ["methods.py", "--methods", *known, "--out", str(tmp_path / "out.json")])
    methods.main()
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["methods"] == {}
    assert "'nothing': unknown" in written["left_out"]["no preset"]
    assert "'nobodys': not shipped" in written["left_out"]["no weights"]
    assert "no weights: left out" in capsys.readouterr().out


def test_needed_names_the_files_of_both_passes():
    _, files = methods.needed(methods.METHODS["dense network alone (ann)"])
    assert [file.name for file in files] == ["brain-t1-teacher.safetensors", "brain-t1-fine-teacher.safetensors"]
    assert methods.needed(methods.METHODS["optimize"])[1] == []
    with pytest.raises(InputError, match="unknown"):
        methods.needed(methods.Method("nothing"))


def test_the_memory_table_says_whether_the_claim_holds(monkeypatch):
    def row(network: str, beyond: float) -> dict:
        figures = {"imports_mb": 300, "peak_mb": 300 + beyond, "beyond_mb": beyond, "cpu_s": 1.0}
        return {"network": network, "task": "train", "spacing_mm": 2, "shape": [8, 8, 8], **figures}

    for field_mb, words in ((190.0, "is reached"), (210.0, "is not reached")):
        rows = [row("neural field", field_mb), row("a U-Net", 1000.0), row("another", 2000.0)]
        data = {"threads": 1, "steps": 2, "claim": 0.2, "rows": rows}
        monkeypatch.setattr(field_tables, "read", lambda name, data=data: data)
        text = field_tables.memory_table()
        assert f"{field_mb / 1000:.2f} of a U-Net, {field_mb / 2000:.2f} of another" in text
        assert words in text
