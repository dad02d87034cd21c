"""The network that names structures, with what its file says of heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SpikeRegLib import models
from SpikeRegLib.anatomy.layout import Layout
from SpikeRegLib.errors import InputError
from SpikeRegLib.spiking.unet import RegistrationUNet

SHIPPED = "structures"


@dataclass(frozen=True)
class StructureModel:
    """A model file, ready to read heads with.

    Attributes:
        network: in evaluation mode.
        layout: of heads as they usually are.
        name, sha256: of the file.
    """

    network: RegistrationUNet
    layout: Layout
    name: str
    sha256: str


def load_structure_model(name: str | Path = SHIPPED) -> StructureModel:
    """Load a model that names structures.

    Args:
        name: of a shipped model, or a .safetensors file.

    Raises:
        InputError: no such model, or one that names no structures or does not say how heads are built.
    """
    path = models.find(name, "spikereg")
    network = models.load_model(path)
    if network.spec.output != "structures":
        raise InputError(f"{path}: names no structures; give a model that `spikereg train anatomy` made")
    try:
        layout = Layout.from_json(models.read_header(path).facts.get("layout"))
    except ValueError as error:
        raise InputError(f"{path}: {error}, so no head can be told from others; train it again") from error
    return StructureModel(network, layout, path.stem, models.sha256(path))
