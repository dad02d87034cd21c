"""T1 against T2 and FLAIR of one subject, with a known warp: how far from the truth `register` ends.

    python Benchmarks/multicontrast.py [--pairs T2 FLAIR] [--seeds 1 2 3] [--largest-mm 8 16] [--no-warp]

The moving image is warped with a smooth random field, `--largest-mm` long at most inside the brain, so the right map is
its inverse. Given T the map found and w the warp, the error at a point x of the fixed brain is |T(x) + w(T(x)) - x|.
The images of one session are taken to be aligned as they come; `--no-warp` shows how far a registration moves them.
Everything runs as a user would run it, the affine alignment included. CPU seconds are those of the whole call, one
thread. Runs that are not asked for stay in the result file as they were. Data: $SPIKEREG_DATA (see CONTRIBUTING.md),
Kirby 113; T1 and T2 at 1 mm, FLAIR at 2 mm.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import evaluation as data
import numpy as np
import torch

from SpikeRegLib.images.volumes import Volume, foreground_mask, read_image
from SpikeRegLib.pipeline import register
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import DisplacementTransform, warp_image

# Standard deviation of the Gaussian that makes noise the warp: its correlation falls to 1/e at twice this.
SMOOTHNESS_MM = 17.0
# Fixed image, moving image, preset, method instead of the preset's.
PAIRS = {
    "T2": ("t1brain", "t2brain", "brain-multicontrast", None),
    "T2-fixed": ("t2brain", "t1brain", "brain-multicontrast", None),
    "T2-no-network": ("t1brain", "t2brain", "brain-multicontrast", "optimize"),
    "FLAIR": ("t1brain_2mm", "flairbrain_2mm", "brain-multicontrast", None),
    "T2-structures": ("t1brain", "t2brain", "brain", None),
    "FLAIR-structures": ("t1brain_2mm", "flairbrain_2mm", "brain", None),
    "T1": ("t1brain", "t1brain", "brain-multicontrast", None),
    "T1-lncc": ("t1brain", "t1brain", "any-anatomy", None),
    "T2-lncc": ("t1brain", "t2brain", "any-anatomy", None),
}


def known_warp(volume: Volume, mask: torch.Tensor, seed: int, largest_mm: float) -> DisplacementTransform:
    """A smooth random displacement on the grid of `volume`, at most `largest_mm` in `mask`."""
    generator = torch.Generator().manual_seed(seed)
    spacing = volume.frame.spacing
    noise = torch.randn((3, *volume.frame.shape), generator=generator)
    for axis in range(3):  # a Gaussian of the same length in mm along every axis
        sigma = SMOOTHNESS_MM / spacing[axis]
        at = -1 - axis
        line = noise.movedim(at, -1)
        shape = line.shape
        flat = gaussian(line.reshape(-1, 1, 1, shape[-1]), sigma)
        noise = flat.reshape(shape).movedim(-1, at)
    length = noise.square().sum(0).sqrt()[mask].max()
    return DisplacementTransform(noise * (largest_mm / length), volume.frame)


def run(name: str, seed: int | None, largest_mm: float) -> dict[str, float | str]:
    """One registration, scored; without a seed the moving image stays as it is."""
    first, second, preset, method = PAIRS[name]
    fixed, moving = (read_image(data.DATA / f"small/kirby113_v2_{image}.nii.gz") for image in (first, second))
    mask = foreground_mask(fixed)
    points = torch.from_numpy(
        torch.nonzero(mask).flip(1).double().numpy() @ fixed.frame.matrix[:3, :3].T + fixed.frame.matrix[:3, 3]
    )
    warp = None
    if seed is not None:
        warp = known_warp(moving, foreground_mask(moving), seed, largest_mm)
        moving = replace(warp_image(moving, warp, moving.frame), name=moving.name)
    start = time.process_time()
    found = register(fixed, moving, preset=preset, method=method, threads=1)
    seconds = time.process_time() - start

    def error(mapped: torch.Tensor) -> np.ndarray:
        return ((mapped if warp is None else warp.map_points(mapped)) - points).norm(dim=1).numpy()

    before, after = error(points), error(found.transform.map_points(points))
    return {
        "fixed": first,
        "moving": second,
        "preset": preset,
        "method": method,
        "before_mm": float(before.mean()),
        "before_p95_mm": float(np.percentile(before, 95)),
        "after_mm": float(after.mean()),
        "after_p95_mm": float(np.percentile(after, 95)),
        "folding_percent": found.result["deformation"]["folding_percent"],
        "similarity": found.result["similarity"]["lncc_after"],
        "cpu_s": seconds,
        "verdict": found.result["verdict"]["level"],
        "machine": data.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=PAIRS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--largest-mm", nargs="+", type=float, default=[8.0, 16.0])
    parser.add_argument("--no-warp", action="store_true", help="leave the moving image as it is")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "contrast_warps.json")
    options = parser.parse_args()
    data.one_thread()
    wanted = [(largest_mm, seed) for largest_mm in options.largest_mm for seed in options.seeds]
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    kept = {(row["largest_mm"], row["pair"], row["seed"]): row for row in rows}
    for largest_mm, seed in [(0.0, None)] if options.no_warp else wanted:
        for name in options.pairs:
            row = {"pair": name, "largest_mm": largest_mm, "seed": seed, **run(name, seed, largest_mm)}
            kept[largest_mm, name, seed] = row
            print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
            order = sorted(kept, key=lambda key: (key[0], list(PAIRS).index(key[1]), key[2] or 0))
            data.write_json(options.out, {"smoothness_mm": SMOOTHNESS_MM, "rows": [kept[key] for key in order]})


if __name__ == "__main__":
    main()
