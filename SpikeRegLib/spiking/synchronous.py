"""The network run as events on hardware that passes every spike on at once, all layers in the same time step.

Elsewhere a layer begins when the one before it has finished its T steps, and reads its rate as a constant current. Here
it reads single spikes, in the step in which they were fired, so that the head can be read after any step; the price is
that counts depend on when spikes arrive, and only approach those of the closed form as steps go on.
"""

from __future__ import annotations

import torch

from SpikeRegLib.spiking.neurons import MembraneState, initial_state, step
from SpikeRegLib.spiking.unet import Recorder, RegistrationUNet, SpikingUNet, convolve, merge_inputs


class SynchronousUNet(RegistrationUNet):
    """A spiking network whose head is read after `steps` time steps: its input is then what was fired so far, as rates.

    Args:
        network: with direct input coding; not changed.
        steps: at least 1; more than the network's T are allowed.

    Raises:
        ValueError: one of them is not as asked for.
    """

    @torch.no_grad()
    def __init__(self, network: SpikingUNet, steps: int) -> None:
        super().__init__(network.spec)
        if steps < 1 or network.input_coding != "direct":
            raise ValueError(f"needs at least one step and direct input coding: {steps}, {network.input_coding}")
        self.steps = steps
        self.smoothing = network.smoothing
        self.dynamics = {layer.name: network.dynamics_of(layer) for layer in self.spec.spiking_layers}
        self.constants = {layer.name: network.count_weights(layer) for layer in self.spec.layers}

    def output(self, prepared: torch.Tensor, *, recorder: Recorder | None = None) -> torch.Tensor:
        states: dict[str, MembraneState] = {}
        currents: dict[str, torch.Tensor] = {}
        head = self.spec.head.name
        summed: torch.Tensor | None = None
        for _ in range(self.steps):
            values = {"image": prepared}
            for layer in self.spec.layers:
                drive = currents.get(layer.name)
                if drive is None:
                    weight, bias = self.constants[layer.name]
                    drive = convolve(layer, torch.cat(merge_inputs(layer, values), 1), weight, bias)
                    if layer.inputs == ("image",):  # a constant current
                        currents[layer.name] = drive
                if layer.name == head:
                    summed = drive if summed is None else summed + drive
                    continue
                state = states.get(layer.name) or initial_state(drive, self.dynamics[layer.name])
                spikes, states[layer.name] = step(drive, state, self.dynamics[layer.name])
                # A spike in this step is a rate of 1, of which weights know the count T.
                values[layer.name] = spikes * float(self.spec.timesteps)
                if recorder is not None:
                    recorder(layer, [], values[layer.name])
        assert summed is not None
        output = summed / self.steps
        return output if self.smoothing is None else self.smoothing(output)
