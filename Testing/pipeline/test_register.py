"""register(): what it returns and writes is one map, in the right direction, on any grid, and better than its input."""

from __future__ import annotations

import json

import brains
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from brains import brain_points, error_mm, on_grid, sample, stored_differently

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.presets.preset import PRESET_FOLDER
from SpikeRegLib.similarity.pair import itk_reading
from SpikeRegLib.space.transforms import AffineTransform, Transform, compose, write_transform

# The sample pair: files ----------------------------------------------------------------------------------------------


def read(folder, name: str) -> sitk.Image:
    return sitk.ReadImage(str(folder / name))


def test_simpleitk_resamples_with_the_saved_transform_to_the_saved_image(sample_run):
    fixed, moving = (sitk.ReadImage(str(brains.SAMPLE / f"{n}.nii.gz"), sitk.sitkFloat32) for n in ("fixed", "moving"))
    transform = sitk.ReadTransform(str(sample_run.folder / "transform.h5"))
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0))
    written = sitk.GetArrayFromImage(read(sample_run.folder, "warped.nii.gz"))
    assert np.abs(written - expected).max() < 1e-3 * (expected.max() - expected.min())
    labels = sitk.ReadImage(str(brains.SAMPLE / "moving_seg.nii.gz"))
    expected = sitk.GetArrayFromImage(sitk.Resample(labels, fixed, transform, sitk.sitkNearestNeighbor, 0))
    written = sitk.GetArrayFromImage(read(sample_run.folder, "warped_seg.nii.gz"))
    assert (written != expected).mean() < 1e-4  # half-way positions may round either way


def test_displacement_and_transform_files_are_the_same_map(sample_run):
    transform = sitk.ReadTransform(str(sample_run.folder / "transform.h5"))
    field = read(sample_run.folder, "displacement.nii.gz")
    vectors = sitk.GetArrayViewFromImage(field)
    random = np.random.default_rng(0)
    for _ in range(200):
        index = [int(random.integers(0, n)) for n in field.GetSize()]
        point = field.TransformIndexToPhysicalPoint(index)
        moved = np.array(transform.TransformPoint(point)) - point
        assert np.abs(vectors[tuple(index[::-1])] - moved).max() < 1e-2
    assert list(sample_run.registration.displacement.shape) == [3, *sample_run.registration.fixed.frame.shape]


def test_the_saved_inverse_leads_back(sample_run):
    forward, backward = (
        sitk.ReadTransform(str(sample_run.folder / f"{n}.h5")) for n in ("transform", "inverse_transform")
    )
    points = brain_points(sample_run.registration.fixed, 1000)
    errors = [np.linalg.norm(np.array(backward.TransformPoint(forward.TransformPoint(p))) - p) for p in points.numpy()]
    assert np.mean(errors) < 0.3
    reported = sample_run.registration.result["deformation"]["inverse_consistency_mm"]
    assert np.mean(errors) == pytest.approx(reported, abs=0.1)


def test_nothing_folds_in_the_eyes_of_itk(sample_run):
    field = sitk.Cast(read(sample_run.folder, "displacement.nii.gz"), sitk.sitkVectorFloat64)
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))[1:-1, 1:-1, 1:-1]
    assert determinant.min() > 0
    deformation = sample_run.registration.result["deformation"]
    assert deformation["folding_percent"] == 0 and deformation["jacobian_min"] > 0
    written = sitk.GetArrayFromImage(read(sample_run.folder, "jacobian.nii.gz"))
    # The fixed image of the sample is stored along the patient axes, where ITK's determinant is the right one.
    assert np.abs(written[1:-1, 1:-1, 1:-1] - determinant).max() < 1e-2


def test_the_predicted_error_lies_on_the_fixed_grid_and_says_nothing_elsewhere(sample_run):
    registration, facts = sample_run.registration, sample_run.registration.result["predicted_error"]
    path = sample_run.folder / "predicted_error.nii.gz"
    written = nibabel.load(path).get_fdata().T
    by_itk = sitk.GetArrayFromImage(read(sample_run.folder, path.name))
    assert (by_itk == np.nan_to_num(written)).all(), "ITK makes 0 of what is not a number"
    assert written.shape == registration.fixed.frame.shape
    known, anatomy = np.isfinite(written), registration.fixed.data.numpy() > 20
    assert known[anatomy].mean() > 0.99 and known[registration.fixed.data.numpy() == 0].mean() < 0.05
    assert written[known].mean() == pytest.approx(facts["mean_mm"], rel=0.1)
    assert 0 < facts["mean_mm"] < facts["worst_region_mm"] < facts["max_mm"] and facts["calibrated"]
    assert 0.3 < facts["mean_mm"] < 3 and facts["mean_mm"] < facts["p95_mm"] < facts["max_mm"]
    for place in facts["worst"]:
        index = registration.fixed.frame.to_index(np.array(place["place_mm"])).round().astype(int)[::-1]
        around = written[tuple(slice(max(0, n - 2), n + 3) for n in index)]
        assert np.nanmax(around) == pytest.approx(place["mm"], rel=0.15)


def test_segmentations_overlap_better_with_every_stage(sample_run):
    table = sample_run.registration.result["dice"]
    assert table["before_mean"] < table["aligned_mean"] < table["after_mean"]
    assert table["after_mean"] > 0.5
    fixed = sitk.ReadImage(str(brains.SAMPLE / "fixed_seg.nii.gz"), sitk.sitkInt16)
    warped = sitk.Cast(read(sample_run.folder, "warped_seg.nii.gz"), sitk.sitkInt16)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(fixed, warped)
    for label, value in table["per_label"].items():
        assert overlap.GetDiceCoefficient(int(label)) == pytest.approx(value, abs=1e-6)
    for when, suffix in (("before", "_before"), ("aligned", "_aligned"), ("after", "")):
        of_label = table[f"per_label{suffix}"]
        assert of_label.keys() == table["per_label"].keys()
        assert np.mean(list(of_label.values())) == pytest.approx(table[f"{when}_mean"])
    similarity = sample_run.registration.result["similarity"]
    assert similarity["lncc_before"] < similarity["lncc_aligned"] < similarity["lncc_after"]


def test_landmarks_come_closer(sample_run):
    table = sample_run.registration.result["tre_mm"]
    fixed, moving = sample_run.points
    assert table["before_mean"] == pytest.approx(float((fixed - moving).norm(dim=1).mean()))
    assert table["before_mean"] > 30 and table["after_mean"] < 6
    assert table["per_point_before"] == pytest.approx((fixed - moving).norm(dim=1).tolist())
    assert table["after_mean"] < table["aligned_mean"] < 0.5 * table["before_mean"]
    assert np.mean(table["per_point_aligned"]) == pytest.approx(table["aligned_mean"])
    transform = sitk.ReadTransform(str(sample_run.folder / "transform.h5"))
    for point, target, error in zip(fixed.tolist(), moving.numpy(), table["per_point"], strict=True):
        assert np.linalg.norm(np.array(transform.TransformPoint(point)) - target) == pytest.approx(error, abs=1e-2)


PROMISED = {
    "timing_s": {"prepare", "align", "predict", "refine", "finish", "total"},
    "similarity": {"lncc_before", "lncc_after"},
    "deformation": {
        "folding_percent", "sdlogj", "jacobian_min", "jacobian_max", "mean_mm", "max_mm", "inverse_consistency_mm",
    },
    "dice": {"before_mean", "after_mean", "per_label"},
    "tre_mm": {"before_mean", "after_mean", "per_point"},
    "spikes": {"timesteps", "mean_rate", "layers"},
    "energy": {
        "mac_pj", "ac_pj", "dense_twin_macs", "paper_baseline_macs", "analog_macs", "synaptic_ops", "snn_mj", "ann_mj",
        "reduction_vs_twin", "reduction_vs_paper",
    },
    "model": {"name", "sha256"},
    "verdict": {"level", "reasons"},
}  # fmt: skip


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_result_json_has_every_promised_entry(sample_run):
    text = (sample_run.folder / "result.json").read_text(encoding="utf-8")
    result = json.loads(text, parse_constant=no_constant)
    plain = {
        "schema",
        "method",
        "transform_type",
        "preset",
        "device",
        "threads",
        "seed",
        "versions",
        "peak_memory_mb",
        "hd95_mm",
        "warnings",
    }
    assert plain | set(PROMISED) <= set(result)
    for table, entries in PROMISED.items():
        assert entries <= set(result[table]), table
    assert (result["method"], result["preset"], result["device"], result["threads"]) == (
        "spikereg",
        "brain-t1",
        "cpu",
        1,
    )
    assert len(result["model"]["sha256"]) == 64 and result["model"]["name"] == "brain-t1"
    assert len(result["model"]["fine"]["sha256"]) == 64 and result["model"]["fine"]["name"] == "brain-t1-fine"
    assert result["arithmetic"] in ("int8", "bfloat16", "float32") and result["tile"] is None
    assert result["timing_s"]["total"] == pytest.approx(sum(v for k, v in result["timing_s"].items() if k != "total"))
    assert result["verdict"]["level"] in ("good", "check", "poor") and result["verdict"]["reasons"]
    assert set(result["spikes"]["layers"][0]) >= {"name", "rate", "count", "silent_percent", "synaptic_ops"}
    assert result["peak_memory_mb"] < 3000


def test_the_fine_pass_brings_real_weights_closer_than_the_coarse_one_alone(tmp_path):
    """Released weights, no refinement: similarity and overlap rise with the second network, and nothing folds."""
    text = (PRESET_FOLDER / "brain-t1.toml").read_text(encoding="utf-8")
    coarse = tmp_path / "coarse.toml"
    coarse.write_text(text.replace('fine_model = "brain-t1-fine"', 'fine_model = ""'), encoding="utf-8")
    pair = (brains.SAMPLE / "fixed.nii.gz", brains.SAMPLE / "moving.nii.gz")
    labels = {f"{role}_labels": brains.SAMPLE / f"{role}_seg.nii.gz" for role in ("fixed", "moving")}
    one, two = (
        register(*pair, preset=preset, refine_iterations=0, threads=1, **labels).result
        for preset in (coarse, "brain-t1")
    )
    assert "fine" not in one["model"] and two["model"]["fine"]["name"] == "brain-t1-fine"
    assert two["similarity"]["lncc_after"] > one["similarity"]["lncc_after"] + 0.01
    assert two["dice"]["after_mean"] > one["dice"]["after_mean"]
    assert two["deformation"]["folding_percent"] == 0
    names = [layer["name"] for layer in two["spikes"]["layers"]]
    assert names[: len(names) // 2] == [name.removeprefix("fine.") for name in names[len(names) // 2 :]]


def test_the_sparse_preset_spends_half_the_synaptic_energy_and_still_brings_labels_together(sample_run):
    """Its own two networks of the same layers, with two time steps."""
    pair = (brains.SAMPLE / "fixed.nii.gz", brains.SAMPLE / "moving.nii.gz")
    labels = {f"{role}_labels": brains.SAMPLE / f"{role}_seg.nii.gz" for role in ("fixed", "moving")}
    sparse = register(*pair, preset="brain-t1-sparse", refine_iterations=0, threads=1, **labels).result
    usual = sample_run.registration.result
    assert (sparse["model"]["name"], sparse["model"]["fine"]["name"]) == ("brain-t1-sparse", "brain-t1-fine-sparse")
    assert (sparse["spikes"]["timesteps"], usual["spikes"]["timesteps"]) == (2, 4)
    assert sparse["energy"]["synaptic_ops"] < 0.55 * usual["energy"]["synaptic_ops"]
    assert sparse["energy"]["ann_mj"] == pytest.approx(usual["energy"]["ann_mj"])
    assert sparse["dice"]["after_mean"] > sparse["dice"]["aligned_mean"] + 0.02
    assert sparse["deformation"]["folding_percent"] == 0


def test_energy_follows_from_the_printed_table(sample_run):
    energy, layers = (sample_run.registration.result[k] for k in ("energy", "spikes"))
    operations = sum(layer["synaptic_ops"] for layer in layers["layers"])
    assert energy["synaptic_ops"] == operations
    expected = (energy["mac_pj"] * energy["analog_macs"] + energy["ac_pj"] * operations) * 1e-9
    assert energy["snn_mj"] == pytest.approx(expected)
    assert energy["reduction_vs_twin"] == pytest.approx(energy["mac_pj"] * energy["dense_twin_macs"] * 1e-9 / expected)


def test_spike_maps_lie_over_the_brain(sample_run):
    """Mean rate and centre of gravity of the written maps: rates of the table, where the fixed brain is."""
    layers = {layer["name"]: layer for layer in sample_run.registration.result["spikes"]["layers"]}
    files = sorted((sample_run.folder / "spikes").iterdir())
    assert {file.name.removesuffix(".nii.gz") for file in files} == {
        n for n, layer in layers.items() if layer["neurons"]
    }
    brain = brain_points(sample_run.registration.fixed, 5000)
    lower, upper = brain.min(0).values.numpy(), brain.max(0).values.numpy()
    for file in files:
        image = sitk.ReadImage(str(file))
        rates = sitk.GetArrayFromImage(image)
        assert rates.min() >= 0 and rates.max() <= 1
        assert rates.mean() == pytest.approx(layers[file.name.removesuffix(".nii.gz")]["rate"], rel=1e-3, abs=1e-7)
        corners = [image.TransformIndexToPhysicalPoint([s * (n - 1) for n in image.GetSize()]) for s in (0, 1)]
        reach = image.GetSpacing()[0]
        assert (np.array(corners[0]) <= lower).all() and (np.array(corners[1]) + reach >= upper).all(), file.name


# Direction and geometry, on small pairs with a known answer ----------------------------------------------------------


@pytest.fixture(scope="module")
def found(known, quick):
    """The small pair registered from scratch."""
    return register(known.fixed, known.moving, preset=quick, threads=1)


def test_a_known_motion_and_push_are_recovered_with_the_right_sign(known, found):
    identity = Transform.identity()
    assert error_mm(identity, known.truth, known.points) > 5
    assert error_mm(found.transform, known.truth, known.points) < 1.0
    assert error_mm(found.inverse, known.truth.inverse(), known.truth.map_points(known.points)) < 1.0
    pushed = known.points[known.truth.transforms[0].map_points(known.points).sub(known.points).norm(dim=1) > 5]
    assert len(pushed) > 20 and error_mm(found.transform, known.truth, pushed) < 1.5


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (True, True, False)), ((1, 2, 0), (False, True, True)), ((2, 0, 1), (True,) * 3)]
)
def test_the_order_in_which_voxels_are_stored_changes_nothing(known, quick, order, flips):
    start = known.truth.transforms[1]
    plain = register(known.fixed, known.moving, preset=quick, initial_transform=start, threads=1)
    other = register(
        stored_differently(known.fixed, order, flips),
        stored_differently(known.moving, order[::-1], flips[::-1]),
        preset=quick,
        initial_transform=start,
        threads=1,
    )
    assert error_mm(other.transform, plain.transform, known.points) < 0.1
    deformation = [run.result["deformation"] for run in (plain, other)]
    assert deformation[1]["mean_mm"] == pytest.approx(deformation[0]["mean_mm"], rel=0.02)
    assert deformation[1]["folding_percent"] == 0


def test_oblique_and_anisotropic_grids_give_the_same_physical_answer(known, quick):
    fixed = on_grid(sample("fixed"), (2.5, 3.5, 4.0), direction=brains.TURNED)
    moving = brains.carried(
        on_grid(sample("fixed"), (2.0, 2.0, 2.0)), known.truth, on_grid(known.moving, (3.0, 2.5, 4.0)).frame
    )
    found = register(fixed, moving, preset=quick, initial_transform=known.truth.transforms[1], threads=1)
    assert found.warped.frame == fixed.frame
    before = error_mm(known.truth.transforms[1], known.truth, known.points)
    assert error_mm(found.transform, known.truth, known.points) < min(1.0, 0.6 * before)


@pytest.mark.parametrize("method", ["spikereg", "optimize"])
def test_odd_sizes_are_registered(known, method):
    fixed = on_grid(sample("fixed"), (2.7, 4.1, 4.9), shape=(33, 47, 61))
    moving = brains.carried(known.fixed, known.truth)
    found = register(
        fixed, moving, preset="fast-preview", method=method, initial_transform=known.truth.transforms[1], threads=1
    )
    assert found.warped.frame == fixed.frame and tuple(found.displacement.shape) == (3, 33, 47, 61)
    assert found.result["deformation"]["folding_percent"] == 0
    similarity = found.result["similarity"]
    assert similarity["lncc_after"] >= similarity["lncc_aligned"]


def test_identical_images_need_no_deformation(known, quick):
    found = register(known.fixed, known.fixed, preset=quick, threads=1)
    assert found.result["deformation"]["mean_mm"] < 0.2
    assert found.result["verdict"]["level"] == "good", found.result["verdict"]


def test_skipping_everything_gives_exactly_the_identity(known, quick):
    found = register(known.fixed, known.moving, preset=quick, skip_affine=True, refine_iterations=0, threads=1)
    assert float(found.displacement.abs().max()) == 0
    assert torch.allclose(found.warped.data, known.moving.data, atol=1e-3 * float(known.moving.data.max()))
    assert found.result["refinement"]["iterations"] == [] and found.result["spikes"] is None


def test_an_initial_transform_is_kept_whole_also_when_it_bends(known, quick, tmp_path):
    path = tmp_path / "initial.h5"
    write_transform(known.truth, path)
    for given in (known.truth, path):
        found = register(
            known.fixed, known.moving, preset=quick, initial_transform=given, refine_iterations=0, threads=1
        )
        assert error_mm(found.transform, known.truth, known.points) < 1e-3
        back = found.inverse.map_points(found.transform.map_points(known.points))
        assert float((back - known.points).norm(dim=1).mean()) < 0.1
    refined = register(known.fixed, known.moving, preset=quick, initial_transform=known.truth, threads=1)
    assert error_mm(refined.transform, known.truth, known.points) < 1.2  # less than half a voxel


def test_masks_keep_what_lies_outside_out(known, quick):
    start = known.truth.transforms[1]
    plain = register(known.fixed, known.moving, preset=quick, initial_transform=start, threads=1)
    spoilt = known.moving.data.clone()
    spoilt[:6, :6, :6] = 20_000.0  # a bright mark that would squeeze the brain into the lowest per mille of the range
    masks = [Volume((v.data > 0).to(torch.int16), v.frame) for v in (known.fixed, known.moving)]
    found = register(
        known.fixed,
        Volume(spoilt, known.moving.frame),
        preset=quick,
        initial_transform=start,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        threads=1,
    )
    assert error_mm(found.transform, plain.transform, known.points) < 0.5
    assert error_mm(found.transform, known.truth, known.points) < error_mm(start, known.truth, known.points)


# Methods and options -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preview(known):
    """The small pair registered by the network alone."""
    return register(known.fixed, known.moving, preset="fast-preview", threads=1, device="cpu", seed=3)


def test_the_same_seed_gives_the_same_transform(known, preview):
    again = register(known.fixed, known.moving, preset="fast-preview", threads=1, device="cpu", seed=3)
    assert torch.equal(again.displacement, preview.displacement)
    assert again.result["spikes"] == preview.result["spikes"]


def test_the_dense_twin_agrees_with_the_spiking_network_and_counts_no_spikes(known, preview):
    start = preview.transform.transforms[-1]
    dense = register(
        known.fixed, known.moving, preset="fast-preview", method="ann", initial_transform=start, threads=1, device="cpu"
    )
    assert dense.result["method"] == "ann" and dense.result["spikes"] is None and dense.spike_maps == {}
    assert dense.result["model"]["name"] == "brain-t1-teacher"
    assert error_mm(dense.transform, preview.transform, known.points) < 2.0


def test_time_steps_can_be_changed(known, preview):
    start = known.truth.transforms[1]
    finer = register(
        known.fixed, known.moving, preset="fast-preview", timesteps=8, initial_transform=start, threads=1, device="cpu"
    )
    assert preview.result["spikes"]["timesteps"] != finer.result["spikes"]["timesteps"] == 8
    neurons = [layer for layer in finer.result["spikes"]["layers"] if layer["neurons"]]
    assert all(layer["neuron_updates"] % (8 * layer["neurons"]) == 0 for layer in neurons)


@pytest.mark.parametrize(
    ("option", "value"),
    [("timesteps", 0), ("threads", 0), ("refine_iterations", -1), ("seed", -1), ("method", "magic")],
)
def test_options_that_cannot_be_are_named(known, quick, option, value):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}"):
        register(known.fixed, known.moving, preset=quick, **{option: value})


# Never worse without saying so ---------------------------------------------------------------------------------------


def test_unrelated_noise_is_never_called_good(known, quick):
    noise = torch.rand(known.fixed.frame.shape, generator=torch.Generator().manual_seed(0)) * 100 + 1
    found = register(known.fixed, Volume(noise, known.fixed.frame, "noise"), preset=quick, skip_affine=True, threads=1)
    similarity, verdict = found.result["similarity"], found.result["verdict"]
    assert verdict["level"] != "good"
    said = any("worse" in line for line in [*found.result["warnings"], *verdict["reasons"]])
    assert similarity["lncc_after"] >= max(similarity["lncc_before"], similarity["lncc_aligned"]) or said
    assert found.result["deformation"]["folding_percent"] == 0


def test_an_initial_transform_that_leads_away_is_refused(known, quick):
    away = np.eye(4)
    away[0, 3] = 900.0
    with pytest.raises(InputError, match="does not overlap the fixed image"):
        register(known.fixed, known.moving, preset=quick, initial_transform=AffineTransform(away))


# ITK's reading of the Jacobian ---------------------------------------------------------------------------------------


def turned(degrees: float) -> AffineTransform:
    return brains.rigid((0, 0, degrees), (0.0, 0.0, 0.0), np.zeros(3))


def test_itks_reading_is_left_aside_where_it_calls_the_alignment_a_fold():
    def frame(degrees: float) -> Frame:
        return Frame((20, 20, 20), direction=tuple(turned(degrees).matrix[:3, :3].ravel().tolist()))

    assert itk_reading(frame(0), turned(40)) is not None
    assert itk_reading(frame(180), turned(0)) is not None
    # 1 + (1/a) (1/r - 1) = 0 for turns r and a of 60 degrees each: the reading is singular without any deformation.
    assert itk_reading(frame(60), turned(-60)) is None or itk_reading(frame(60), turned(60)) is None
    assert itk_reading(frame(180), AffineTransform(np.diag([2.0, 2.0, 2.0, 1.0]))) is None
    bent = compose(brains.bump(frame(0), np.zeros(3)), turned(3))
    assert itk_reading(frame(0), bent) is None


def test_a_grid_and_a_head_turned_by_sixty_degrees_are_registered(known, quick):
    """With the singular reading as a guard, no deformation would be good enough and the run would not end."""
    angle = np.deg2rad(60.0)
    direction = (np.cos(angle), -np.sin(angle), 0.0, np.sin(angle), np.cos(angle), 0.0, 0.0, 0.0, 1.0)
    fixed = on_grid(sample("fixed"), (4.0, 4.0, 4.0), direction=direction)
    middle = known.points.mean(0).numpy()
    for degrees in (60, -60):
        truth = compose(known.truth.transforms[0], brains.rigid((0, 0, degrees), (0.0, 0.0, 0.0), middle))
        moving = brains.carried(known.fixed, truth, on_grid(sample("fixed"), shape=(70, 80, 80)).frame)
        found = register(fixed, moving, preset=quick, initial_transform=truth.transforms[1], threads=1)
        assert error_mm(found.transform, truth, known.points) < error_mm(truth.transforms[1], truth, known.points)
