"""Model files: what is written is read back, and everything else is refused with one line that says what it is."""

from __future__ import annotations

import json
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from SpikeRegLib.errors import InputError
from SpikeRegLib.models import load_model, read_header, save_model
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet

SPEC = velocity_unet("tiny", encoder=(4, 4, 4, 4), decoder=(4, 4, 4))
FACTS = {"steps": 12, "seed": 3, "data": ["a", "b"], "figures": {"dice": 0.5}}


def network_of(kind: str) -> RegistrationUNet:
    torch.manual_seed(2)
    network: RegistrationUNet = SpikingUNet(SPEC) if kind == "spiking" else AnalogUNet(SPEC)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if kind == "analog":
        network.train()
        network(torch.rand(1, 2, 32, 32, 32))
    return network.eval()


@pytest.fixture
def a_model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(network_of("spiking"), path, FACTS)
    return path


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "; " in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", ["spiking", "analog"])
def test_round_trip(kind: str, tmp_path: Path) -> None:
    network, path = network_of(kind), tmp_path / "new" / "model.safetensors"
    save_model(network, path, FACTS)
    loaded = load_model(path, kind=kind)
    assert type(loaded) is type(network) and not loaded.training
    assert loaded.spec == SPEC
    before = network.state_dict()
    for name, value in loaded.state_dict().items():
        if name.startswith("weights."):  # stored in half precision
            torch.testing.assert_close(value, before[name], rtol=2**-11, atol=1e-7)
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(value, before[name]), name
    # What was stored is stored again to the last bit.
    again = path.with_name("again.safetensors")
    save_model(loaded, again, FACTS)
    first, second = load_file(path), load_file(again)
    assert first.keys() == second.keys() and all(torch.equal(second[name], first[name]) for name in first)
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_the_loaded_network_computes_the_same(tmp_path: Path) -> None:
    network, path, x = network_of("analog"), tmp_path / "model.safetensors", torch.rand(1, 2, 16, 16, 16)
    save_model(network, path, FACTS)
    with torch.no_grad():
        wanted, got = network(x), load_model(path)(x)
    assert float((got - wanted).norm() / wanted.norm()) < 2e-3


def test_the_header_tells_what_the_file_holds(a_model: Path) -> None:
    header = read_header(a_model)
    assert (header.path, header.kind, header.spec, header.facts) == (a_model, "spiking", "tiny", FACTS)
    assert json.loads(header.spec_json)["timesteps"] == 4


def test_the_header_is_read_without_torch(a_model: Path) -> None:
    code = (
        "import sys; from SpikeRegLib.models import read_header; "
        f"print(read_header({str(a_model)!r}).spec, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["tiny", "False"]


def test_other_time_steps_are_set_on_loading(a_model: Path) -> None:
    assert load_model(a_model, timesteps=8).spec.timesteps == 8


def test_a_model_of_the_other_kind_is_refused(a_model: Path) -> None:
    assert refusal(a_model, kind="analog").startswith("holds a network of kind spiking, not analog")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.safetensors").startswith("cannot be read (No such file")


@pytest.mark.parametrize("kept", [0, 5, 8, 9, 100, -1])
def test_a_truncated_file_is_refused(kept: int, a_model: Path) -> None:
    a_model.write_bytes(a_model.read_bytes()[:kept])
    assert refusal(a_model).startswith("truncated")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "checkpoint.safetensors"
    torch.save({"weights": torch.zeros(3), "trap": Trap()}, path)
    assert "a pickle" in refusal(path)
    torch.save({"weights": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    assert "a pickle" in refusal(path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Trap(), protocol))
        assert refusal(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50])
def test_a_header_length_that_looks_like_a_pickle_is_not_one(length: int, tmp_path: Path, a_model: Path) -> None:
    """Its first bytes are those of pickle protocol 2, 4 and of a zip file."""
    content = a_model.read_bytes()
    old = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + old].rstrip()
    while length < len(header):
        length += 0x10000
    a_model.write_bytes(struct.pack("<Q", length) + header.ljust(length) + content[8 + old :])
    assert read_header(a_model).spec == "tiny"


def test_another_librarys_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2, 2)}, path)
    assert refusal(path).startswith("not a SpikeReg model")
    save_file({"weight": torch.zeros(2, 2)}, path, metadata={"format": "pt"})
    assert refusal(path).startswith("not a SpikeReg model")


def test_text_and_foreign_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    for content in (b"just some text, long enough", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 7) + b'{"a":1}'):
        path.write_bytes(content)
        assert re.match("truncated or not a safetensors file|not a SpikeReg model", refusal(path))


def rewrite(path: Path, *, tensors: dict[str, torch.Tensor] | None = None, **metadata: str | None) -> None:
    """The same file with some tensors or header entries replaced (None removes)."""
    header = read_header(path)
    facts = {"format": "spikereg-model-1", "kind": header.kind, "spec": header.spec_json, "facts": "{}"}
    kept = {name: value for name, value in {**facts, **metadata}.items() if value is not None}
    save_file({**load_file(path), **(tensors or {})}, path, metadata=kept)


@pytest.mark.parametrize("entry", ["spec", "facts"])
def test_a_header_without_its_entries_is_refused(entry: str, a_model: Path) -> None:
    rewrite(a_model, **{entry: None})
    assert refusal(a_model).startswith("its header lacks the spec or the facts")


def test_a_spec_that_cannot_be_built_is_refused_with_its_layer(a_model: Path) -> None:
    fields = json.loads(SPEC.to_json())
    fields["layers"][3]["in_channels"] = 99
    rewrite(a_model, spec=json.dumps(fields))
    assert "layer enc1.conv of spec tiny expects 99 input channels" in refusal(a_model)


@pytest.mark.parametrize(
    "tensors",
    [{"weights.head": torch.zeros(3, 5, 3, 3, 3)}, {"weights.stranger": torch.zeros(2)}],
    ids=["shape", "name"],
)
def test_tensors_that_do_not_fit_are_refused(tensors: dict[str, torch.Tensor], a_model: Path) -> None:
    rewrite(a_model, tensors=tensors)
    assert refusal(a_model).startswith("its tensors do not fit its spec tiny")


def test_missing_tensors_are_refused(a_model: Path) -> None:
    larger = velocity_unet("tiny", encoder=(4, 4, 4, 4), decoder=(4, 4, 4), finest_convolutions=3)
    rewrite(a_model, spec=larger.to_json())
    assert refusal(a_model).startswith("its tensors do not fit its spec tiny")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_tensor_with_a_value_beyond_any_use_is_refused_by_its_name(value: float, a_model: Path) -> None:
    weight = load_file(a_model)["weights.head"].float()
    weight.view(-1)[3] = value
    rewrite(a_model, tensors={"weights.head": weight})
    assert refusal(a_model).startswith("tensor weights.head: must be between")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel", 10**6),
        ("out_channels", 10**40),
        ("stride", 1e30),
        ("upsample", [0]),
        ("kernel", True),
        ("stride", "2"),
    ],
)
def test_a_number_of_a_layer_out_of_range_is_refused_before_memory_is_taken(name, value, a_model: Path) -> None:
    fields = json.loads(SPEC.to_json())
    fields["layers"][3][name] = value
    rewrite(a_model, spec=json.dumps(fields))
    assert f"its spec cannot be built (layer enc1.conv, {name}: must be" in refusal(a_model)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": NaN}', "7"])
def test_a_spec_that_is_no_json_is_refused_in_one_line(text: str, a_model: Path) -> None:
    rewrite(a_model, spec=text)
    assert refusal(a_model).startswith("its header lacks the spec or the facts")
