"""The live view: exact within what it says, small, and closed to what comes from outside."""

from __future__ import annotations

import base64
import gzip
import html as html_module
import json
import re

import numpy as np
import pytest
import torch
from examples import FRAMES, OBLIQUE, a_registration

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.report import live, render_report
from SpikeRegLib.report.live_volumes import (
    ERROR_STEP_MM,
    JACOBIAN_STEP,
    every,
    grey_step,
    live_frame,
    live_volumes,
    thinned,
)
from SpikeRegLib.report.quantised import nifti_header, quantised


def unpacked(volume):
    """[D, H, W] values as the page's script reads them."""
    packed = gzip.decompress(base64.b64decode(volume["codes"]))
    codes = np.frombuffer(packed, "u1" if volume["bytes"] == 1 else "<u2").reshape(volume["shape"])
    return np.where(codes == 0, np.nan, volume["first"] + volume["step"] * (codes.astype(float) - 1))


@pytest.mark.parametrize(("step", "most"), [(0.5, 100.0), (0.01, 100.0), (1e-9, 1e6)])
def test_values_are_kept_within_half_a_step_and_nothing_stays_nothing(step, most):
    values = np.random.default_rng(0).uniform(-most, most, (5, 6, 7))
    values[0, 1] = np.nan
    packed = quantised(values, Frame((5, 6, 7)), step)
    assert packed["step"] == max(step, (np.nanmax(values) - np.nanmin(values)) / 65_533)
    assert np.nanmax(np.abs(unpacked(packed) - values)) <= packed["step"] * (0.5 + 1e-9)
    assert np.array_equal(np.isnan(unpacked(packed)), np.isnan(values))


@pytest.mark.parametrize("name", FRAMES)
def test_the_header_places_voxels_where_the_frame_does(name, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    frame = FRAMES[name]
    (tmp_path / "a.nii").write_bytes(nifti_header(frame) + bytes(int(np.prod(frame.shape))))
    image = nibabel.load(tmp_path / "a.nii")
    assert image.shape == frame.size and image.get_data_dtype() == np.uint8
    assert np.allclose(image.affine, np.diag([-1, -1, 1, 1]) @ frame.matrix, atol=1e-5)


def test_a_small_image_keeps_its_voxels_and_values():
    registration = a_registration(FRAMES["oblique"])
    error = torch.rand(registration.fixed.frame.shape) * 5
    registration.predicted_error = Volume(error, registration.fixed.frame)
    volumes = {volume["name"]: volume for volume in live_volumes(registration)}
    fixed = volumes["fixed"]
    corner = np.linalg.inv(fixed["matrix"])[:3, 3]  # LPS mm of the first voxel
    i, j, k = np.rint(registration.fixed.frame.to_index(corner)).astype(int)
    depth, height, width = fixed["shape"]
    part = (slice(k, k + depth), slice(j, j + height), slice(i, i + width))
    for name, file, step in (("fixed", registration.fixed.data, fixed["step"]), ("error", error, ERROR_STEP_MM)):
        shown, true = unpacked(volumes[name]), file[part].numpy()
        inside = np.isfinite(shown)
        assert inside.sum() > 5000 and np.abs(shown - true)[inside].max() <= step * 0.501, name
    assert np.isnan(unpacked(volumes["jacobian"])[true == 0]).all()
    assert np.nanmax(np.abs(unpacked(volumes["jacobian"]) - 1)) <= JACOBIAN_STEP / 2


def test_greys_are_told_apart_in_round_steps():
    steps = [grey_step(window) for window in ((0.0, 200.0), (0.0, 199.0), (0.0, 1000.0), (-1000.0, 1500.0), (0.0, 1.0))]
    assert np.allclose(steps, [2.0, 1.0, 10.0, 20.0, 0.01])


def test_a_large_image_is_resampled_to_a_million_voxels_and_coarse_axes_stay():
    frame = Frame((40, 512, 512), spacing=(0.5, 0.5, 5.0), direction=OBLIQUE)
    found = live_frame(frame, torch.ones(frame.shape, dtype=torch.bool))
    assert 900_000 < np.prod(found.shape) <= 1_000_000 and found.spacing[2] == 5.0
    assert found.spacing[0] == found.spacing[1] > 0.5 and found.direction == frame.direction
    assert thinned(frame, 150_000) == 5 and every(frame, 5).shape == (8, 103, 103)


def test_the_worst_page_stays_below_six_megabytes():
    frame = Frame((160, 160, 160))
    registration = a_registration(FRAMES["plain"])
    noise = torch.randint(0, 1000, frame.shape, generator=torch.Generator().manual_seed(0)).float()
    registration.fixed = registration.warped = registration.moving = Volume(noise, frame)
    registration.jacobian = Volume(torch.ones(frame.shape), frame)
    assert len(render_report(registration)) < 6_000_000


def test_what_is_not_there_has_no_choice():
    html = render_report(a_registration())
    assert 'value="error"' not in html and 'value="spikes"' in html and 'id="live-worst" hidden' in html
    registration = a_registration(predicted_error={"worst": [{"place_mm": [1.0, 2.0, 3.0], "mm": 4.0}]})
    registration.predicted_error, registration.spike_maps = registration.jacobian, {}
    html = render_report(registration)
    assert 'value="error"' in html and 'value="spikes"' not in html and 'id="live-worst" hidden' not in html
    data = json.loads(re.search(r'id="live-data">(.*?)</script>', html)[1])
    assert data["worst"] == [{"place_mm": [1.0, 2.0, 3.0], "mm": 4.0}]


def test_texts_cannot_leave_the_data():
    nasty = "</script><script>alert(1)</script><!--&"
    assert not re.search("[<>&]", live.script_json({nasty: nasty})) and json.loads(live.script_json([nasty])) == [nasty]


def test_the_browser_is_told_to_fetch_nothing_and_to_run_only_this_script():
    html = render_report(a_registration())
    policy = html_module.unescape(re.search(r'Security-Policy" content="([^"]*)"', html)[1])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy and "script-src 'unsafe" not in policy and "*" not in policy


def test_a_missing_viewer_is_said_and_the_pictures_remain(monkeypatch, tmp_path):
    monkeypatch.setattr(live, "NIIVUE", tmp_path / "niivue.js.gz")
    registration = a_registration()
    html = render_report(registration)
    reason = f"niivue.js.gz: missing from {tmp_path}, so the report has no live view; install SpikeReg again"
    assert registration.result["warnings"] == [reason] and html_module.unescape(html).count(reason) == 2
    assert "<script" not in html and html.count("<img") >= 28
    render_report(registration)
    assert registration.result["warnings"] == [reason], "said once"


def test_a_notebook_shows_the_report_in_a_frame_of_its_own():
    shown = a_registration().view()._repr_html_()
    page = html_module.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1])
    assert shown.startswith('<iframe sandbox="allow-scripts"') and page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>") and "live-canvas" in page
