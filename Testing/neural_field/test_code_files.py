"""Code files: the same displacement bit for bit after reading, small, and refused by name where they do not fit."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from field_examples import FRAME, SMALL, moving_decoders, random_codes, random_points
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.models import save_model, sha256
from SpikeRegLib.neural_field.coded import CodedDeformation, ModelIdentity, between, rounded, scaled
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.files import read_codes, write_codes
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform
from SpikeRegLib.spiking.spec import code_unet
from SpikeRegLib.spiking.unet import AnalogUNet

MODEL_OPTIONS = FieldSizes(global_size=4, local_size=32, frequencies=8, width=16)


def coded_of(decoders: Decoders, options: FieldSizes, *, seed: int = 0, **changes) -> CodedDeformation:
    """Two stages on the small frame, a turned and shifted base, a second reading of the Jacobian."""
    base = np.array([[0.99, 0.02, 0.0, 1 / 3], [-0.02, 1.01, 0.0, -7.25], [0.0, 0.0, 0.9, 1e-3], [0, 0, 0, 1]])
    codes = tuple(rounded(random_codes(s, seed=seed + n, options=options)) for n, s in enumerate((16.0, 8.0)))
    whole = CodedDeformation(
        decoders=decoders,
        stages=codes,
        frame=Frame(FRAME.shape, (0.1, -2.0, 3.0), (1.0, 1.0, 1.0)),
        taper_mm=4.0,
        base=AffineTransform(base),
        itk_jacobian=torch.diag(torch.tensor([-1.0, 1.0, 1.0])),
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A field model whose decoders move points."""
    torch.manual_seed(2)
    network = FieldNetwork(AnalogUNet(code_unet()), MODEL_OPTIONS)
    network.decoders.load_state_dict(moving_decoders(options=MODEL_OPTIONS).state_dict())
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    save_model(network, path, {})
    return path


@pytest.fixture
def of_model(model) -> CodedDeformation:
    decoders = moving_decoders(options=MODEL_OPTIONS)
    return coded_of(decoders, MODEL_OPTIONS, model=ModelIdentity(model.stem, sha256(model)))


def assert_same_map(first: CodedDeformation, second: CodedDeformation) -> None:
    """Bit for bit."""
    assert torch.equal(first.deformation().field, second.deformation().field)
    assert (first.base.matrix == second.base.matrix).all() and first.frame == second.frame
    points = random_points(50, seed=3)
    assert torch.equal(first.transform().map_points(points), second.transform().map_points(points))


def test_a_file_with_its_decoders_rebuilds_the_same_map(tmp_path):
    coded = coded_of(moving_decoders(), SMALL)
    write_codes(coded, tmp_path / "codes.safetensors")
    again = read_codes(tmp_path / "codes.safetensors")
    assert float(coded.deformation().field.norm(dim=0).max()) > 1
    assert_same_map(coded, again)
    assert torch.equal(again.displacement(Grid((9, 9, 9), 4.0)), coded.displacement(Grid((9, 9, 9), 4.0)))


def test_a_file_without_decoders_takes_them_from_its_model(of_model, model, tmp_path):
    file = tmp_path / "codes.safetensors"
    write_codes(of_model, file)
    assert_same_map(of_model, read_codes(file, model=model))
    assert b"last.weight" not in file.read_bytes()
    with pytest.raises(InputError, match=r"codes\.safetensors: made with the model mine \(sha256 .*which is not here"):
        read_codes(file)
    (tmp_path / "mine.safetensors").write_bytes(model.read_bytes())
    assert_same_map(of_model, read_codes(file))  # found beside it


def test_another_model_is_refused_by_name(of_model, model, tmp_path):
    file, other = tmp_path / "codes.safetensors", tmp_path / "other.safetensors"
    write_codes(of_model, file)
    save_model(FieldNetwork(AnalogUNet(code_unet()), MODEL_OPTIONS), other, {})
    with pytest.raises(InputError, match=r"codes.*made with the model mine .*not with .*other\.safetensors"):
        read_codes(file, model=other)
    other.rename(tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match=r"made with the model mine .*another one than .*mine\.safetensors"):
        read_codes(file)


def test_a_field_is_sampled_at_any_spacing_from_the_codes_and_not_from_its_grid():
    coded = coded_of(moving_decoders(), SMALL, itk_jacobian=None, taper_mm=1e-3)
    fine = coded.deformation(0.5)
    assert fine.frame.spacing == (0.5,) * 3 and fine.frame.origin == coded.frame.origin
    field = NeuralField(coded.decoders, coded.stages)
    index = torch.tensor([[21, 33, 15], [11, 5, 47]])  # (z, y, x), between the nodes of the 1 mm grid
    position = index.flip(1) * 0.5
    found = fine.field[:, index[:, 0], index[:, 1], index[:, 2]].t()
    torch.testing.assert_close(found, field.points(position) - position, atol=1e-4, rtol=0)


@pytest.mark.parametrize("largest", [127.0, 126.4, 64.0, 63.5, 1e-3, 3e4])
def test_rounding_twice_is_rounding_once_and_loses_less_than_a_hundredth(largest):
    codes = random_codes(8.0, seed=4)
    codes.local.mul_(largest / codes.local.abs().amax((1, 2, 3), keepdim=True))
    codes.local[0] = 0.0
    once = rounded(codes)
    assert torch.equal(rounded(once).local, once.local) and torch.equal(rounded(once).overall, once.overall)
    assert 0 < float((once.local - codes.local).abs().max()) <= 0.0079 * largest


def test_the_identity_needs_no_codes(tmp_path):
    nothing = coded_of(moving_decoders(), SMALL, stages=())
    write_codes(nothing, tmp_path / "codes.safetensors")
    assert not bool(read_codes(tmp_path / "codes.safetensors").deformation().field.any())


def test_a_brain_takes_less_than_two_megabytes(tmp_path):
    brain = Grid((192, 224, 192), 1.0)
    options = FieldSizes()
    stages = tuple(random_codes(s, seed=0, options=options, frame=brain) for s in (32.0, 16.0, 8.0))
    write_codes(coded_of(Decoders(options), options, stages=stages), tmp_path / "codes.safetensors")
    assert (tmp_path / "codes.safetensors").stat().st_size < 2e6


def test_between_two_deformations_the_ends_are_themselves():
    first, second = (coded_of(moving_decoders(), SMALL, seed=seed) for seed in (0, 10))
    assert_same_map(between(first, second, 0.0), first)
    assert_same_map(between(first, second, 1.0), second)
    middle = between(first, second, 0.5).displacement()
    assert not torch.equal(middle, first.displacement())
    assert_same_map(scaled(first, 1.0), first)
    assert not bool(scaled(first, 0.0).displacement().any())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-7], "truncated"),
        (lambda content: content[:5], "truncated or not a safetensors file"),
        (lambda content: pickle.dumps([1, 2]), "a pickle, which can run code and is never loaded"),
        (lambda content: content.replace(b"spikereg-codes-1", b"spikereg-codes-9"), "not a SpikeReg code file"),
        (lambda content: content.replace(b"stages.1.local", b"stages.7.local"), "its codes do not fit its header"),
        (lambda content: content.replace(b"[6, 6, 5]", b"[6, 6, 9]"), "codes of other sizes"),
    ],
)
def test_a_spoilt_file_is_refused_by_name(spoil, message, tmp_path):
    file = tmp_path / "codes.safetensors"
    write_codes(coded_of(moving_decoders(), SMALL), file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        read_codes(file)
    assert "codes.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_is_no_code_file(model):
    with pytest.raises(InputError, match=r"mine\.safetensors: a model, not a code file"):
        read_codes(model)


DAMAGES = {
    "spacing": ("frame.spacing", [1e-9] * 3),
    "spacing beyond": ("frame.spacing", [1e30] * 3),
    "two spacings": ("frame.spacing", [1.0, 1.0]),
    "spacing of text": ("frame.spacing", ["1", "1", "1"]),
    "shape": ("frame.shape", [30_000] * 3),
    "fraction of a voxel": ("frame.shape", [24.5, 32, 32]),
    "origin": ("frame.origin", [0, 0, 1e30]),
    "direction": ("frame.direction", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "taper": ("taper_mm", 1e30),
    "base": ("base", [[1e30, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "projective base": ("base", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]),
    "reading": ("itk_jacobian", [[1, 0], [0, 1]]),
    "no reading": ("itk_jacobian", 1e30),
    "layers": ("options.hidden_layers", 1_000_000),
    "width": ("options.width", 10**40),
    "weights": ("options.width", 4096),
    "omega": ("options.first_omega", 0.0),
    "codes": ("stages.0.shape", [30_000] * 3),
    "stage spacing": ("stages.0.spacing_mm", 1e-9),
    "stage offset": ("stages.0.offset_mm", [0, 0, None]),
    "centre": ("stages.0.centre_mm", [0, 0, -1e30]),
    "stages": ("stages", 7),
    "frame": ("frame", None),
}


def damaged(source: Path, target: Path, change) -> Path:
    """The code file with another header and tensors, as `change(facts, tensors)` makes them."""
    with safe_open(str(source), "pt") as file:
        metadata = file.metadata()
    facts, tensors = json.loads(metadata["deformation"]), load_file(str(source))
    text = change(facts, tensors)
    save_file(tensors, target, {**metadata, "deformation": text or json.dumps(facts)})
    return target


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_number_out_of_range_is_refused_by_name_before_memory_is_taken(damage, tmp_path, monkeypatch):
    place, value = DAMAGES[damage]
    write_codes(coded_of(moving_decoders(), SMALL), tmp_path / "codes.safetensors")

    def change(facts, tensors):
        *way, last = place.split(".")
        for step in way:
            facts = facts[int(step)] if isinstance(facts, list) else facts[step]
        facts[last] = value

    file = damaged(tmp_path / "codes.safetensors", tmp_path / "bad.safetensors", change)
    monkeypatch.setattr(torch, "frombuffer", lambda *_, **__: pytest.fail("codes were unpacked"))
    with pytest.raises(InputError) as caught:
        read_codes(file)
    message = str(caught.value)
    assert (
        message.startswith(f"{file}: its codes do not fit its header (") and "\n" not in message and len(message) < 400
    )
    if "." in place:
        assert place.rpartition(".")[2] in message or "weights" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("name", ["stages.0.overall", "stages.1.step", "decoders.forward_map.last.weight"])
def test_a_tensor_with_a_value_beyond_any_use_is_refused_by_name(name, value, tmp_path):
    write_codes(coded_of(moving_decoders(), SMALL), tmp_path / "codes.safetensors")

    def change(facts, tensors):
        tensors[name] = tensors[name].float()
        tensors[name].view(-1)[0] = value

    file = damaged(tmp_path / "codes.safetensors", tmp_path / "bad.safetensors", change)
    with pytest.raises(InputError, match=rf"bad\.safetensors: .*tensor {name}: must be between"):
        read_codes(file)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"options": NaN}', "7", "null", "{}"])
def test_a_header_that_is_no_description_is_refused_in_one_line(text, tmp_path):
    write_codes(coded_of(moving_decoders(), SMALL), tmp_path / "codes.safetensors")
    file = damaged(tmp_path / "codes.safetensors", tmp_path / "bad.safetensors", lambda *_: text)
    with pytest.raises(InputError, match="its codes do not fit its header") as caught:
        read_codes(file)
    assert "\n" not in str(caught.value)
