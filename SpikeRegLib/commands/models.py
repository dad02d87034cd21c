"""`spikereg models`: what the shipped weights say about themselves, read without torch."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

from SpikeRegLib.errors import InputError

WEIGHTS = Path(__file__).parents[1] / "weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything, for programs")


def run(options: argparse.Namespace) -> int:
    models = [describe(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    if options.json:
        print(json.dumps(models, indent=2))
        return 0
    for model in models:
        print(f"{model['name']}  {model['parameters']:,} parameters, {model['bytes'] / 1e6:.1f} MB")
        print(f"  sha256 {model['sha256']}")
        for key, value in model["metadata"].items():
            print(f"  {key}: {value if len(value) <= 100 else value[:97] + '...'}")
        if model["card"]:
            print(f"  card: {model['card']}")
    if not models:
        print(f"no weights in {WEIGHTS}; methods without a network still work (--preset any-anatomy)")
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Name, size, checksum, number of parameters and metadata of a safetensors file, and the path of its card.

    Raises:
        InputError: the header is cut short or not one.
    """
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    card = path.with_suffix(".md")
    return {
        "name": path.stem,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(math.prod(tensor["shape"]) for tensor in header.values()),
        "metadata": metadata,
        "card": str(card) if card.is_file() else None,
    }


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of little-endian length, then that many of JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("cut short")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("not a table")
    except (struct.error, ValueError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error}); install SpikeReg again") from error
    return header
