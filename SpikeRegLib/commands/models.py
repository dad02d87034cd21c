"""`spikereg models`: what the shipped weights say of themselves, read without torch."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from SpikeRegLib.models import WEIGHTS, read_header, sha256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything, for programs")


def run(options: argparse.Namespace) -> int:
    models = [describe(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    if options.json:
        print(json.dumps(models, indent=2))
        return 0
    for model in models:
        print(f"{model['name']}: {model['kind']} network, spec {model['spec']}, {model['bytes'] / 1e6:.1f} MB")
        rows = {**model["facts"], "sha256": model["sha256"], "card": model["card"] or "none"}
        for key, value in rows.items():
            text = value if isinstance(value, str) else json.dumps(value)
            print(f"  {key + ':':<14} {text if len(text) <= 160 else text[:157] + '...'}")
    if not models:
        print(f"no weights in {WEIGHTS}; presets without a network still work (any-anatomy)")
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Name, kind, spec, size, checksum and training facts of a model file, and the path of its card.

    Raises:
        InputError: the file is cut short or no model of this library.
    """
    header = read_header(path)
    card = path.with_suffix(".md")
    return {
        "name": path.stem,
        "kind": header.kind,
        "spec": header.spec,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "facts": header.facts,
        "card": str(card) if card.is_file() else None,
    }
