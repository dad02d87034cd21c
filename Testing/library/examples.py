"""Small registrations with known content, for the tests of what is written about them."""

from __future__ import annotations

import numpy as np
import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.space.transforms import Transform

ANGLE = 0.4
OBLIQUE = (np.cos(ANGLE), -np.sin(ANGLE), 0.0, np.sin(ANGLE), np.cos(ANGLE), 0.0, 0.0, 0.0, 1.0)
FRAMES = {
    "plain": Frame((40, 48, 44), (-20.0, -22.0, -18.0)),
    "anisotropic": Frame((16, 48, 44), (-20.0, -22.0, -18.0), (1.0, 1.0, 2.5)),
    "oblique": Frame((40, 48, 44), (-10.0, -26.0, -18.0), (1.0, 1.0, 1.0), OBLIQUE),
    "flipped": Frame((40, 48, 44), (22.0, 24.0, -18.0), (1.0, 1.0, 1.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)),
}


def world_points(frame: Frame) -> np.ndarray:
    """[D, H, W, 3] LPS mm of the voxel centres."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in frame.shape), indexing="ij")
    return np.stack([i, j, k], -1) @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]


def ball(frame: Frame, centre=(0.0, 0.0, 0.0), radius: float = 13.0) -> np.ndarray:
    return np.linalg.norm(world_points(frame) - np.array(centre), axis=-1) < radius


def head(frame: Frame) -> Volume:
    """A grey ball at the origin with a bright dot to its left (+x), back (+y) and top (+z) in the patient."""
    data = ball(frame) * 100.0
    for axis in range(3):
        data[ball(frame, 8.0 * np.eye(3)[axis], 3.0)] = 200.0 + 20.0 * axis
    return Volume(torch.from_numpy(data.astype(np.float32)), frame, "head.nii.gz")


def a_registration(frame: Frame = FRAMES["plain"], **changes) -> Registration:
    fixed = head(frame)
    identity = Transform.identity()
    labels = Volume((fixed.data > 0).to(torch.int16), frame)
    result = {
        "schema": 1,
        "method": "spikereg",
        "preset": "brain-t1",
        "model": {"name": "brain-t1", "sha256": "ab" * 32},
        "timing_s": {"prepare": 0.5, "align": 2.0, "predict": 1.0, "refine": 3.0, "finish": 0.5, "total": 7.0},
        "similarity": {"lncc_before": 0.1, "lncc_aligned": 0.3, "lncc_after": 0.6},
        "deformation": {"folding_percent": 0.0, "jacobian_min": 0.4, "jacobian_max": 2.0, "sdlogj": 0.1},
        "dice": {"before_mean": 0.41, "after_mean": 0.83, "per_label": {"17": 0.83}, "per_label_before": {"17": 0.41}},
        "hd95_mm": {"after_mean": 1.5, "per_label": {"17": 1.5}},
        "tre_mm": None,
        "spikes": {
            "timesteps": 4,
            "mean_rate": 0.1,
            "layers": [
                {"name": "enc0", "rate": 0.125, "count": 10, "silent_percent": 50.0, "synaptic_ops": 270},
                {"name": "head", "rate": 0.0, "count": 0, "neurons": 0, "silent_percent": 0.0, "synaptic_ops": 9},
            ],
        },
        "energy": {
            "mac_pj": 4.6,
            "ac_pj": 0.9,
            "dense_twin_macs": 10**9,
            "paper_baseline_macs": 2 * 10**9,
            "analog_macs": 10**8,
            "synaptic_ops": 10**8,
            "neuron_updates": 123456,
            "snn_mj": 0.55,
            "ann_mj": 4.6,
            "reduction_vs_twin": 8.4,
            "reduction_vs_paper": 16.7,
        },
        "verdict": {"level": "good", "reasons": ["the images agree"]},
        "warnings": [],
    } | changes
    return Registration(
        fixed=fixed,
        moving=fixed,
        warped=fixed,
        transform=identity,
        inverse=identity,
        displacement=torch.zeros(3, *frame.shape),
        jacobian=Volume(torch.ones(frame.shape), frame),
        fixed_labels=labels,
        warped_labels=labels,
        spike_maps={"enc0": Volume(torch.full(frame.shape, 0.125), frame)},
        result=result,
    )
