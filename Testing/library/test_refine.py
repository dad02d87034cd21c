"""Instance optimisation: its gradient, its promise never to do harm, and fields that do not fold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SpikeRegLib.errors import Cancelled, InputError
from SpikeRegLib.progress import Progress
from SpikeRegLib.refinement.refine import Level, RefinementSchedule, refine
from SpikeRegLib.similarity.lncc_gradient import LocalCorrelation
from SpikeRegLib.similarity.losses import lncc_map
from SpikeRegLib.space.displacement import hold_border, sample
from SpikeRegLib.space.fields import compose, warp
from SpikeRegLib.space.filters import box_sum, gaussian
from SpikeRegLib.space.folds import as_itk_sees, remove_folds, smallest_jacobian
from SpikeRegLib.space.grids import Grid, resample

SHAPE = (40, 44, 48)
SHORT = RefinementSchedule((Level.usual(4.0, 15), Level.usual(2.0, 15), Level.usual(1.0, 6)))


def noise(shape: tuple[int, ...], sigma: float, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Smooth noise with standard deviation one."""
    generator = torch.Generator().manual_seed(seed)
    smooth = gaussian(torch.randn(shape, generator=generator, dtype=dtype), sigma)
    return smooth / smooth.std()


def textured(seed: int = 0) -> torch.Tensor:
    """A blob with texture in [0, 1] on an empty background."""
    axes = [torch.linspace(-1, 1, n) for n in SHAPE]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    inside = torch.sigmoid((0.75 - (x * x + y * y + z * z).sqrt()) * 30)
    return inside * (0.5 + 0.15 * noise(SHAPE, 2.0, seed)).clamp(0, 1)


def smooth_field(amplitude_mm: float, seed: int = 1) -> torch.Tensor:
    """Zero on the border, at most `amplitude_mm` long."""
    z, y, x = torch.meshgrid(*(torch.linspace(0, math.pi, n).sin().clamp(min=0) for n in SHAPE), indexing="ij")
    field = noise((3, *SHAPE), 6.0, seed) * x * y * z
    return hold_border(field * (amplitude_mm / field.square().sum(0).sqrt().max()))


def pull(image: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    return warp(image[None, None], field[None])[0, 0]


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9])
def test_box_sum_equals_convolution_with_ones(window: int) -> None:
    volume = torch.rand(2, 11, 12, 13, dtype=torch.float64)
    ones = torch.ones(1, 1, window, window, window, dtype=torch.float64)
    expected = torch.nn.functional.conv3d(volume[:, None], ones, padding=window // 2)[:, 0]
    torch.testing.assert_close(box_sum(volume, window), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_equals_autograd(weighted: bool) -> None:
    fixed, moving = (torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2))
    fixed[:4], moving[:, :3] = 0.3, 0.0  # flat parts
    weight = torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(3)).double() if weighted else None
    correlation = LocalCorrelation(fixed, window=5, noise=1e-3, weight=weight)
    variance = box_sum(fixed * fixed, 5) / 125 - (box_sum(fixed, 5) / 125) ** 2
    weights = (variance > 1e-4).double() * (1 if weight is None else weight)
    moving.requires_grad_()
    expected = (lncc_map(fixed, moving, window=5, epsilon=1e-3) * weights).sum() / weights.sum()
    (slope,) = torch.autograd.grad(expected, moving)
    value, gradient = correlation.value_and_gradient(moving.detach())
    assert value == pytest.approx(expected.item(), abs=1e-12)
    assert correlation.value(moving.detach()) == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-12)


def test_coarse_grid_is_nested_and_interpolates_the_same_function() -> None:
    fine = Grid((21, 17, 33), 1.0)
    coarse = fine.coarser(2.0)
    assert coarse.shape == (11, 9, 17)
    values = torch.rand(3, *coarse.shape)
    upsampled = resample(values, coarse, fine)
    torch.testing.assert_close(upsampled[:, ::2, ::2, ::2], values)
    torch.testing.assert_close(upsampled[:, 1::2, ::2, ::2], (values[:, 1:] + values[:, :-1]) / 2)
    assert resample(values, coarse, coarse) is values


def test_smoothing_to_a_coarser_grid_makes_no_denormal_numbers() -> None:
    """They take some processors ten times as long, and came from the tails of the Gaussian."""
    point = torch.zeros(1, 64, 16, 16)
    point[0, 32, 8, 8] = 1.0
    fine = Grid((64, 16, 16), 1.0)
    spread = resample(point, fine, fine.coarser(2.0), sigma_mm=1.73)
    assert not bool(((spread != 0) & (spread.abs() < torch.finfo(torch.float32).tiny)).any())
    assert spread.sum().item() == pytest.approx(1 / 8, rel=0.01)


def test_sampling_with_a_start_equals_sampling_the_whole_and_cropping() -> None:
    volume, field = torch.rand(1, *SHAPE), smooth_field(3.0)
    whole = sample(volume, field)
    part = sample(volume, field[:, 5:20, 6:30, 7:31].contiguous(), start=(5.0, 6.0, 7.0))
    torch.testing.assert_close(part, whole[:, 5:20, 6:30, 7:31], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def known_warp() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(fixed, moving, displacement) with fixed(x) = moving(x + displacement(x))."""
    moving, field = textured(), smooth_field(4.0)
    return pull(moving, field), moving, field


def test_recovers_a_known_smooth_warp(known_warp: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    fixed, moving, field = known_warp
    result = refine(fixed, moving, spacing_mm=1.0, schedule=SHORT)
    inside = fixed > 0.2
    before = field.square().sum(0).sqrt()[inside].mean()
    error = (result.displacement - field).square().sum(0).sqrt()[inside].mean()
    assert result.accepted and result.similarity_after > result.similarity_before
    assert error < 0.25 * before


def test_lengths_are_millimetres(known_warp: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    fixed, moving, _ = known_warp
    halved = RefinementSchedule((Level.usual(4.0, 5), Level.usual(2.0, 5)))
    levels = tuple(
        Level(level.spacing_mm * 2, 5, level.field_mm * 2, level.velocity_sigma_mm * 2, level.field_sigma_mm * 2)
        for level in halved.levels
    )
    doubled = RefinementSchedule(levels)
    coarse = refine(fixed[::2, ::2, ::2], moving[::2, ::2, ::2], spacing_mm=2.0, schedule=halved)
    scaled = refine(fixed[::2, ::2, ::2], moving[::2, ::2, ::2], spacing_mm=4.0, schedule=doubled)
    assert coarse.accepted
    assert float(scaled.field.norm() / coarse.field.norm()) == pytest.approx(2.0, rel=0.02)


def test_a_perfect_start_is_kept(known_warp: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    fixed, moving, field = known_warp
    result = refine(fixed, moving, spacing_mm=1.0, initial=field, schedule=SHORT)
    inside = fixed > 0.2
    assert result.similarity_after >= result.similarity_before
    assert (result.displacement - field).square().sum(0).sqrt()[inside].mean() < 0.1


def test_identical_images_stay_where_they_are() -> None:
    image = textured()
    result = refine(image, image, spacing_mm=1.0, schedule=SHORT)
    assert result.similarity_after >= result.similarity_before
    assert result.displacement.abs().mean() < 0.02


def test_a_start_on_a_coarser_grid_is_kept_in_detail(
    known_warp: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    fixed, moving, field = known_warp
    frame = Grid(SHAPE, 1.0)
    coarse = frame.coarser(2.0)
    start = resample(field, frame, coarse)
    result = refine(fixed, moving, spacing_mm=1.0, initial=start, initial_grid=coarse, schedule=SHORT)
    assert result.grid == coarse
    assert (result.displacement - field).square().sum(0).sqrt()[fixed > 0.2].mean() < 0.1


@pytest.mark.parametrize("kind", ["noise", "empty", "constant"])
def test_never_worse_than_the_start_when_the_moving_image_is_garbage(kind: str) -> None:
    fixed = textured()
    moving = {"noise": torch.rand(SHAPE), "empty": torch.zeros(SHAPE), "constant": torch.full(SHAPE, 0.5)}[kind]
    result = refine(fixed, moving, spacing_mm=1.0, schedule=SHORT)
    assert result.similarity_after >= result.similarity_before
    assert torch.isfinite(result.field).all()
    assert smallest_jacobian(result.field / result.grid.spacing_mm).min() > 0
    if kind != "noise":
        assert not result.accepted and not result.field.any()


def test_a_coarse_level_is_composed_with_the_start_and_not_added() -> None:
    moving, start = textured(), smooth_field(6.0, seed=4)
    fixed = pull(moving, compose(smooth_field(3.0, seed=5)[None], start[None])[0])
    schedule = RefinementSchedule((Level(1.0, 6, 4.0, 3.5, 1.0),))
    result = refine(fixed, moving, spacing_mm=1.0, initial=start, schedule=schedule)
    # The same iterations on the image warped beforehand find the remainder.
    remainder = refine(fixed, pull(moving, start), spacing_mm=1.0, schedule=schedule).displacement
    assert result.accepted and remainder.abs().max() > 1
    inner = (slice(None), *(slice(4, -4),) * 3)  # the border of the result is held at zero
    composed = compose(remainder[None], start[None])[0]
    torch.testing.assert_close(result.displacement[inner], composed[inner], atol=2e-3, rtol=0)
    assert (remainder + start - result.displacement)[inner].abs().max() > 0.2


def hostile(seed: int, amplitude: float = 4.0) -> torch.Tensor:
    return hold_border(noise((3, 24, 26, 28), 1.0, seed) * amplitude)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("amplitude", [0.5, 4.0, 30.0])
def test_guard_leaves_no_fold_in_hostile_fields(seed: int, amplitude: float) -> None:
    field = hostile(seed, amplitude)
    assert smallest_jacobian(field).min() < 0, "the test needs a field that folds"
    fixed, found = remove_folds(field)
    assert found > 0
    assert smallest_jacobian(fixed).min() >= 0.05 - 1e-6
    # As the scorer sees it: sampled between its voxels on a finer, shifted grid.
    image = sitk.GetImageFromArray(fixed.double().permute(1, 2, 3, 0).numpy(), isVector=True)
    fine = sitk.TransformToDisplacementField(
        sitk.DisplacementFieldTransform(image), sitk.sitkVectorFloat64, (50, 46, 42), (0.3, 0.7, 0.9), (0.5, 0.5, 0.5)
    )
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(fine))
    assert determinant[1:-1, 1:-1, 1:-1].min() > 0


def test_guard_returns_a_fold_free_field_untouched() -> None:
    field = hostile(0, 0.05)
    guarded, found = remove_folds(field)
    assert found == 0 and guarded is field


def test_guard_changes_only_the_neighbourhood_of_a_fold() -> None:
    field = torch.zeros(3, 30, 30, 30)
    field[0, 15, 15, 15] = 1.5
    field[1, 2:5, 2:5, 2:5] = 0.2
    guarded, _ = remove_folds(field)
    torch.testing.assert_close(guarded[:, :5, :5, :5], field[:, :5, :5, :5])
    assert (guarded - field)[0, 15, 15, 15].abs() > 0


def test_guard_stays_close_to_a_field_that_itk_would_call_folded() -> None:
    """Five cells in a hundred stretch too far for ITK's reading; to smooth them away takes a change of 0.29."""
    linear = as_itk_sees(np.diag([1.0, -1.0, 1.0]), np.eye(3))
    field = hold_border(noise((3, 40, 42, 44), 3.0, 5) * 1.1)
    assert 0.02 < float((smallest_jacobian(field, linear) < 0.05).float().mean()) < 0.08
    guarded, _ = remove_folds(field, linear=linear)
    assert float((guarded - field).norm() / field.norm()) < 0.2
    assert min(float(smallest_jacobian(guarded, seen).min()) for seen in (None, linear)) >= 0.05


def test_smallest_jacobian_agrees_with_corner_differences() -> None:
    field = noise((3, 8, 9, 10), 1.0, 3, torch.float64) * 0.5
    smallest = smallest_jacobian(field)
    k, j, i = 3, 4, 5
    corners = []
    for z in (k, k + 1):
        for y in (j, j + 1):
            for x in (i, i + 1):
                columns = [field[:, z, y, i + 1] - field[:, z, y, i], field[:, z, j + 1, x] - field[:, z, j, x],
                           field[:, k + 1, y, x] - field[:, k, y, x]]  # fmt: skip
                corners.append(float(torch.det(torch.eye(3).double() + torch.stack(columns, 1))))
    assert float(smallest[k, j, i]) == pytest.approx(min(corners), abs=1e-12)


@pytest.mark.parametrize("flips", [(1, -1, 1), (-1, -1, 1), (-1, 1, 1)])
def test_guard_satisfies_the_filter_of_itk_on_flipped_axes(flips: tuple[int, int, int]) -> None:
    direction = np.diag(np.array(flips, float))
    affine = np.array([[1.05, 0.05, 0.0], [-0.04, 0.95, 0.08], [0.02, -0.06, 1.1]])
    field, _ = remove_folds(hostile(7, 0.9), linear=as_itk_sees(direction, affine))
    deformation = sitk.DisplacementFieldTransform(
        sitk.GetImageFromArray(field.double().permute(1, 2, 3, 0).numpy(), isVector=True)
    )
    after = sitk.AffineTransform(affine.flatten().tolist(), (3.0, -2.0, 1.0))
    total = sitk.CompositeTransform([after, deformation])
    size = (28, 26, 24)
    origin = [0.0 if flip > 0 else float(n - 1) for flip, n in zip(flips, size, strict=True)]
    sampled = sitk.TransformToDisplacementField(
        total, sitk.sitkVectorFloat64, size, origin, (1.0, 1.0, 1.0), direction.flatten().tolist()
    )
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(sampled))[1:-1, 1:-1, 1:-1]
    assert determinant.min() > 0
    assert smallest_jacobian(field).min() > 0


def test_folding_start_comes_back_without_folds() -> None:
    image = textured()
    folded = torch.nn.functional.interpolate(hostile(2)[None], size=SHAPE, mode="trilinear")[0] * 3
    result = refine(image, image, spacing_mm=1.0, initial=folded, schedule=RefinementSchedule((Level.usual(2.0, 2),)))
    assert smallest_jacobian(result.field / result.grid.spacing_mm).min() > 0


def test_a_listener_can_stop_the_run_and_sees_every_iteration() -> None:
    seen: list[Progress] = []

    def listener(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 5:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        refine(textured(), textured(3), spacing_mm=1.0, schedule=SHORT, listener=listener)
    fractions = [progress.fraction for progress in seen]
    assert len(seen) == 5 and fractions == sorted(fractions) and 0 <= fractions[0] < fractions[-1] <= 1
    assert all(progress.stage == "refine" for progress in seen)


def test_mask_decides_what_counts(known_warp: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Outside the mask the fixed image is garbage, which windows on the mask's edge still see: inside, the mask
    saves a third or more of what that costs, and away from its edge the warp is found as if there were none."""
    fixed, moving, field = known_warp
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[:, :, :24] = True
    broken = torch.where(mask, fixed, noise(SHAPE, 3.0, 0))
    clean, masked, unmasked = (
        (refine(image, moving, spacing_mm=1.0, schedule=SHORT, mask=where).displacement - field).square().sum(0).sqrt()
        for image, where in ((fixed, mask), (broken, mask), (broken, None))
    )
    inside = (fixed > 0.2) & mask
    lost, lost_without = (float((error - clean)[inside].mean()) for error in (masked, unmasked))
    assert lost < 0.65 * lost_without and lost_without > 0.4
    inside[:, :, 16:] = False
    assert float((masked - clean)[inside].mean()) < 0.2


def test_what_the_mask_leaves_out_moves_nothing() -> None:
    """The images agree inside the mask and are a warp apart outside of it: the warp is found, or nothing is."""
    field = smooth_field(4.0)
    field[:, :, :, :26] = 0
    fixed = textured()
    moving = pull(fixed, field)
    mask = torch.zeros(SHAPE)
    mask[:, :, :20] = 1
    masked, whole = (
        refine(fixed, moving, spacing_mm=1.0, schedule=SHORT, mask=weight).displacement.square().sum(0).sqrt()
        for weight in (mask, torch.ones(SHAPE))
    )
    assert float(whole[:, :, 30:40].mean()) > 0.5 and float(whole.max()) > 2.0
    assert float(masked[:, :, 26:].mean()) < 0.02 and float(masked.max()) < 0.5


@pytest.mark.parametrize(("spacing", "field"), [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (3.0, 4.0), (4.0, 4.0), (5.0, 5.0)])
def test_the_field_of_a_usual_level_is_twice_as_coarse_up_to_four_millimetres(spacing: float, field: float) -> None:
    level = Level.usual(spacing, 7)
    assert (level.spacing_mm, level.iterations, level.field_mm) == (spacing, 7, field)
    assert (level.velocity_sigma_mm, level.field_sigma_mm) == pytest.approx((1.73 * spacing, 0.5 * spacing))
    coarse = level.on(Grid(SHAPE, 4.5))
    assert (coarse.spacing_mm, coarse.field_mm) == (max(4.5, spacing), max(4.5, field))
    assert (coarse.iterations, coarse.velocity_sigma_mm) == (7, level.velocity_sigma_mm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moving": torch.zeros(20, 20, 21)}, "moving: shape"),
        ({"initial": torch.zeros(3, 10, 10, 10)}, "initial: shape"),
        ({"fixed": torch.zeros(4, 20, 20)}, "fixed: shape"),
        ({"moving": torch.full((20, 20, 20), math.nan)}, "moving: contains NaN"),
    ],
)
def test_unusable_input_is_named(change: dict[str, torch.Tensor], message: str) -> None:
    arguments = {"fixed": torch.zeros(20, 20, 20), "moving": torch.zeros(20, 20, 20), **change}
    with pytest.raises(InputError, match=message):
        refine(arguments.pop("fixed"), arguments.pop("moving"), spacing_mm=1.0, **arguments)
