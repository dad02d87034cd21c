"""The benchmarks' own scoring against the independent scorer, and the choice of pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))

import evaluation

from SpikeRegLib.image_files import frame_of
from SpikeRegLib.images import Volume

SCORER = evaluation.DATA.parent / "score" / "score.py"


@pytest.mark.data
@pytest.mark.skipif(not SCORER.is_file(), reason=f"the independent scorer is not at {SCORER}")
def test_scores_are_those_of_the_independent_scorer(tmp_path):
    random = np.random.default_rng(0)
    noise = sitk.GetImageFromArray(random.standard_normal((30, 34, 28)).astype(np.float32))
    files, volumes = [], []
    for shift in (0.0, 0.02):  # two label maps on a flipped, anisotropic grid
        smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(noise + shift, 3.0))
        image = sitk.GetImageFromArray(np.digitize(smooth, (-0.05, 0.0, 0.05)).astype(np.int16))
        image.SetSpacing((1.0, 1.2, 1.5))
        image.SetOrigin((10.0, -20.0, 5.0 + 10 * shift))
        image.SetDirection((1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
        files.append(tmp_path / f"labels{shift}.nii.gz")
        sitk.WriteImage(image, str(files[-1]))
        volumes.append(Volume(torch.from_numpy(sitk.GetArrayFromImage(image)), frame_of(image)))
    vectors = np.stack([20 * random.standard_normal((30, 34, 28)) for _ in range(3)], -1).astype(np.float32)
    field = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(vectors, isVector=True), 1.5)
    field.CopyInformation(sitk.ReadImage(str(files[0])))
    sitk.WriteImage(field, str(tmp_path / "field.nii.gz"))
    command = [sys.executable, SCORER, "--fixed-seg", files[0], "--moving-seg", files[1]]
    command += ["--transform", tmp_path / "field.nii.gz"]
    expected = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True).stdout)
    total = torch.from_numpy(np.moveaxis(sitk.GetArrayFromImage(field), -1, 0).copy())
    assert evaluation.overlap(total, *volumes) == pytest.approx(expected["dice_mean"], abs=2e-4)
    figures = evaluation.regularity(total, volumes[0].frame, volumes[0].data > 0)
    assert expected["folding_percent"] > 0.1
    assert figures["folding_percent"] == pytest.approx(expected["folding_percent"], abs=1e-6)
    assert figures["true_folding_percent"] != pytest.approx(expected["folding_percent"], rel=1e-3)


def test_pairs_are_balanced_distinct_and_never_reversed():
    names = [f"{n:02}" for n in range(13)]
    start = [("00", "10"), ("10", "11"), ("11", "01"), ("12", "02"), ("03", "12"), ("11", "12")]
    pairs = evaluation.balanced_pairs(names, start, 40, 0)
    assert pairs[:6] == start
    assert len({frozenset(pair) for pair in pairs}) == 40
    for role in (0, 1):
        assert sorted(Counter(pair[role] for pair in pairs).values()) == [3] * 12 + [4]
