"""The page on training and registering from Python: all of its code runs, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import SpikeRegLib
from SpikeRegLib.images.volumes import write_volume

PAGE = Path(__file__).parents[2] / "Docs" / "research-api.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("error")
def test_the_code_of_the_page_runs_from_top_to_bottom(known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (recipe,) = blocks("yaml")
    Path("recipe.yaml").write_text(recipe, encoding="utf-8")
    write_volume(known.fixed, tmp_path / "fixed.nii.gz")
    write_volume(known.moving, tmp_path / "moving.nii.gz")
    names: dict = {}
    for number, code in enumerate(blocks("python"), 1):
        exec(compile(code, f"block {number} of {PAGE.name}", "exec"), names)
    assert names["config"].finetune.weights.operations == 0.1
    found = names["deformation_field"]
    assert found.result["method"] == "spikereg" and found.result["model"]["name"] == "best_model"
    assert not any("bare array" in warning for warning in found.result["warnings"])
    scale = float(found.warped.data.max())
    assert float((found.warped.data - names["warped"].data).abs().max()) < 1e-3 * scale


def test_the_page_uses_every_promised_name():
    code = "\n".join(blocks("python"))
    for name in ("SpikeRegUNet", "SpikeRegTrainer", "SpikeRegInference", "load_config"):
        assert name in SpikeRegLib.__all__ and re.search(rf"\b{name}\(", code), name
    for call in (".train(", ".save(", ".register(", ".apply_deformation("):
        assert call in code
