"""nephi and spiking-nephi in `register`: kept as codes that are the transform, counted, guided, and refused clearly."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import brains
import numpy as np
import pytest
import torch
from fields import SHIFT, write_field_preset, write_model

from SpikeRegLib.cli import main
from SpikeRegLib.commands.requests import Request, Understanding
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume, read_image, write_volume
from SpikeRegLib.neural_field.files import read_codes, to_bytes
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.report.figures import key_figures
from SpikeRegLib.report.spikes import energy_part
from SpikeRegLib.space.transforms import AffineTransform, read_transform

COMMON = {"skip_affine": True, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> SimpleNamespace:
    """The bundled fixed image on coarse voxels, the same shifted, presets and models."""
    folder = tmp_path_factory.mktemp("fields")
    fixed = brains.on_grid(brains.sample("fixed"))
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    truth = AffineTransform(matrix)
    for name, volume in (("fixed", fixed), ("moving", brains.carried(fixed, truth))):
        write_volume(volume, folder / f"{name}.nii.gz")
    return SimpleNamespace(
        folder=folder,
        images=(folder / "fixed.nii.gz", folder / "moving.nii.gz"),
        truth=truth,
        points=brains.brain_points(fixed),
        fast=write_field_preset(folder / "fast.toml", "nephi-fast"),
        fitted=write_field_preset(folder / "fitted.toml", "nephi", stages_mm=(8.0,), iterations=5),
        alone=write_field_preset(folder / "alone.toml", "nephi-any-anatomy", 4.0, stages_mm=(16.0,), iterations=5),
        model=write_model(folder / "dense.safetensors"),
        spiking=write_model(folder / "spiking.safetensors", spiking=True),
    )


@pytest.fixture(scope="module")
def run(pair, tmp_path_factory) -> Path:
    """The folder of a run of the command with an encoder and a short optimisation."""
    out = tmp_path_factory.mktemp("run") / "out"
    words = ["register", *map(str, pair.images), "--out", str(out), "--preset", str(pair.fitted), "--skip-affine"]
    words += ["--model", str(pair.model), "--threads", "1", "--device", "cpu", "--progress", "none"]
    assert main(words) == 0
    return out


def test_the_code_file_is_the_transform_bit_for_bit(pair, run):
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    field, codes = result["field"], run / "codes.safetensors"
    assert result["method"] == "nephi" and result["warnings"] == []
    assert field["bytes"] == codes.stat().st_size < 1e6
    assert [stage["spacing_mm"] for stage in field["stages"]] == [8.0]
    assert field["decoders"]["name"] == "dense" and field["optimisation"]["accepted"]
    rebuilt, written = read_codes(codes, model=pair.model), read_transform(run / "transform.h5")
    assert torch.equal(rebuilt.deformation().field, written.transforms[0].field)
    assert brains.error_mm(rebuilt.transform(), pair.truth, pair.points) < 0.35 * np.linalg.norm(SHIFT)
    assert torch.equal(rebuilt.transform().map_points(pair.points), written.map_points(pair.points))


def test_apply_and_export_take_the_code_file(pair, run, tmp_path, capsys):
    fixed, moving = map(str, pair.images)
    codes, model = str(run / "codes.safetensors"), ["--model", str(pair.model)]
    assert main(["apply", codes, moving, str(tmp_path / "warped.nii.gz"), "--reference", fixed, *model]) == 0
    same = read_image(tmp_path / "warped.nii.gz").data
    torch.testing.assert_close(same, read_image(run / "warped.nii.gz").data, rtol=0, atol=0.01)
    assert main(["export", codes, str(tmp_path / "field.nii.gz"), "--spacing", "2.5", *model]) == 0
    exported = read_transform(tmp_path / "field.nii.gz")
    assert exported.frame.spacing == (2.5,) * 3
    assert brains.error_mm(exported, read_transform(run / "transform.h5"), pair.points) < 0.4
    assert main(["apply", codes, moving, str(tmp_path / "no.nii.gz"), "--reference", fixed]) == 2
    assert "codes.safetensors: made with the model dense" in capsys.readouterr().err
    assert (
        main(["apply", str(run / "transform.h5"), moving, str(tmp_path / "no.nii.gz"), "--reference", fixed, *model])
        == 2
    )
    assert "--model: " in capsys.readouterr().err and not (tmp_path / "no.nii.gz").exists()


def test_the_optimisation_comes_closer_than_the_encoder(pair, run):
    fast = register(*pair.images, preset=pair.fast, model=pair.model, **COMMON)
    reached = json.loads((run / "result.json").read_text(encoding="utf-8"))["similarity"]
    before, after = fast.result["similarity"]["lncc_aligned"], fast.result["similarity"]["lncc_after"]
    assert before < after < reached["lncc_after"]
    assert fast.result["field"]["optimisation"] is None and fast.coded is not None
    assert torch.equal(fast.coded.deformation().field, fast.transform.transforms[0].field)


def test_a_spiking_encoder_is_counted_and_its_energy_given(pair):
    found = register(
        *pair.images, preset=pair.fast, method="spiking-nephi", model=pair.spiking, spike_maps=True, **COMMON
    )
    spikes, energy = found.result["spikes"], found.result["energy"]
    assert found.result["method"] == "spiking-nephi" and 0 < spikes["mean_rate"] < 1 and spikes["passes"] == 1
    assert {layer["name"] for layer in spikes["layers"]} == {*found.spike_maps, "head"}
    assert energy["synaptic_ops"] == sum(layer["synaptic_ops"] for layer in spikes["layers"]) > 0
    assert energy["paper_baseline_macs"] > energy["dense_twin_macs"] > energy["analog_macs"] > 0
    assert energy["decoder_macs"] == found.result["field"]["decoder_macs"] > 0
    assert "Decoders of the neural field" in energy_part(found.result) and "decoders aside" in key_figures(found.result)
    assert found.result["similarity"]["lncc_after"] > found.result["similarity"]["lncc_aligned"]


@pytest.mark.slow
def test_a_stiffer_field_bends_less(pair):
    options = {"preset": pair.fitted, "model": pair.model, **COMMON}
    loose, stiff = (register(*pair.images, regularisation=r, **options).result for r in (1.0, 3.0))
    assert stiff["deformation"]["sdlogj"] < 0.97 * loose["deformation"]["sdlogj"]
    assert stiff["refinement"]["regularisation"] == 3.0 and stiff["warnings"] == []


def test_codes_that_make_it_worse_are_dropped_and_said(pair, tmp_path):
    away = write_model(tmp_path / "away.safetensors", sign=-1.0)
    found = register(*pair.images, preset=pair.fast, model=away, **COMMON)
    assert any("codes did not improve the similarity" in line for line in found.result["warnings"])
    assert not bool(found.displacement.any()) and found.coded.stages == ()


@pytest.mark.slow
def test_without_weights_the_field_is_fitted_alone_and_its_file_needs_no_model(pair, tmp_path):
    found = register(*pair.images, preset=pair.alone, **COMMON)
    assert found.result["model"]["name"] is None and found.result["field"]["decoders"] == "in the code file"
    assert found.result["similarity"]["lncc_after"] > found.result["similarity"]["lncc_aligned"] + 0.05
    file = tmp_path / "codes.safetensors"
    file.write_bytes(to_bytes(found.coded))
    assert torch.equal(read_codes(file).deformation().field, found.transform.transforms[0].field)


@pytest.mark.slow
def test_a_region_keeps_what_was_predicted_outside_of_it_and_leaves_no_code_file(pair):
    fixed = read_image(pair.images[0])
    half = torch.zeros(fixed.frame.shape, dtype=torch.int16)
    half[:, :, : half.shape[2] // 2] = 1
    fast = register(*pair.images, preset=pair.fast, model=pair.model, **COMMON)
    found = register(
        *pair.images, preset=pair.fitted, model=pair.model, region=Volume(half, fixed.frame, "half"), **COMMON
    )
    moved = (found.displacement - fast.displacement).norm(dim=0)
    middle = half.shape[2] // 2
    assert float(moved[:, :, middle + 2 :].max()) < 1e-3 < 0.1 < float(moved[:, :, : middle - 4].max())
    assert found.coded is None and found.result["field"]["bytes"] is None
    assert any(line.startswith("codes.safetensors is left out") for line in found.result["warnings"])


@pytest.mark.slow
def test_a_warm_run_begins_with_what_changed(pair):
    memory, options = Memory(), {"preset": pair.fitted, "model": pair.model, **COMMON}
    register(*pair.images, memory=memory, **options)
    again = register(*pair.images, memory=memory, **options)
    assert {"network", "prediction", "field", "refinement"} <= set(again.result["reused"])
    changed = register(*pair.images, memory=memory, field_iterations=3, **options)
    assert "prediction" in changed.result["reused"] and "field" not in changed.result["reused"]
    cold = register(*pair.images, field_iterations=3, **options)
    assert torch.equal(changed.displacement, cold.displacement)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fast-preview", "field_iterations": 3}, "--field-iterations: method spikereg has no neural field"),
        ({"preset": "fast-preview", "field_decoder": True}, "--field-decoder: method spikereg has no neural field"),
        ({"preset": "nephi-any-anatomy", "field_iterations": 0}, "--field-iterations: without a model"),
        ({"preset": "nephi-any-anatomy", "field_seconds": -1.0}, "--field-seconds: must be between"),
        ({"preset": "nephi-any-anatomy", "tile": 64}, "--tile: the encoder of a neural field reads"),
        (
            {"preset": "nephi", "model": "SPIKING"},
            r"spiking\.safetensors: holds .* of kind spiking-field, not field",
        ),
        (
            {"preset": "nephi", "model": "brain-t1"},
            r"brain-t1\.safetensors: holds .* of kind spiking, not field",
        ),
        ({"preset": "brain-t1", "model": "DENSE"}, r"dense\.safetensors: holds a network of kind field, not spiking"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(options, message, pair):
    models = {"SPIKING": pair.spiking, "DENSE": pair.model}
    given = {name: models.get(value, value) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(InputError, match=message):
        register("missing.nii.gz", "missing.nii.gz", **{**COMMON, **given})


def test_the_options_of_a_field_are_keys_of_requests():
    request = {"id": "a", "fixed": "f", "moving": "m", "out": "o", "outputs": ["codes.safetensors"]}
    asked = {"field_iterations": 4, "field_seconds": 2.5, "field_decoder": True, "method": "nephi"}
    found = Understanding()({**request, **asked})
    assert isinstance(found, Request) and found.outputs == ("codes.safetensors",)
    assert {name: getattr(found.options, name) for name in asked} == asked
