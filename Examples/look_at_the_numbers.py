"""Register two images and look at the numbers.

    python Examples/look_at_the_numbers.py [FIXED MOVING] [--preset P] [--iterations N]

Without files, the bundled pair is registered. Everything printed here, and more, is in `registration.result`, which
`write_outputs` writes as result.json.
"""

from __future__ import annotations

import argparse

from bundled import FIXED, MOVING

from SpikeRegLib import Progress, register


def report(progress: Progress) -> None:
    """Called again and again during the run; an exception raised here stops it."""
    print(f"\r{progress.stage:8} {progress.fraction:4.0%}", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", default=[FIXED, MOVING], metavar="FIXED MOVING")
    parser.add_argument("--preset", default="brain-t1")
    parser.add_argument("--iterations", type=int, help="of the optimisation, per level (default: the preset's)")
    options = parser.parse_args()
    fixed, moving = options.images

    registration = register(fixed, moving, preset=options.preset, refine_iterations=options.iterations, listener=report)

    print("\r", end="")
    result = registration.result
    similarity, deformation = result["similarity"], result["deformation"]
    print(f"verdict: {result['verdict']['level']}; {'; '.join(result['verdict']['reasons'])}")
    print(f"{similarity['measure']}: {similarity['lncc_before']:.3f} before, {similarity['lncc_after']:.3f} after")
    print(f"moved by {deformation['mean_mm']:.1f} mm on average, {deformation['max_mm']:.1f} mm at most")
    print(f"folded voxels: {deformation['folding_percent']:.4f} %")
    print(f"CPU seconds: {sum(result['cpu_s'][stage] for stage in ('prepare', 'align', 'predict', 'refine')):.1f}")
    if result["spikes"] is not None:  # methods without a spiking network have none
        print(f"mean spike rate: {result['spikes']['mean_rate']:.1%}")
    print("warped image:", tuple(registration.warped.data.shape), "voxels on the grid of the fixed one")


if __name__ == "__main__":
    main()
