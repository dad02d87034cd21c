"""Simulated atrophy of the hippocampus read back by `spikereg longitudinal`.

    python Benchmarks/atrophy.py [--out Benchmarks/results/atrophy.json]

Of three development brains each, two visits are made from one image. In the second, both hippocampi have lost about
1 % of their volume: a velocity, the gradient of a potential whose Laplacian is -1 % there and 0 elsewhere, tapers off
around them, falls to zero at the border of the image, and is scaled so that the Jacobian of its flow averages .99 over
the manual labels of both hippocampi, exactly. Both visits are turned by a degree or two and moved by millimetres, so
that both are interpolated, and have independent noise. The truth is the integral of the known Jacobian over the manual
labels; what is read back is the change that the command reports, of the structures that it finds by itself. With
`--atrophy 0` nothing changes but noise and pose. Of the first subject both orders of the visits are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from evaluation import DATA, RESULTS, one_thread, subject_image, write_json

from SpikeRegLib.groups.members import digests_of
from SpikeRegLib.groups.visits import compare_visits
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_image, read_labels, write_volume
from SpikeRegLib.quality.metrics import jacobian_determinant
from SpikeRegLib.space.fields import exponential
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, compose, warp_image

SUBJECTS = ("1000", "1006", "1110")
HIPPOCAMPI = (47, 48)  # right and left, in the manual labels
FOUND = (53, 17)
SPREAD_MM = 2.0


def atrophy_velocity(labels: torch.Tensor, spacing: tuple[float, float, float]) -> torch.Tensor:
    """[3, D, H, W] voxels along the array's axes (x, y, z): divergence -1 in the labels, smoothed, and 0 elsewhere.

    The gradient of the solution of Poisson's equation on the grid, doubled in size against wrapping around.
    """
    source = -gaussian(labels.float(), SPREAD_MM / spacing[0])
    shape = [2 * n for n in source.shape]
    waves = torch.meshgrid(*(2 * torch.pi * torch.fft.fftfreq(n) for n in shape), indexing="ij")
    square = sum(wave**2 for wave in waves)
    square[0, 0, 0] = 1
    spectrum = torch.fft.fftn(source, s=shape) / -square
    spectrum[0, 0, 0] = 0
    depth, height, width = source.shape
    parts = [torch.fft.ifftn(1j * wave * spectrum).real[:depth, :height, :width] for wave in reversed(waves)]
    return torch.stack(parts)


def scaled_to(velocity: torch.Tensor, frame: Frame, mask: torch.Tensor, wanted: float) -> torch.Tensor:
    """The displacement [3, D, H, W] mm of the flow whose Jacobian averages `wanted` over the mask."""
    factor = 1 - wanted
    for _ in range(4):
        flow = exponential(factor * velocity[None])[0]
        axes = torch.from_numpy(frame.matrix[:3, :3]).float()
        displacement = torch.einsum("ij,jdhw->idhw", axes, flow)
        reached = float(jacobian_determinant(displacement, frame)[mask].double().mean())
        if wanted == 1:
            break
        factor *= (1 - wanted) / (1 - reached)
    return displacement


def posed(random: np.random.Generator, centre: np.ndarray) -> AffineTransform:
    """A small rigid motion: a degree or two, some millimetres."""
    turn = sitk.Euler3DTransform(centre.tolist(), *np.radians(random.uniform(-2, 2, 3)), random.uniform(-3, 3, 3))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
    matrix[:3, 3] = turn.TransformPoint((0.0, 0.0, 0.0))
    return AffineTransform(matrix)


def noisy(image: Volume, white: float, snr: float, random: np.random.Generator) -> Volume:
    """Independent noise in all that is not background."""
    noise = torch.from_numpy(random.normal(size=image.data.shape).astype(np.float32)) * (white / snr)
    return replace(image, data=torch.where(image.data > 0, (image.data + noise).clamp_min(1e-3), image.data))


def row_of(subject: str, atrophy: float, snr: float, seed: int, two_orders: bool) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    image = read_image(subject_image(subject))
    labels = read_labels(DATA / "dev" / f"oasis_{subject}_seg.nii.gz").data
    mask = torch.isin(labels, torch.tensor(HIPPOCAMPI))
    displacement = scaled_to(atrophy_velocity(mask, image.frame.spacing), image.frame, mask, 1 - atrophy / 100)
    jacobian = jacobian_determinant(displacement, image.frame)
    truth = 100 * (float(jacobian[mask].double().mean()) - 1)
    # The later visit shows at x + u(x) what the first one shows at x.
    there = DisplacementTransform(displacement, image.frame)
    centre = image.frame.to_mm((np.array(image.frame.size) - 1) / 2)
    white = float(torch.quantile(image.data[image.data > 0][::20], 0.9))
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, change in (("first", None), ("later", there.inverse())):
            pose = posed(random, centre)
            visit = warp_image(image, pose if change is None else compose(pose, change), image.frame)
            files[name] = Path(folder) / f"{name}.nii.gz"
            write_volume(noisy(visit, white, snr, random), files[name])
        begin = time.process_time()
        orders = (("first", "later"), ("later", "first"))[: 1 + two_orders]
        ways = [compare_visits({name: files[name] for name in order}, digests_of(files), threads=1) for order in orders]
        seconds = (time.process_time() - begin) / len(ways)
    found = []
    for way in ways:
        rows = {row["label"]: row for row in way.changes}
        both = [sum(rows[label][key] for label in FOUND) for key in ("ml_first", "ml_later")]
        found.append(100 * (both[1] / both[0] - 1))
    rows = {row["label"]: row["change_percent"] for row in ways[0].changes}
    back = 100 * (1 / (1 + found[1] / 100) - 1) if two_orders else None
    row = {
        "subject": subject, "atrophy_percent": atrophy, "snr": snr, "truth_percent": truth, "found_percent": found[0],
        "error_percent": found[0] - truth, "sides_percent": [rows[label] for label in FOUND],
        "directions_differ_percent": None if back is None else abs(found[0] - back),
        "correlation": min(visit["correlation"] for visit in ways[0].result["visits"]),
        "others_percent": float(np.sqrt(np.mean([value**2 for label, value in rows.items() if label not in FOUND]))),
        "cpu_s": seconds,
    }  # fmt: skip
    print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--atrophy", nargs="+", type=float, default=[1.0])
    parser.add_argument("--snr", type=float, default=40.0, help="white matter against the noise of one visit")
    parser.add_argument("--out", type=Path, default=RESULTS / "atrophy.json")
    options = parser.parse_args()
    one_thread()
    rows = []
    for number, subject in enumerate(options.subjects):
        for atrophy in options.atrophy:
            rows.append(row_of(subject, atrophy, options.snr, number, not rows))
            write_json(options.out, {"rows": rows})


if __name__ == "__main__":
    main()
