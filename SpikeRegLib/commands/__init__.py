"""The commands of `spikereg`: each module has `add_arguments(parser)`, free of torch, and `run(options)`."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """Where a command lives and what it does in one line."""

    module: str
    summary: str


COMMANDS = {
    "register": Command("SpikeRegLib.commands.register", "register a moving image to a fixed image"),
    "cohort": Command("SpikeRegLib.commands.cohort", "make many registrations from a table, on one machine or many"),
    "bids": Command("SpikeRegLib.commands.bids", "register and segment the T1-weighted images of a BIDS data set"),
    "segment": Command("SpikeRegLib.commands.segment", "name the structures in one image of a head"),
    "group": Command("SpikeRegLib.commands.group", "build the unbiased template of a group of heads"),
    "longitudinal": Command("SpikeRegLib.commands.longitudinal", "measure what changed between visits of one person"),
    "series": Command("SpikeRegLib.commands.series", "bring the frames of a 4-D image onto each other"),
    "worker": Command("SpikeRegLib.commands.worker", "stay warm and work on request: JSON on stdin and stdout"),
    "demo": Command("SpikeRegLib.commands.demo", "register the bundled sample pair and show what comes out"),
    "phantom": Command("SpikeRegLib.commands.phantom", "register heads with a known motion and measure the errors"),
    "apply": Command("SpikeRegLib.commands.apply", "carry an image, a label map or points through a saved transform"),
    "export": Command("SpikeRegLib.commands.export", "write a saved transform as one displacement field"),
    "interpolate": Command("SpikeRegLib.commands.interpolate", "write the path between two code files as transforms"),
    "evaluate": Command("SpikeRegLib.commands.evaluate", "measure a saved transform, or a study of many pairs"),
    "models": Command("SpikeRegLib.commands.models", "list the trained networks that ship with SpikeReg"),
    "energy": Command("SpikeRegLib.commands.energy", "count operations and estimate the energy of a network"),
    "train": Command("SpikeRegLib.training.command", "train a network: teacher, convert, finetune"),
}
