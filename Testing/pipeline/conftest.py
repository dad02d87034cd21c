"""What the tests of the pipeline share: one registration of the sample pair, and one small pair with a known answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import brains
import numpy as np
import pytest
import torch

from SpikeRegLib.outputs.folder import write_outputs
from SpikeRegLib.pipeline import register


def label_centres(name: str) -> dict[int, np.ndarray]:
    """Label -> centre of gravity, LPS mm."""
    volume = brains.sample(name)
    labels, matrix = volume.data.numpy(), volume.frame.matrix
    return {
        int(label): np.argwhere(labels == label).mean(0)[::-1] @ matrix[:3, :3].T + matrix[:3, 3]
        for label in np.unique(labels)
        if label
    }


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory):
    """The sample pair registered by networks with everything on, its folder, landmarks, and the reports on the way."""
    centres = [label_centres(name) for name in ("fixed_seg", "moving_seg")]
    common = sorted(centres[0].keys() & centres[1].keys())
    points = [torch.from_numpy(np.stack([side[label] for label in common])) for side in centres]
    reports: list = []
    result = register(
        brains.SAMPLE / "fixed.nii.gz",
        brains.SAMPLE / "moving.nii.gz",
        fixed_labels=brains.SAMPLE / "fixed_seg.nii.gz",
        moving_labels=brains.SAMPLE / "moving_seg.nii.gz",
        fixed_points=points[0],
        moving_points=points[1],
        preset="brain-t1",
        spike_maps=True,
        threads=1,
        device="cpu",
        listener=reports.append,
    )
    folder = write_outputs(result, tmp_path_factory.mktemp("sample") / "out")
    counts = Counter(report.stage for report in reports)
    return SimpleNamespace(registration=result, folder=folder, points=points, reports=reports, counts=counts)


@pytest.fixture(scope="session")
def known():
    """A small pair and the map between its images."""
    fixed, moving, truth = brains.known_pair()
    return SimpleNamespace(fixed=fixed, moving=moving, truth=truth, points=brains.brain_points(fixed))


@pytest.fixture(scope="session")
def quick(tmp_path_factory) -> Path:
    """A preset that registers a small pair in a second, without a network."""
    path = tmp_path_factory.mktemp("preset") / "quick.toml"
    path.write_text(brains.QUICK_PRESET, encoding="utf-8")
    return path
