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

from SpikeRegLib.images.files import frame_of
from SpikeRegLib.images.volumes import Volume

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


CODE = '''
def limit(value, most=3):
    """What is kept."""
    if value > most:
        raise ValueError(f"value: at most {most}, got {value}")
    warnings = ["near"]
    warnings.append(f"{value} is near")
    listener(Progress("predict", 0.5, "half"))
    return {"kept": min(value, most)}, warnings
'''
WORDS = {
    "a comment": ("most=3):", "most=3):  # three"),
    "layout": ("    if value > most:", "\n    if (value > most):"),
    "a docstring": ("What is kept.", "What stays."),
    "no docstring": ('    """What is kept."""\n', ""),
    "the text of an error": ("at most {most}, got {value}", "{value} is above {most}"),
    "a warning": ("is near", "comes near"),
    "a first warning": ('"near"', '"nearby"'),
    "a progress message": ('"half"', '"one half"'),
}
DEEDS = {
    "a default": ("most=3", "most=4"),
    "a comparison": ("value > most", "value >= most"),
    "the kind of an error": ("ValueError", "TypeError"),
    "a key": ('"kept"', '"held"'),
    "a call": ("min(", "max("),
    "a number in a report": ("0.5", "0.6"),
}


def stamps(folder: Path, text: str, monkeypatch) -> set[str]:
    (folder / "SpikeRegLib" / "spiking").mkdir(parents=True, exist_ok=True)
    for name in ("filters.py", "spiking/spec.py"):
        (folder / "SpikeRegLib" / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(evaluation, "ROOT", folder)
    return {
        evaluation.library_stamp.__wrapped__(network=True),
        evaluation.library_stamp.__wrapped__(network=False),
        evaluation.code_stamp.__wrapped__(("filters",)),
    }


@pytest.mark.parametrize("change", WORDS)
def test_stamps_of_code_stay_where_only_words_change(change, tmp_path, monkeypatch):
    old, new = WORDS[change]
    assert CODE.replace(old, new) != CODE
    assert stamps(tmp_path, CODE, monkeypatch) == stamps(tmp_path, CODE.replace(old, new), monkeypatch)


@pytest.mark.parametrize("change", DEEDS)
def test_stamps_of_code_change_with_what_it_does(change, tmp_path, monkeypatch):
    old, new = DEEDS[change]
    assert not stamps(tmp_path, CODE, monkeypatch) & stamps(tmp_path, CODE.replace(old, new), monkeypatch)


def test_the_key_of_a_preset_is_its_values(tmp_path):
    texts = ('description = "a"\npasses = 1\n', '# said anew\ndescription = "b"\npasses = 1\n', "passes = 2\n")
    keys = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
        keys.append(evaluation.digest(tmp_path / f"{number}.toml"))
    assert keys[0] == keys[1] != keys[2]


def test_pairs_are_balanced_distinct_and_never_reversed():
    names = [f"{n:02}" for n in range(13)]
    start = [("00", "10"), ("10", "11"), ("11", "01"), ("12", "02"), ("03", "12"), ("11", "12")]
    pairs = evaluation.balanced_pairs(names, start, 40, 0)
    assert pairs[:6] == start
    assert len({frozenset(pair) for pair in pairs}) == 40
    for role in (0, 1):
        assert sorted(Counter(pair[role] for pair in pairs).values()) == [3] * 12 + [4]
