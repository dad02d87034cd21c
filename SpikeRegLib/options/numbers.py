"""The range of every number that a command takes."""

from __future__ import annotations

from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.text.ranges import PERCENTILE, TRAINING_STEPS, Range

# Of `register` and of requests to the worker, as their groups say; then those of other commands.
NUMBERS: dict[str, Range] = {
    **{name: option.limits for name, option in OPTIONS.items() if option.limits is not None},
    "spacing": (0.1, 64),
    "shape": (16, 4096),
    "picojoules": (1e-9, 1e9),
    "percentile": PERCENTILE,
    "steps": TRAINING_STEPS,
    "path_steps": (1, 10_000),
    "margin": (1e-9, 1e6),
    "workers": (1, 1024),
    "retries": (0, 10),
    "rounds": (1, 20),
    "frame_number": (0, 10**6),
}
