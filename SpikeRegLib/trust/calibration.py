"""From evidence to millimetres: a small network that was fitted to known errors once, and is only read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from SpikeRegLib.trust.evidence import EVIDENCE, NOMINAL_MM

SCHEMA = 1
_FILE = Path(__file__).with_name("calibration.json")
# Evidence that lies beyond this many standard deviations was not met: it counts as if it lay there.
FARTHEST = 4.0
# Added to an error, mm, before its logarithm is taken.
OFFSET_MM = 0.2
# Evidence whose logarithm is taken after this was added; the rest is taken as it is.
LOGARITHM_AFTER = {
    "dissimilarity": 0.05, "dissimilarity_wide": 0.05, "texture": 0.005, "residual_shift": 0.05, "residual_flow": 0.05,
    "weakest_texture": 0.005, "strain": 0.05, "strain_wide": 0.05, "bending": 0.005, "unevenness": 0.05, "length": 0.05,
    "pair_dissimilarity": 0.05, "pair_strain": 0.05,
}  # fmt: skip


class Expected(NamedTuple):
    """Errors in mm, each [...].

    Attributes:
        error_mm: expected.
        bound_mm: not exceeded in nine of ten places.
    """

    error_mm: torch.Tensor
    bound_mm: torch.Tensor


@dataclass(frozen=True)
class Calibration:
    """The fitted network: one hidden layer, two outputs.

    Attributes:
        mean, scale: [K] of the evidence, in the order of `EVIDENCE`.
        hidden: [H, K + 1] weights, the last column being the bias.
        output: [2, H + 1] the same; logarithms of the expected error and of the bound, both plus `OFFSET_MM`.
        bound_factor: of the bound, so that nine of ten held-out errors lie below it.
        made_of: what it was fitted to, in words.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    hidden: torch.Tensor
    output: torch.Tensor
    bound_factor: float
    made_of: str

    def expected(self, evidence: torch.Tensor, spacing_mm: float = NOMINAL_MM) -> Expected:
        """Errors where the evidence is [..., K] (`prepared`).

        Args:
            evidence: one row for each place.
            spacing_mm: voxel size on which it was gathered.
        """
        seen = ((evidence - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)
        inside = torch.tanh(seen @ self.hidden[:, :-1].T + self.hidden[:, -1])
        error, bound = (inside @ self.output[:, :-1].T + self.output[:, -1]).exp().unbind(-1)
        scale = spacing_mm / NOMINAL_MM
        error, bound = ((values - OFFSET_MM).clamp_min(0.0) * scale for values in (error, bound))
        return Expected(error, torch.maximum(bound * self.bound_factor, error))


def prepared(evidence: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """[..., K] of `evidence_of`, with the logarithms that the network reads."""
    columns = []
    for name in EVIDENCE:
        after = LOGARITHM_AFTER.get(name)
        columns.append(evidence[name] if after is None else (evidence[name].clamp_min(0) + after).log())
    return torch.stack(columns, -1)


@lru_cache
def shipped_calibration() -> Calibration:
    """The one that belongs to this version."""
    return read_calibration(_FILE)


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file that `write_calibration` wrote.

    Raises:
        ValueError: it was made for other evidence or another version.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    if table["schema"] != SCHEMA or table["evidence"] != list(EVIDENCE):
        raise ValueError(f"{path}: made for other evidence; make it anew with Benchmarks/error_calibration.py")
    mean, scale, hidden, output = (torch.tensor(table[name]) for name in ("mean", "scale", "hidden", "output"))
    return Calibration(mean, scale, hidden, output, table["bound_factor"], table["made_of"])


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write it as JSON."""
    arrays = {
        name: np.round(getattr(calibration, name).double().numpy(), 6).tolist()
        for name in ("mean", "scale", "hidden", "output")
    }
    table = {
        "schema": SCHEMA, "made_of": calibration.made_of, "evidence": list(EVIDENCE),
        "bound_factor": round(calibration.bound_factor, 4), **arrays,
    }  # fmt: skip
    path.write_text(json.dumps(table) + "\n", encoding="utf-8")
