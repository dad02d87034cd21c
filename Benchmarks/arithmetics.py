"""Dice of the networks that ship in every arithmetic there is for them: what rounding their weights to integers costs.

    python Benchmarks/arithmetics.py [--model FILE] [--preset P]

The forty pairs of `cohort.py`, from the same affine maps, without refinement: the coarse pass alone and both passes.
Spike counts are exact in integers, so `int8` differs from the others by its rounded weights only. Rows are kept in
`--cache`.
"""

from __future__ import annotations

import argparse

import evaluation as data
from cohort import load_networks
from inference import FLOATS, ready
from pareto import point

from SpikeRegLib.networks.integer_convolution import available
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.studies.paired_statistics import compare

# Dice that rounding may cost or give.
MARGIN = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "arithmetics.json")
    options = parser.parse_args()
    data.one_thread()
    preset, cache, code = load_preset(options.preset), options.cache, data.library_stamp(network=True)
    files, networks = load_networks(preset, "spikereg", options.model)
    if not available():
        raise SystemExit("this torch has no integer convolution: there is nothing to compare")
    pairs, passes = data.cohort_pairs(), max(1, preset.passes)
    dice: dict[str, dict[str, dict[str, float]]] = {}
    for count in sorted({1, len(files)}):
        what = "coarse pass" if count < len(files) else "all passes"
        dice[what] = {}
        for arithmetic in ("int8", *FLOATS):
            used = [ready(network, arithmetic) for network in networks[:count]]
            key = data.digest("arithmetics", arithmetic, *files[:count], code)
            found = point(used, key, pairs, cache, preset.working_spacing_mm, passes)
            dice[what][arithmetic] = dict(zip(map("_".join, pairs), found["dice_per_pair"], strict=True))
            print(f"{what}, {arithmetic}: Dice {found['dice']:.4f}", flush=True)
    comparisons = [
        {"passes": what, "first": "int8", "second": other, **result.as_result()}
        for what, values in dice.items()
        for other in FLOATS
        for result in [compare(values["int8"], values[other], margin=MARGIN)]
    ]
    data.write_json(options.out, {"dice": dice, "comparisons": comparisons})


if __name__ == "__main__":
    main()
