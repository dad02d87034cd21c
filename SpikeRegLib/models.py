"""Model files: safetensors with the network spec and the training facts in the header. Pickles are never loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from SpikeRegLib.errors import InputError
from SpikeRegLib.system.atomic_files import atomic_output
from SpikeRegLib.text.json_text import read_json
from SpikeRegLib.text.ranges import TENSOR, within

if TYPE_CHECKING:
    import torch

    from SpikeRegLib.neural_field.model import FieldNetwork
    from SpikeRegLib.spiking.spec import NetworkSpec
    from SpikeRegLib.spiking.unet import RegistrationUNet

Network = TypeVar("Network", bound="torch.nn.Module")

WEIGHTS = Path(__file__).parent / "weights"
FORMAT = "spikereg-model-1"
# Files whose neurons are not the plain ones: readers that know the first format alone would run them as if they were.
FORMAT_WITH_NEURONS = "spikereg-model-2"
KINDS = ("spiking", "analog", "field", "spiking-field")


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself; read without torch.

    Attributes:
        path: of the file.
        kind: "spiking" or "analog" U-Net, "field" or "spiking-field" (neural deformation field with such an encoder).
        spec: name of the network spec.
        facts: training data, steps, seed, versions, figures... as written by the training command.
        spec_json: the whole spec, see `NetworkSpec.from_json`; of a neural field, its encoder's.
        field: sizes of a neural field, see `neural_field.options.FieldSizes`; empty for a U-Net.
        neurons: JSON of how spiking neurons behave, see `spiking.behaviour`; None where they are the plain ones.
    """

    path: Path
    kind: str
    spec: str
    facts: dict[str, Any]
    spec_json: str
    field: dict[str, Any]
    neurons: str | None = None


def read_metadata(path: str | Path, *, remedy: str) -> dict[str, str]:
    """What the header of a safetensors file says of it, read without torch; the file is complete.

    Args:
        path: of the file.
        remedy: for messages, what to do about a file that is no use.

    Raises:
        InputError: the file is missing, truncated, a pickle or no safetensors file.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(9)
            length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
            # Eight bytes of length may happen to begin like a pickle, so the brace of the JSON header decides.
            if start[8:] != b"{" and start.startswith((b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
                raise InputError(f"{path}: a pickle, which can run code and is never loaded; convert it to safetensors")
            if not 0 < length <= min(size, 100_000_000):
                raise InputError(f"{path}: truncated or not a safetensors file; {remedy}")
            header = read_json(start[8:] + file.read(length - 1))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: truncated or not a safetensors file; {remedy}") from error
    if 8 + length + end != size:
        raise InputError(f"{path}: truncated ({size} of {8 + length + end} bytes); {remedy}")
    metadata = header.get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def read_header(path: str | Path) -> ModelHeader:
    """The header of a model file.

    Raises:
        InputError: the file is missing, truncated, a pickle or not a model of this library.
    """
    path = Path(path)
    metadata = read_metadata(path, remedy="download or train it again; `spikereg models` lists the shipped")
    known = metadata.get("format") in (FORMAT, FORMAT_WITH_NEURONS)
    if not known or metadata.get("kind") not in KINDS:
        raise InputError(f"{path}: not a SpikeReg model; `spikereg models` lists those, `spikereg train` makes one")
    try:
        spec_json = metadata["spec"]
        name, facts = read_json(spec_json)["name"], json.loads(metadata["facts"])
        field = read_json(metadata.get("field", "{}"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: its header lacks the spec or the facts; download or train it again") from error
    return ModelHeader(path, metadata["kind"], name, facts, spec_json, field, metadata.get("neurons"))


def save_model(
    network: RegistrationUNet | FieldNetwork, path: str | Path, facts: dict[str, Any], *, weight_bits: int = 16
) -> None:
    """Write a network as safetensors, atomically: `load_model` gives a network that behaves alike.

    Args:
        network: dense or spiking, or a neural field with such an encoder; of a spiking one the dynamics of its neurons,
            its input coding and the seed of that are kept, too.
        path: of the new file.
        facts: JSON-able training facts for the header and the model card.
        weight_bits: of the convolution weights: 16 (half precision) or 8 (integers with a scale per output channel).
    """
    from safetensors.torch import save

    from SpikeRegLib.neural_field.model import FieldNetwork
    from SpikeRegLib.spiking.behaviour import PLAIN, behaviour_of
    from SpikeRegLib.spiking.unet import SpikingUNet

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unet = network.encoder if isinstance(network, FieldNetwork) else network
    kind = "spiking" if isinstance(unet, SpikingUNet) else "analog"
    prefix = ""
    metadata = {"format": FORMAT, "kind": kind, "spec": unet.spec.to_json(), "facts": json.dumps(facts)}
    if isinstance(unet, SpikingUNet) and (behaviour := behaviour_of(unet)) != PLAIN:
        metadata |= {"format": FORMAT_WITH_NEURONS, "neurons": json.dumps(behaviour)}
    if isinstance(network, FieldNetwork):
        metadata["kind"] = "spiking-field" if kind == "spiking" else "field"
        metadata["field"] = json.dumps(asdict(network.options))
        prefix = "encoder."
    tensors = {}
    for name, value in network.state_dict().items():
        value = value.detach().cpu()
        if name.endswith("num_batches_tracked"):
            continue
        if not name.startswith(f"{prefix}weights."):  # all but convolutions is small and stays exact
            tensors[name] = value.float().contiguous()
        elif weight_bits == 16:
            tensors[name] = value.half().contiguous()
        elif weight_bits == 8:
            axis = _output_axis(unet, name.removeprefix(prefix))
            tensors[name], tensors[f"scales.{name}"] = _quantise(value.float(), axis)
        else:
            raise ValueError(f"weight_bits must be 8 or 16, got {weight_bits}")
    with atomic_output(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def _output_axis(network: RegistrationUNet, name: str) -> int:
    transposed = {layer.name.replace(".", "_") for layer in network.spec.layers if layer.transposed}
    return 1 if name.removeprefix("weights.") in transposed else 0


def _quantise(weight: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers in -127..127 and the scale per output channel, shaped to multiply them back."""
    import torch

    others = [a for a in range(weight.ndim) if a != axis]
    scale = (weight.abs().amax(others, keepdim=True) / 127).clamp_min(1e-12)
    return torch.round(weight / scale).to(torch.int8).contiguous(), scale.contiguous()


def load_model(path: str | Path, *, kind: str | None = None, timesteps: int | None = None) -> RegistrationUNet:
    """The network in a model file, in evaluation mode.

    Args:
        path: of the file.
        kind: "spiking" or "analog" where only that will do.
        timesteps: another T than the one the network was trained for (spiking only).

    Raises:
        InputError: see `read_header`; also tensors that do not fit the spec, or a model of the other kind.
    """
    header = read_header(path)
    if header.kind not in ("spiking", "analog") or kind not in (None, header.kind):
        wanted = kind or "spiking or analog"
        raise InputError(f"{path}: holds a network of kind {header.kind}, not {wanted}; `spikereg models` lists all")
    return _filled(_unet(header, timesteps), header)


def load_field(path: str | Path, *, kind: str | None = None, timesteps: int | None = None) -> FieldNetwork:
    """The neural deformation field in a model file, in evaluation mode.

    Args:
        path: of the file.
        kind: "field" or "spiking-field" where only that will do.
        timesteps: see `load_model`.

    Raises:
        InputError: see `load_model`.
    """
    from SpikeRegLib.neural_field.model import FieldNetwork
    from SpikeRegLib.neural_field.sizes import FieldSizes

    header = read_header(path)
    if header.kind not in ("field", "spiking-field") or kind not in (None, header.kind):
        wanted = kind or "field or spiking-field"
        raise InputError(f"{path}: holds a network of kind {header.kind}, not {wanted}; `spikereg models` lists all")
    encoder = _unet(header, timesteps)
    try:
        network = FieldNetwork(encoder, FieldSizes(**header.field))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its field cannot be built ({error}); download or train it again") from error
    return _filled(network, header)


def spec_of(header: ModelHeader) -> NetworkSpec:
    """The layers of a model file.

    Raises:
        InputError: they cannot be built; the message names the layer.
    """
    from SpikeRegLib.spiking.spec import NetworkSpec

    try:
        return NetworkSpec.from_json(header.spec_json)
    except ValueError as error:
        raise InputError(f"{header.path}: its spec cannot be built ({error}); download or train it again") from error


def _unet(header: ModelHeader, timesteps: int | None) -> RegistrationUNet:
    """The U-Net of a model file, still with new weights."""
    from SpikeRegLib.spiking.behaviour import spiking_network
    from SpikeRegLib.spiking.unet import AnalogUNet

    spec = spec_of(header)
    if timesteps is not None:
        spec = spec.with_timesteps(timesteps)
    if not header.kind.startswith("spiking"):
        return AnalogUNet(spec)
    try:
        return spiking_network(spec, header.neurons)
    except ValueError as error:
        raise InputError(f"{header.path}: its neurons cannot be built ({error}); download or train it again") from error


def _filled(network: Network, header: ModelHeader) -> Network:
    """The network with the tensors of its file, in evaluation mode."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    misfit = f"{header.path}: its tensors do not fit its spec {header.spec}; download or train it again"
    try:
        stored = {name: value.float() for name, value in load_file(str(header.path)).items()}
        check_tensors(stored)
        scales = {name: stored.pop(name) for name in list(stored) if name.startswith("scales.")}
        tensors = {name: value * scales.get(f"scales.{name}", 1.0) for name, value in stored.items()}
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(misfit) from error
    except ValueError as error:
        raise InputError(f"{header.path}: {error}; download or train it again") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise InputError(misfit)
    return network.eval()


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors of a file with a value that is NaN, infinite or beyond any use.

    Raises:
        ValueError: names the tensor.
    """
    for name, value in tensors.items():
        if value.numel():
            within(f"tensor {name}", float(value.min()), *TENSOR)
            within(f"tensor {name}", float(value.max()), *TENSOR)


def find(name: str | Path, method: str) -> Path:
    """The file of a model given by name (for the dense twin, `<name>-teacher`) or by path.

    Raises:
        InputError: no such model, or no dense twin of it; the message says what ships.
    """
    path = Path(name)
    if path.suffix:
        return path
    shipped = WEIGHTS / (f"{name}-teacher.safetensors" if method == "ann" else f"{name}.safetensors")
    if not shipped.is_file():
        if method == "ann" and (WEIGHTS / f"{name}.safetensors").is_file():
            raise InputError(
                f"model {str(name)!r}: it ships without a dense twin; take brain-t1, or give the twin's file"
            )
        known = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))) or "none"
        raise InputError(f"model {str(name)!r}: not shipped; known are {known}, or give a .safetensors file")
    return shipped


def load_for(path: Path, method: str, timesteps: int | None) -> RegistrationUNet:
    """The network a method needs: spiking for "spikereg", dense for "ann".

    Raises:
        InputError: see `load_model`; also a network that does not register.
    """
    network = load_model(path, kind="analog" if method == "ann" else "spiking", timesteps=timesteps)
    if network.spec.output not in ("velocity", "displacement"):
        raise InputError(
            f"{path}: names structures and registers nothing; give a network of velocities or displacements"
            if network.spec.output == "structures"
            else f"{path}: gives {network.spec.output} and registers nothing; give a network of velocities"
        )
    return network


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
