"""How the neurons of a network behave and how it reads its image, as data: what spec and tensors do not say."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from SpikeRegLib.spiking.neurons import NeuronDynamics
from SpikeRegLib.spiking.spec import NetworkSpec
from SpikeRegLib.spiking.unet import SpikingUNet
from SpikeRegLib.text.json_text import read_json
from SpikeRegLib.text.ranges import SEED, within

# T is the spec's.
_OF_NEURONS = tuple(field.name for field in fields(NeuronDynamics) if field.name != "timesteps")


def behaviour_of(network: SpikingUNet) -> dict[str, Any]:
    """Leak, reset, start and refractory period of the neurons, input coding and the seed of the input spikes."""
    dynamics = asdict(network.base_dynamics)
    neurons = {name: dynamics[name] for name in _OF_NEURONS}
    return {**neurons, "input_coding": network.input_coding, "seed": network.seed}


# Of a file that says nothing: integrate-and-fire with soft reset, the image as a current.
PLAIN: dict[str, Any] = {
    **{name: value for name, value in asdict(NeuronDynamics()).items() if name in _OF_NEURONS},
    "input_coding": "direct",
    "seed": 0,
}


def spiking_network(spec: NetworkSpec, behaviour: str | None) -> SpikingUNet:
    """A network of a spec, still with new weights, that behaves as a file says.

    Args:
        spec: its layers and T.
        behaviour: JSON of what `behaviour_of` gave; None for `PLAIN`.

    Raises:
        ValueError: not JSON, an entry is missing, unknown, of another type or out of range; names it.
    """
    entries = PLAIN if behaviour is None else read_json(behaviour)
    if not isinstance(entries, dict) or entries.keys() != PLAIN.keys():
        raise ValueError(f"neurons: needs the entries {', '.join(PLAIN)}")
    for name, usual in PLAIN.items():
        value, numbers = entries[name], (int, float) if isinstance(usual, float) else int
        wanted = str if isinstance(usual, str) else numbers
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"{name}: must be like {usual!r}, got {value!r}")
    within("seed", entries["seed"], *SEED)
    dynamics = NeuronDynamics(**{name: entries[name] for name in _OF_NEURONS})
    return SpikingUNet(spec, dynamics=dynamics, input_coding=entries["input_coding"], seed=entries["seed"])
