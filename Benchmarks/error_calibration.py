"""Fit the predicted error to known errors, and check it on errors it never saw.

    python Benchmarks/error_calibration.py [--cases 24] [--check 6] [--cache FOLDER] [--check-only]

Fitted to `warps` and `surfaces` of `known_errors.py`, drawn from training label maps: a network of one hidden layer
learns the mean error (gamma deviance) and, by the pinball loss, what nine of ten errors stay below. Cases are held
out in four parts in turn; the held-out ones give the factor of the bound and the figures. Then one network is fitted
to all and written as `SpikeRegLib/trust/calibration.json`, and development brains check it: known warps, and surfaces
of structures of real pairs. Registrations are kept in the cache, as each takes half a minute.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluation as data
import numpy as np
import torch
from known_errors import Sampled, gathered
from roc import area_under_curve

from SpikeRegLib.trust.calibration import FARTHEST, OFFSET_MM, Calibration, read_calibration, write_calibration

FILE = Path(__file__).resolve().parents[1] / "SpikeRegLib" / "trust" / "calibration.json"
HIDDEN, STEPS, BATCH, PARTS, SEEDS = 8, 1500, 4096, 4, 2
BOUND = 0.9
MADE_OF = "brains drawn from 20 label maps"
# How much a case counts: errors of gross failures are to be seen, and not to decide.
WEIGHT = {"found": 1.0, "bumps": 0.3, "not deformed": 0.2}
LIMIT_MM = 2.0

Cases = list[list[Sampled]]


def fitted(cases: Cases) -> Calibration:
    """Networks from two seeds, as one."""
    samples = [sample for case in cases for sample in case]
    evidence = torch.from_numpy(np.concatenate([sample.evidence for sample in samples]))
    target = torch.from_numpy(np.log(np.concatenate([sample.error_mm for sample in samples]) + OFFSET_MM))
    weight = torch.cat([torch.full((len(s.error_mm),), WEIGHT[s.way] / len(s.error_mm)) for s in samples])
    weight = weight / weight.mean()
    usual = torch.cat([torch.full((len(s.error_mm),), s.way == "found") for s in samples])
    mean, scale = evidence[usual].mean(0), evidence[usual].std(0) + 1e-6
    seen = ((evidence - mean) / scale).clamp(-FARTHEST, FARTHEST)
    layers = [_network(seen, target, weight, seed) for seed in range(SEEDS)]
    hidden = torch.cat([first for first, _ in layers])
    output = torch.cat(
        [*(last[:, :-1] / SEEDS for _, last in layers), sum(last[:, -1:] / SEEDS for _, last in layers)], 1
    )
    return Calibration(mean, scale, hidden, output, 1.0, MADE_OF)


def _network(
    seen: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    first, last = torch.nn.Linear(seen.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, 2)
    optimiser = torch.optim.AdamW([*first.parameters(), *last.parameters()], 1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(seen), (BATCH,), generator=generator)
        error, bound = last(torch.tanh(first(seen[chosen]))).unbind(1)
        above = target[chosen] - bound
        pinball = torch.maximum(BOUND * above, (BOUND - 1) * above)
        deviance = (target[chosen] - error).exp() + error  # of a gamma distribution: least at the mean error
        loss = ((deviance + 2 * pinball) * weight[chosen]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return tuple(torch.cat([layer.weight, layer.bias[:, None]], 1).detach() for layer in (first, last))


def figures(pairs: list[tuple[Calibration, Sampled]]) -> dict[str, Any]:
    """Of samples, each with the calibration that is to foretell it."""
    expected, bounds, errors, within, cover = [], [], [], [], []
    for calibration, sample in pairs:
        error, bound = (v.numpy() for v in calibration.expected(torch.from_numpy(sample.evidence)))
        expected.append(error)
        bounds.append(bound)
        errors.append(sample.error_mm)
        within.append(float(np.corrcoef(error, sample.error_mm)[0, 1]))
        cover.append(float((sample.error_mm <= bound).mean()))
    told, true = np.concatenate(expected), np.concatenate(errors)
    return {
        "cases": len(pairs),
        "true_mm": float(true.mean()),
        "expected_mm": float(told.mean()),
        "bound_holds": float((true <= np.concatenate(bounds)).mean()),
        "bound_holds_lowest": min(cover),
        "bound_holds_highest": max(cover),
        "correlation": float(np.corrcoef(told, true)[0, 1]),
        "correlation_within_a_case": float(np.mean(within)),
        "auc_2_mm": area_under_curve(told, true > LIMIT_MM),
    }


def held_out(cases: dict[str, Cases]) -> tuple[list[tuple[str, Calibration, Sampled]], float]:
    """Every sample with a calibration that was fitted without its case; and the factor that its bound needs."""
    found = []
    for part in range(PARTS):
        rest = [case for kind in cases.values() for n, case in enumerate(kind) if n % PARTS != part]
        calibration = fitted(rest)
        for kind, group in cases.items():
            found += [(kind, calibration, s) for n, case in enumerate(group) if n % PARTS == part for s in case]
    ratios, weights = [], []
    for _, calibration, sample in found:
        if sample.way == "found":
            bound = calibration.expected(torch.from_numpy(sample.evidence)).bound_mm.numpy()
            ratios.append(sample.error_mm / np.maximum(bound, 1e-3))
            weights.append(np.full(len(bound), 1 / len(bound)))
    ratio, weight = np.concatenate(ratios), np.concatenate(weights)
    order = np.argsort(ratio)
    return found, float(ratio[order][np.searchsorted(np.cumsum(weight[order]), BOUND * weight.sum())])


def by_way(samples: list[tuple[str, Calibration, Sampled]]) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys((kind, sample.way) for kind, _, sample in samples))
    return {
        f"{kind}, {way}": figures([(c, s) for k, c, s in samples if (k, s.way) == (kind, way)]) for kind, way in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="brain")
    parser.add_argument("--cases", type=int, default=24, help="of each kind that is fitted")
    parser.add_argument("--check", type=int, default=6, help="of each kind of development brains")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "spikereg-error-calibration")
    parser.add_argument("--check-only", action="store_true", help="leave the shipped calibration as it is")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "error_calibration.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers, checked = range(options.cases), range(options.check)
    cases = {
        kind: [gathered(kind, n, options.preset, options.cache) for n in numbers] for kind in ("warps", "surfaces")
    }
    check = {k: [gathered(k, n, options.preset, options.cache) for n in checked] for k in ("brain warps", "brains")}
    told, factor = held_out(cases)
    if not options.check_only:
        write_calibration(_times(fitted([case for kind in cases.values() for case in kind]), factor), FILE)
    shipped = read_calibration(FILE)
    result = {
        "preset": options.preset,
        "bound_factor": factor,
        "held out": by_way([(kind, _times(calibration, factor), sample) for kind, calibration, sample in told]),
        "development": by_way([(kind, shipped, s) for kind, group in check.items() for case in group for s in case]),
    }
    data.write_json(options.out, result)
    for group in ("held out", "development"):
        for name, row in result[group].items():
            print(name, {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})


def _times(calibration: Calibration, factor: float) -> Calibration:
    return replace(calibration, bound_factor=factor)


if __name__ == "__main__":
    main()
