"""`spikereg train anatomy`: from whole-head label maps to the network that names structures, dense or spiking."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from SpikeRegLib.commands.arguments import number
from SpikeRegLib.commands.streams import say

TEXT = "train the network that names the structures in one image, dense first, then spiking (on the CPU)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", required=True, type=Path, metavar="DIR", help="folder of whole-head label maps")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets checkpoint, log and weights")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help=".toml file (default: the shipped one)")
    parser.add_argument("--threads", type=number("threads"), metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--initial", metavar="M", help="dense model to begin with, file or name (default: new weights)")
    parser.add_argument("--spiking", action="store_true", help="from the dense --initial to spike counts")
    parser.add_argument("--steps", type=number("steps"), metavar="N", help="training images (default: the recipe's)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from SpikeRegLib.outputs.folder import check_writable
    from SpikeRegLib.system.devices import set_threads
    from SpikeRegLib.training.command import check_begun
    from SpikeRegLib.training.recipe import train_anatomy
    from SpikeRegLib.training.structures.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    if arguments.steps is not None:
        recipe = dataclasses.replace(recipe, steps=arguments.steps)
    if arguments.initial is not None:
        recipe = dataclasses.replace(recipe, initial=arguments.initial)
    if arguments.spiking:
        recipe = dataclasses.replace(recipe, spiking=True)
    set_threads(arguments.threads)
    check_writable(arguments.out)
    check_begun(arguments.out, "anatomy", resume=arguments.resume)
    path = train_anatomy(
        arguments.labels, arguments.out, recipe, resume=arguments.resume, show_progress=not arguments.no_progress
    )
    say(str(path))
    return 0
