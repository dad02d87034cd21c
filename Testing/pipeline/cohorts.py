"""Cohorts for tests: small images, a preset that takes a moment, and the command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

PRESET = """\
description = "a moment"
method = "optimize"
model = ""
working_spacing_mm = 4.0
similarity = "lncc"
passes = 0

[[refine.levels]]
spacing_mm = 4.0
field_mm = 8.0
iterations = 2
velocity_sigma_mm = 6.9
field_sigma_mm = 2.0
"""
HOW = ("--preset", "quick.toml", "--skip-affine", "--outputs", "transform.h5")
_ROOT = Path(__file__).parents[2]


def write_image(path: Path, number: int) -> None:
    """A ball with a pattern, another one for every number."""
    place = np.indices((20, 20, 20)) - 9.5 - np.array([number % 3 - 1, number % 2, 0])[:, None, None, None]
    pattern = np.sin(place[0] * 0.9 + number) * np.cos(place[1] * 0.7) + place[2] / 10
    image = sitk.GetImageFromArray(((400 + 90 * pattern) * ((place**2).sum(0) < 70)).astype(np.float32))
    image.SetSpacing((4.0, 4.0, 4.0))
    sitk.WriteImage(image, str(path))


def make_cohort(folder: Path, rows: int, images: int = 4) -> Path:
    """A table of `rows` registrations among `images` images, r0, r1, ...; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quick.toml").write_text(PRESET, encoding="utf-8")
    for number in range(images):
        write_image(folder / f"i{number}.nii.gz", number)
    lines = [f"r{n},i0.nii.gz,i{1 + n % (images - 1)}.nii.gz" for n in range(rows)]
    table = folder / "table.csv"
    table.write_text("\n".join(["id,fixed,moving", *lines]) + "\n", encoding="utf-8")
    return table


def command(folder: Path, *words: str) -> list[str]:
    """The cohort of `folder` as a command line."""
    how = [str(folder / word) if word == "quick.toml" else word for word in HOW]
    return [sys.executable, "-m", "SpikeRegLib", "cohort", str(folder / "table.csv"), "--out", str(folder / "out"),
            *how, *words]  # fmt: skip


def start(words: list[str], **how: object) -> subprocess.Popen[str]:
    """A process whose output is read later."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **how)  # type: ignore[call-overload]


def finished(folder: Path) -> dict[str, int]:
    """Time of change of every row's result.json."""
    found = {path.parent.name: path.stat().st_mtime_ns for path in (folder / "out").glob("*/result.json")}
    return {name: stamp for name, stamp in found.items() if not name.startswith(".")}


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
