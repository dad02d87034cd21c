"""The networks that ship, read after each time step: layer after layer, and all layers at once.

    python Benchmarks/readout.py [--model FILE] [--preset P]

Layer after layer, a network of t steps is run: every layer fires for t steps before the next one begins. All at once,
spikes are passed on in the step in which they are fired and the head is read after t of them (see
`SpikeRegLib/spiking/synchronous.py`). The networks were trained for the first, at the T of their spec, and for nothing
else. Both passes, no refinement, the development pairs.
"""

from __future__ import annotations

import argparse

import evaluation as data
from cohort import load_networks
from pareto import point

from SpikeRegLib import models
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.spiking.synchronous import SynchronousUNet
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet

STEPS = (1, 2, 3, 4, 6, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "readout.json")
    options = parser.parse_args()
    data.one_thread()
    preset, code = load_preset(options.preset), data.library_stamp(network=True)
    files, released = load_networks(preset, "spikereg", options.model)
    rows: dict[str, dict[int, float]] = {"layer after layer": {}, "all layers at once": {}}
    for steps in STEPS:
        together: list[RegistrationUNet] = []
        for network in released:
            assert isinstance(network, SpikingUNet)
            together.append(SynchronousUNet(network, steps))
        one_by_one = [models.load_for(file, "spikereg", steps) for file in files]
        for (name, found), networks in zip(rows.items(), (one_by_one, together), strict=True):
            key = data.digest("read-out", name, steps, *files, code)
            figures = point(
                networks, key, data.dev_pairs(), options.cache, preset.working_spacing_mm, max(1, preset.passes)
            )
            found[steps] = figures["dice"]
            print(f"{name}, {steps} steps: Dice {found[steps]:.4f}", flush=True)
    written = {"pairs": len(data.dev_pairs()), "timesteps": released[0].spec.timesteps, "dice": rows}
    data.write_json(options.out, written)


if __name__ == "__main__":
    main()
