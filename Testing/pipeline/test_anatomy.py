"""What structures found in both images are used for: start, mask, refinement and verdict, each on request."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import SpikeRegLib
from SpikeRegLib import models
from SpikeRegLib.anatomy.brain import BrainMask
from SpikeRegLib.anatomy.head_check import HeadCheck
from SpikeRegLib.anatomy.layout import Layout, Places
from SpikeRegLib.anatomy.pose import FoundHead
from SpikeRegLib.anatomy.structures import CLASSES
from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_image
from SpikeRegLib.pipeline import anatomy as stages
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.inputs import load_side
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.pipeline.refine import schedule_of
from SpikeRegLib.pipeline.stage import Work
from SpikeRegLib.presets.preset import load_preset
from SpikeRegLib.progress import silent
from SpikeRegLib.report import render_report
from SpikeRegLib.report.anatomy import anatomy_part
from SpikeRegLib.similarity.contrast import MEASURES, Comparison
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.transforms import AffineTransform, warp_image

SAMPLE = Path(SpikeRegLib.__file__).parent / "sample"
PAIR = SAMPLE / "fixed.nii.gz", SAMPLE / "moving.nii.gz"
QUICK = {"preset": "brain", "refine_iterations": 2, "threads": 1}


@pytest.fixture(scope="module")
def memory() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def everything(memory):
    return register(*PAIR, **QUICK, memory=memory)


def test_structures_start_refine_and_judge(everything):
    found = everything.result["anatomy"]
    assert found["used_for"] == ["start", "refinement", "verdict"] and found["asked_for"] == list(stages.USES)
    assert found["images"]["fixed"]["head"] and found["images"]["moving"]["off_mm"] < 6
    assert 0.5 < found["agreement"] < 1
    hippocampus = found["structures"]["17"]
    assert hippocampus["name"] == "left hippocampus" and hippocampus["agreement"] > 0.3
    assert 0.5 < hippocampus["moving_ml"] / hippocampus["fixed_ml"] < 2 and 1 < hippocampus["fixed_ml"] < 10
    shares = {s["name"]: s["agreement"] for s in found["structures"].values() if s["agreement"] is not None}
    assert shares[found["lowest_structure"]] == found["lowest_agreement"]
    assert found["lowest_share"] == pytest.approx(found["lowest_agreement"] / found["lowest_usual"])
    assert len(found["lowest_at_mm"]) == 3
    of_structures = everything.result["predicted_error"]["structures"]
    assert of_structures["17"]["name"] == "left hippocampus" and of_structures["17"]["mean_mm"] > 0
    assert found["synaptic_ops"] > 1e8 and found["snn_mj"] < 40
    json.dumps(found, allow_nan=False)


def test_the_spikes_of_the_only_network_can_be_seen(memory, everything):
    spikes = everything.result["spikes"]
    assert spikes["network"] == "structures" and spikes["views"] == 4 and 0.1 < spikes["mean_rate"] < 0.25
    assert everything.spike_maps == {}
    told: list = []
    shown = register(*PAIR, **QUICK, spike_maps=True, background=1.0, memory=memory, listener=told.append)
    finishing = [report.fraction for report in told if report.stage == "finish"]
    assert finishing == sorted(finishing)
    assert "fixed anatomy" in shown.result["reused"] and "refinement" in shown.result["reused"]
    assert shown.result["spikes"] == spikes
    assert shown.spike_maps.keys() == {layer["name"] for layer in spikes["layers"] if layer["neurons"]}
    rates = {name: volume.data for name, volume in shown.spike_maps.items()}
    assert all(float(rate.min()) >= 0 and 0 < float(rate.max()) <= 1 for rate in rates.values())
    finest = shown.spike_maps["dec2.conv"]
    brain = everything.fixed.data > 0
    seen = warp_image(Volume(brain.float(), everything.fixed.frame), AffineTransform.identity(), finest.frame).data
    assert float(finest.data.std()) > 0.02
    assert float((seen > 0.9).sum()) * 4.0**3 > 0.5 * float(brain.sum()) * np.prod(everything.fixed.frame.spacing)
    assert "Of the network that names structures" in render_report(shown)


def test_the_report_names_the_structures(everything):
    page = render_report(everything)
    assert "left hippocampus" in page and "Overlap of each structure" in page and "right putamen" in page
    assert "Anatomy" not in anatomy_part({}) and anatomy_part({"anatomy": None}) == ""
    strange = json.loads(json.dumps(everything.result))
    strange["anatomy"]["images"]["moving"] = {"head": False, "reason": "it is <b>a knee</b>", "off_mm": None}
    assert "it is &lt;b&gt;a knee&lt;/b&gt;" in anatomy_part(strange)


def test_the_start_lies_where_structures_put_it(everything):
    """Both centres of the brain: the map takes one near the other, before any deformation."""
    result = register(*PAIR, **QUICK | {"refine_iterations": 0, "structures": "start"}).result
    assert result["anatomy"]["used_for"] == ["start"] and result["anatomy"]["agreement"] is None
    assert result["similarity"]["lncc_aligned"] > 0.8 * everything.result["similarity"]["lncc_aligned"]
    assert result["deformation"]["sdlogj"] < 1e-3


def test_a_second_run_reads_no_image_again(everything, memory):
    register(*PAIR, **QUICK | {"regularisation": 1.2}, memory=memory)
    assert {"fixed anatomy", "moving anatomy", "alignment", "structure maps"} <= set(memory.reused)
    assert "refinement" not in memory.reused


@pytest.mark.parametrize("asked", ["none", "refinement"])
def test_each_use_can_be_left_out(asked, everything):
    result = register(*PAIR, **QUICK, structures=asked).result
    if asked == "none":
        assert result["anatomy"] is None
    else:
        assert result["anatomy"]["used_for"] == ["refinement"]
    # Found by a search in the images, so not the same alignment.
    assert result["similarity"]["lncc_aligned"] != everything.result["similarity"]["lncc_aligned"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "brain", "structures": "start,looks"}, "--structures looks: unknown; give all, none, or some of"),
        ({"preset": "any-anatomy", "structures": "all"}, "--structures: preset any-anatomy finds none"),
    ],
)
def test_what_cannot_be_used_is_said(options, said):
    with pytest.raises(InputError, match=said):
        register(*PAIR, **options)


def test_uses_are_read_with_commas_in_any_order():
    assert stages.uses_of("verdict, start", "brain", True) == ("start", "verdict")
    assert stages.uses_of(None, "brain", True) == stages.USES and stages.uses_of(None, "other", False) == ()
    assert stages.uses_of("none", "other", False) == ()


def test_what_is_no_head_is_registered_without_structures(tmp_path):
    torch.manual_seed(0)
    fixed = read_image(PAIR[0])
    noise = torch.nn.functional.avg_pool3d(torch.rand(1, 1, *fixed.frame.shape), 3, 1, 1)[0, 0]
    other = Volume(torch.where(fixed.data > 0, noise, 0.0), fixed.frame, "noise")
    result = register(fixed, other, **QUICK).result
    assert result["anatomy"]["used_for"] == [] and not result["anatomy"]["images"]["moving"]["head"]
    assert any("noise: does not look like a head" in warning for warning in result["warnings"])
    assert result["verdict"]["level"] != "good"


def test_the_command_has_the_option(tmp_path):
    images = [str(path) for path in PAIR]
    command = ["register", *images, "--out", str(tmp_path / "r"), "--preset", "brain", "--refine-iterations", "0"]
    assert main([*command, "--threads", "1", "--progress", "none", "--structures", "start"]) == 0
    written = json.loads((tmp_path / "r" / "result.json").read_text(encoding="utf-8"))
    assert written["anatomy"]["used_for"] == ["start"]


def layout() -> Layout:
    return Layout.from_json(models.read_header(models.find("structures", "spikereg")).facts["layout"])


HEAD = HeadCheck(True, "", 32, 1.5, (0.9, 1.1), 1500.0, 0.8)


def found_head(**known) -> FoundHead:
    """With what is known alone."""
    return FoundHead(**dict.fromkeys(field.name for field in dataclasses.fields(FoundHead)) | known)


def test_a_brain_is_where_it_is_likelier_than_not_on_any_grid():
    likelier = torch.full((20, 20, 20), -2.0)
    likelier[3:15, 3:15, 3:15] = 2.0
    frame = Frame((20, 20, 20), spacing=(2.0,) * 3)
    found = BrainMask(likelier, frame)
    assert found.volume_ml == pytest.approx(12**3 * 8 / 1000)
    on = found.on(Frame((40, 40, 40), (-0.5,) * 3, (1.0,) * 3))
    assert int(on.sum()) == pytest.approx(24**3, rel=0.1) and not on[33:].any()


@pytest.mark.parametrize("uses", [("mask",), ()])
def test_a_whole_head_gets_the_mask_of_its_brain_and_a_stripped_one_keeps_its_own(uses):
    frame = Frame((24, 24, 24), spacing=(4.0,) * 3)
    data = torch.zeros(24, 24, 24)
    data[2:22, 2:22, 2:22] = 100 + torch.rand(20, 20, 20)
    given = load_side(Volume(data, frame))
    share = torch.zeros(24, 24, 24)
    share[6:16, 6:16, 6:16] = 1.0
    for part, whole in ((share, True), ((data > 0).float(), False)):
        found = found_head(check=HEAD, brain=BrainMask(part - 0.5, frame))
        work = Work({"fixed input": given, "fixed anatomy": found}, silent, "s", ("fixed input", "fixed anatomy"))
        side = stages._side("fixed", work, {"structures_for": uses})
        assert side.brain_only is (whole and bool(uses))
        if side.brain_only:
            assert torch.equal(side.mask, share > 0.5) and bool(side.left_out[3, 3, 3])
        else:
            assert side is given
    strange = dataclasses.replace(found, check=dataclasses.replace(HEAD, head=False))
    work = Work({"fixed input": given, "fixed anatomy": strange}, silent, "s", ("fixed input", "fixed anatomy"))
    assert stages._side("fixed", work, {"structures_for": ("mask",)}) is given


def test_a_map_between_structures_is_the_affine_one_between_their_places():
    there = layout().places
    matrix = np.array([[1.05, 0.02, 0, 9], [-0.03, 0.95, 0.1, -4], [0, -0.1, 1.0, 30], [0, 0, 0, 1]])
    moved = Places(there.centres @ matrix[:3, :3].T + matrix[:3, 3], there.volumes_ml)
    anatomies = [found_head(places=places) for places in (there, moved)]
    found = stages.start_of(*anatomies)
    assert isinstance(found, AffineTransform)
    assert np.abs(found.map_points(torch.from_numpy(there.centres[1:])).numpy() - moved.centres[1:]).max() < 1.0
    assert len(there.centres) == CLASSES


def test_images_of_two_contrasts_are_smoothed_more():
    """Only where the similarity was chosen by itself: a preset for two contrasts has its own lengths."""
    preset = load_preset("brain")

    def smoothed(measure: str, **changes: object) -> float:
        pair = Pair(Frame((9, 9, 9)), None, None, None, Comparison(measure))
        work = {"working pair": SimpleNamespace(working=pair)}
        asked = {"preset": dataclasses.replace(preset, **changes), "refine_iterations": None, "regularisation": 1.0}
        return schedule_of(SimpleNamespace(**asked), work).levels[0].velocity_sigma_mm

    one, two = MEASURES.values()
    usual = preset.refine.levels[0].velocity_sigma_mm
    assert preset.across_contrasts > 1.2 and smoothed(one) == usual
    assert smoothed(two) == pytest.approx(preset.across_contrasts * usual)
    assert smoothed(two, similarity="multicontrast") == usual
