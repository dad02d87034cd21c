"""Metrics: overlap, surface distance, landmarks, Jacobian and inverse consistency, against SimpleITK and by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import set_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.points import check_inside, read_points, write_points
from SpikeRegLib.images.volumes import Volume, to_sitk
from SpikeRegLib.quality.metrics import (
    _drawn,
    _first_of_permutation,
    deformation_summary,
    dice,
    hd95_mm,
    inverse_consistency_mm,
    jacobian_determinant,
    target_registration_error_mm,
)
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform

ROTATION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
FRAME = Frame((21, 33, 27), (5.0, -40.0, 12.0), (1.5, 0.9, 2.2), tuple(ROTATION.ravel()))
STRAIGHT = Frame(FRAME.shape, FRAME.origin, FRAME.spacing)
FLIPPED = Frame(FRAME.shape, FRAME.origin, FRAME.spacing, (0, -1, 0, 0, 0, 1, 1, 0, 0))


def blob_labels(seed: int, frame: Frame = FRAME) -> Volume:
    generator = torch.Generator().manual_seed(seed)
    base = gaussian(torch.randn(1, *frame.shape, generator=torch.Generator().manual_seed(9)), 3.0)[0]
    own = gaussian(torch.randn(1, *frame.shape, generator=generator), 3.0)[0]
    value = base / base.std() + 0.3 * own / own.std()
    return Volume(torch.bucketize(value, torch.tensor([0.3, 0.8, 1.3])).to(torch.int16), frame)


def smooth_field(frame: Frame, largest_mm: float) -> torch.Tensor:
    field = gaussian(torch.randn(3, *frame.shape, generator=torch.Generator().manual_seed(4)), 2.0)
    return field * (largest_mm / field.norm(dim=0).max())


def test_dice_agrees_with_itk():
    fixed, warped = blob_labels(1), blob_labels(2)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(to_sitk(fixed), to_sitk(warped))
    ours = dice(fixed, warped)
    assert sorted(ours) == [1, 2, 3]
    for label, value in ours.items():
        assert value == pytest.approx(oracle.GetDiceCoefficient(label), abs=1e-9)
        assert 0.1 < value < 0.95


def test_dice_merges_labels_by_group_and_drops_the_rest():
    fixed, warped = blob_labels(1), blob_labels(2)
    merged = dice(fixed, warped, {1: 7, 2: 7})
    a, b = ((volume.data == 1) | (volume.data == 2) for volume in (fixed, warped))
    assert merged == {7: pytest.approx(2 * float((a & b).sum()) / float(a.sum() + b.sum()))}


def test_dice_of_a_lost_label_is_zero_and_of_itself_one():
    fixed = blob_labels(1)
    lost = Volume(torch.where(fixed.data == 2, 0, fixed.data.int()), FRAME)
    assert dice(fixed, lost)[2] == 0
    assert dice(fixed, fixed) == {1: 1.0, 2: 1.0, 3: 1.0}


def test_labels_on_another_grid_are_refused():
    with pytest.raises(InputError, match="another grid"):
        dice(blob_labels(1), blob_labels(1, STRAIGHT))


def test_hd95_is_the_shift_of_a_slab_in_mm_along_every_anisotropic_axis():
    for axis, step in ((0, 2.2), (1, 0.9), (2, 1.5)):
        fixed, warped = torch.zeros(FRAME.shape), torch.zeros(FRAME.shape)
        fixed.narrow(axis, 5, 4).fill_(1)
        warped.narrow(axis, 8, 4).fill_(1)
        result = hd95_mm(Volume(fixed.short(), FRAME), Volume(warped.short(), FRAME))
        assert result == {1: pytest.approx(3 * step, rel=1e-4)}


def test_hd95_agrees_with_brute_force():
    fixed, warped = blob_labels(1), blob_labels(2)
    ours = hd95_mm(fixed, warped)
    assert sorted(ours) == [1, 2, 3]
    for label, value in ours.items():
        surfaces = []
        for volume in (fixed, warped):
            inside = volume.data == label
            padded = torch.nn.functional.pad(inside, (1,) * 6, value=True)  # the border of the image is no surface
            core = torch.ones_like(inside)
            for axis in range(3):
                for shift in (0, 2):
                    window = [slice(1, -1)] * 3
                    window[axis] = slice(shift, shift + inside.shape[axis])
                    core &= padded[tuple(window)]
            surfaces.append((inside & ~core).nonzero().double() * torch.tensor([2.2, 0.9, 1.5], dtype=torch.float64))
        distance = torch.cdist(*surfaces)
        expected = max(np.percentile(distance.min(axis).values.numpy(), 95) for axis in (0, 1))
        assert value == pytest.approx(expected, rel=1e-4)


def test_landmark_error_is_measured_where_the_transform_sends_the_fixed_points():
    matrix = np.eye(4)
    matrix[:3, 3] = (3, 4, 0)
    fixed = torch.zeros(2, 3, dtype=torch.float64)
    moving = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert target_registration_error_mm(fixed, moving, AffineTransform(matrix)).tolist() == [0.0, 5.0]
    with pytest.raises(InputError, match="2 fixed and 1 moving"):
        target_registration_error_mm(fixed, moving[:1], AffineTransform(matrix))


def test_jacobian_agrees_with_itk_on_a_straight_grid():
    field = smooth_field(STRAIGHT, 10.0)
    image = set_frame(sitk.GetImageFromArray(field.permute(1, 2, 3, 0).double().numpy(), isVector=True), STRAIGHT)
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inside = (slice(1, -1),) * 3
    ours = jacobian_determinant(field, STRAIGHT).numpy()
    assert expected[inside].min() < 0 < 1 < expected[inside].max()
    assert np.abs(ours - expected)[inside].max() < 1e-4


@pytest.mark.parametrize("frame", [FRAME, FLIPPED], ids=["oblique", "permuted"])
def test_jacobian_does_not_depend_on_the_direction_of_the_grid(frame):
    """The same deformation of the body, rotated with the grid, has the same determinant at every voxel."""
    field = smooth_field(STRAIGHT, 10.0)
    rotation = torch.tensor(frame.direction, dtype=torch.float32).reshape(3, 3)
    rotated = torch.einsum("ab,bdhw->adhw", rotation, field)
    difference = jacobian_determinant(rotated, frame) - jacobian_determinant(field, STRAIGHT)
    assert difference.abs().max() < 1e-4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([FRAME, FLIPPED, STRAIGHT]))
def test_jacobian_of_an_affine_is_its_determinant_everywhere(seed, frame):
    matrix = np.eye(4)
    matrix[:3, :3] += np.random.default_rng(seed).normal(0, 0.2, (3, 3))
    if abs(np.linalg.det(matrix)) < 0.05:
        matrix = np.eye(4)
    field = AffineTransform(matrix).displacement_on(frame)
    assert torch.allclose(jacobian_determinant(field, frame), torch.tensor(np.linalg.det(matrix)).float(), atol=1e-3)


def test_deformation_summary_is_that_of_the_definition():
    field, mask = smooth_field(STRAIGHT, 10.0), blob_labels(1, STRAIGHT).data > 0
    summary = deformation_summary(field, STRAIGHT, mask)
    image = set_frame(sitk.GetImageFromArray(field.permute(1, 2, 3, 0).double().numpy(), isVector=True), STRAIGHT)
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))[1:-1, 1:-1, 1:-1]
    brain = determinant[mask.numpy()[1:-1, 1:-1, 1:-1]]
    length = np.linalg.norm(field.numpy(), axis=0)
    assert summary["folding_percent"] > 0
    assert summary == pytest.approx(
        {
            "folding_percent": 100 * (determinant <= 0).mean(),
            "sdlogj": np.log(np.clip(brain, 1e-3, None)).std(),
            "jacobian_min": determinant.min(),
            "jacobian_max": determinant.max(),
            "mean_mm": length.mean(),
            "max_mm": length.max(),
        },
        rel=1e-4,
    )


def test_inverse_consistency_is_the_mean_distance_inside_the_mask():
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = (1, 2, 2), (-1, -2, -1.5)
    forward, backward = AffineTransform(there), AffineTransform(back)
    mask = torch.zeros(FRAME.shape, dtype=torch.bool)
    mask[3:9, 4:20, 5:6] = True
    assert inverse_consistency_mm(forward, backward, FRAME, mask) == pytest.approx(0.5, abs=1e-4)
    assert inverse_consistency_mm(forward, forward.inverse(), FRAME) < 1e-4
    with pytest.raises(InputError, match="empty"):
        inverse_consistency_mm(forward, backward, FRAME, torch.zeros_like(mask))


def test_inverse_consistency_looks_at_the_masked_voxels_only():
    field = torch.zeros(3, *FRAME.shape)
    field[0, 12:] = 2.0
    forward = DisplacementTransform(field, FRAME)
    mask = torch.zeros(FRAME.shape, dtype=torch.bool)
    mask[15:18, 10:20, 8:15] = True
    identity = Transform.identity()
    assert inverse_consistency_mm(forward, identity, FRAME, mask) == pytest.approx(2.0, abs=1e-4)
    assert (
        inverse_consistency_mm(forward, identity, FRAME, mask.flip(0) & (torch.arange(21) < 10)[:, None, None]) < 1e-4
    )


POINTS = torch.tensor([[1.5, -2.25, 3.0], [-40.125, 0.0, 77.5]], dtype=torch.float64)
FCSV = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n# columns = id,x,y,z,ow,ox,oy,oz,vis,label\n"


@pytest.mark.parametrize("extension", ["fcsv", "mrk.json", "csv"])
def test_points_read_back_as_written(tmp_path, extension):
    write_points(POINTS, tmp_path / f"points.{extension}")
    assert torch.equal(read_points(tmp_path / f"points.{extension}"), POINTS)


@pytest.mark.parametrize("system", ["RAS", "0", "LPS", "1"])
def test_fcsv_follows_its_header(tmp_path, system):
    rows = 'vtkMRML_1,-1.5,2.25,3,0,0,0,1,1,F-1\nvtkMRML_2,40.125,0,77.5,0,0,0,1,1,1,0,"F,2"\n'
    (tmp_path / "p.fcsv").write_text(FCSV.format(system) + rows)
    expected = POINTS if system in ("RAS", "0") else POINTS * torch.tensor([-1, -1, 1])
    assert torch.equal(read_points(tmp_path / "p.fcsv"), expected)


@pytest.mark.parametrize("system", ["RAS", "LPS"])
def test_markups_json_follows_its_coordinate_system(tmp_path, system):
    points = [{"position": row, "positionStatus": "defined"} for row in [[-1.5, 2.25, 3.0], [40.125, 0.0, 77.5]]]
    (tmp_path / "p.mrk.json").write_text(
        json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": points}]})
    )
    expected = POINTS if system == "RAS" else POINTS * torch.tensor([-1, -1, 1])
    assert torch.equal(read_points(tmp_path / "p.mrk.json"), expected)


def test_csv_columns_are_found_by_name(tmp_path):
    (tmp_path / "p.csv").write_text("label,X,Y,Z\na,1.5,-2.25,3\nb,-40.125,0,77.5\n")
    assert torch.equal(read_points(tmp_path / "p.csv"), POINTS)
    (tmp_path / "q.csv").write_text("1.5,-2.25,3\n-40.125,0,77.5\n")
    assert torch.equal(read_points(tmp_path / "q.csv"), POINTS)


UNPLACED = {"markups": [{"controlPoints": [{"position": [0, 0, 0], "positionStatus": "undefined"}]}]}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "x,y,z\n1,2\n", "cannot be read as points"),
        ("b.csv", "x,y,z\n", "holds no points"),
        ("c.csv", "1,nan,3\n", "NaN or infinite"),
        ("d.mrk.json", "{}", "cannot be read as points"),
        ("e.mrk.json", json.dumps(UNPLACED), "point 1 is not placed"),
        ("f.txt", "1,2,3", "unknown point file type"),
        ("g.fcsv", FCSV.format("XYZ") + "a,1,2,3\n", "coordinate system XYZ"),
    ],
)
def test_unusable_points_are_refused_by_name(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_points(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    with pytest.raises(InputError, match="no such file"):
        read_points(tmp_path / "missing.csv")


def test_points_outside_the_image_are_refused_with_their_number():
    inside = torch.from_numpy(FRAME.corners())
    check_inside(inside, FRAME, "p.fcsv")
    beyond = torch.cat([inside, inside[:1] * torch.tensor([-1, -1, 1])])
    with pytest.raises(InputError, match=r"p\.fcsv: 1 of 9 points lie outside the image, the first is number 9"):
        check_inside(beyond, FRAME, "p.fcsv")


def test_inverse_consistency_of_a_sample_is_that_of_the_whole():
    frame = Frame((24, 26, 28), (3.0, -2.0, 1.0), (1.5, 1.0, 2.0))
    shift = np.eye(4)
    shift[:3, 3] = (0.3, 0.0, -0.4)  # the "inverse" misses by 0.5 mm everywhere
    forward, inverse = Transform.identity(), AffineTransform(shift)
    assert inverse_consistency_mm(forward, inverse, frame) == pytest.approx(0.5, abs=1e-5)
    assert inverse_consistency_mm(forward, inverse, frame, samples=500) == pytest.approx(0.5, abs=1e-9)


def test_labels_of_nine_digits_and_groups_are_counted_as_a_table_of_pairs_counts_them():
    random = np.random.default_rng(3)
    values = np.array([0, 0, 0, 4, 17, 614454277, 312782656, -5])
    arrays = [values[random.integers(0, len(values), (6, 7, 8))] for _ in range(2)]
    frame = Frame((6, 7, 8))
    maps = [Volume(torch.from_numpy(array.astype(np.int32)), frame) for array in arrays]
    groups = {4: 1, 614454277: 2, 17: 1, 99: 3}
    for table in (None, groups):
        first, second = (
            np.vectorize(lambda v, t=table: max(v, 0) if t is None else t.get(v, 0))(array) for array in arrays
        )
        wanted = {
            int(label): 2 * int(((first == label) & (second == label)).sum())
            / (int((first == label).sum()) + int((second == label).sum()))
            for label in np.unique(first) if label
        }  # fmt: skip
        assert dice(*maps, table) == wanted
    small = [Volume(torch.from_numpy(np.where(array > 100, 40, array).astype(np.int16)), frame) for array in arrays]
    whole = [Volume(v.data.int() + (v.data.int() > 0) * 2_000_000, frame) for v in small]
    assert [*dice(*small).values()] == [*dice(*whole).values()]
    assert [*hd95_mm(*small).values()] == [*hd95_mm(*whole).values()]
    assert [*hd95_mm(*whole)] == [label + 2_000_000 for label in hd95_mm(*small)]


@pytest.mark.parametrize("count", [1, 2, 9, 1000, 123_457])
def test_a_sample_is_the_beginning_of_the_permutation_that_torch_draws(count):
    whole = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    assert _first_of_permutation(count, 5000).tolist() == whole[:5000].tolist()


def test_voxels_are_drawn_from_the_mask_in_the_order_of_the_permutation():
    inside = torch.rand(9, 10, 11, generator=torch.Generator().manual_seed(1)) > 0.6
    inside[4] = False
    flat = inside.flatten().nonzero()[:, 0]
    flat = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:50]]
    wanted = torch.stack((flat % 11, flat // 11 % 10, flat // 110), 1)
    assert torch.equal(_drawn(inside, 50), wanted)


MEMORY = """
import sys
import numpy as np, torch
sys.path.insert(0, {root!r})
from types import SimpleNamespace
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.inputs import working_frame
from SpikeRegLib.quality.metrics import dice, inverse_consistency_mm
from SpikeRegLib.space.transforms import AffineTransform, Transform

frame = Frame((160, 256, 256))
mask = torch.ones(frame.shape, dtype=torch.bool)
labels = Volume(mask.to(torch.int16), frame)
side = SimpleNamespace(image=labels, mask=mask, left_out=None)
identity = Transform.identity()
def resident(line):
    with open("/proc/self/status") as file:
        return int(next(row for row in file if row.startswith(line)).split()[1])
def grown(work):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is what is resident now
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before
inverse_consistency_mm(identity, identity, Frame((16, 16, 16)), samples=9)
print(grown(lambda: working_frame(side, 2.0)))
print(grown(lambda: inverse_consistency_mm(identity, identity, frame, mask, samples=20_000)))
print(grown(lambda: dice(labels, labels)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory in KiB, as Linux counts it")
def test_measuring_takes_no_more_memory_than_the_images_themselves(pytestconfig):
    code = MEMORY.format(root=str(pytestconfig.rootpath))
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    frame, consistency, overlap = (int(line) / 1024 for line in printed.split())
    voxels = 160 * 256 * 256 / 2**20  # MiB at a byte each
    assert frame < voxels and consistency < 2 * voxels and overlap < 6 * voxels, printed


def test_the_sample_of_inverse_consistency_lies_where_the_mask_does():
    """The miss has another size at every voxel of a turned grid of three sizes and spacings."""
    turn = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    frame = Frame((12, 18, 26), (3.0, -2.0, 1.0), (1.5, 1.0, 2.0), turn)
    k, j, i = torch.meshgrid(*(torch.arange(float(n)) for n in frame.shape), indexing="ij")
    miss = torch.zeros(3, *frame.shape)
    miss[1] = 0.1 + 0.2 * k + 0.03 * j + 0.001 * i
    identity, inverse = Transform.identity(), DisplacementTransform(miss, frame)
    for voxels in ([(2, 5, 19)], [(7, 16, 1)], [(2, 5, 19), (9, 3, 11), (4, 15, 22)]):
        mask = torch.zeros(frame.shape, dtype=torch.bool)
        for voxel in voxels:
            mask[voxel] = True
        wanted = float(np.mean([float(miss[1][voxel]) for voxel in voxels]))
        for samples in (None, len(voxels), 500):
            found = inverse_consistency_mm(identity, inverse, frame, mask, samples=samples)
            assert found == pytest.approx(wanted, abs=1e-5), (voxels, samples)
    whole = inverse_consistency_mm(identity, inverse, frame, samples=2000)
    assert whole == pytest.approx(float(miss[1].mean()), rel=0.05)


def test_what_is_pressed_flat_is_folded():
    """A determinant of exactly 0 leaves no volume: it counts as a fold, as in ITK's own evaluations."""
    frame = Frame((8, 9, 12))
    field = torch.zeros(3, *frame.shape)
    field[0] = -(torch.arange(12.0) - 2).clamp(0, 5)  # the planes x = 2 .. 7 come to lie on one another
    determinant = jacobian_determinant(field, frame)
    assert torch.equal(determinant[4, 4], torch.tensor([1, 1, 0.5, 0, 0, 0, 0, 0.5, 1, 1, 1, 1]))
    summary = deformation_summary(field, frame)
    assert summary["folding_percent"] == 40.0  # four of the ten inner planes
    assert summary["jacobian_min"] == 0.0


def test_the_background_may_belong_to_a_group_too():
    frame = Frame((4, 4, 4))
    fixed = torch.zeros(4, 4, 4, dtype=torch.int16)
    warped = fixed.clone()
    fixed[:2], warped[:1] = 3, 3
    found = dice(Volume(fixed, frame), Volume(warped, frame), {0: 7, 3: 9})
    assert found == pytest.approx({7: 2 * 32 / (32 + 48), 9: 2 * 16 / (32 + 16)})
