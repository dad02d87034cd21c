"""Images of different contrast: what is compared, a known warp between them, and the preset that asks for it."""

from __future__ import annotations

import math

import pytest
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.presets.preset import SIMILARITIES
from SpikeRegLib.quality.verdict import judge
from SpikeRegLib.refinement.refine import Level, OptimisedField, RefinementSchedule, refine
from SpikeRegLib.similarity import contrast
from SpikeRegLib.similarity.contrast import MEASURES, compare_by
from SpikeRegLib.space.fields import warp
from SpikeRegLib.space.filters import gaussian

SHAPE = (44, 52, 48)
SHORT = RefinementSchedule((Level(2.0, 20, 4.0, 6.9, 3.0), Level(1.0, 10, 4.0, 5.0, 2.5)), window=3)
PRESET = """
description = "Two contrasts on coarse voxels"
method = "optimize"
model = ""
working_spacing_mm = 2.0
similarity = "{similarity}"
passes = 0
[[refine.levels]]
spacing_mm = 4.0
field_mm = 4.0
iterations = 20
velocity_sigma_mm = 6.9
field_sigma_mm = 2.0
[[refine.levels]]
spacing_mm = 2.0
field_mm = 4.0
iterations = 10
velocity_sigma_mm = 3.5
field_sigma_mm = 1.0
"""


def smooth_noise(shape: tuple[int, ...], sigma: float, seed: int) -> torch.Tensor:
    """Standard deviation one."""
    noise = gaussian(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), sigma)
    return noise / noise.std()


def inside() -> torch.Tensor:
    """[D, H, W] soft ball, 1 inside."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return torch.sigmoid((0.75 - (x * x + y * y + z * z).sqrt()) * 30)


def phantom(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A ball of fluid, cortex and white matter, T1-like and T2-like: the same shapes, contrast not even monotone."""
    tissue = smooth_noise(SHAPE, 3.5, seed)
    fluid, white = torch.sigmoid((-0.6 - tissue) * 8), torch.sigmoid((tissue - 0.4) * 8)
    grey = 1 - fluid - white
    t1 = 0.25 * fluid + 0.55 * grey + 0.85 * white
    t2 = 0.90 * fluid + 0.50 * grey + 0.30 * white
    return inside() * t1, inside() * t2


def known_field(amplitude_mm: float, seed: int = 1) -> torch.Tensor:
    """[3, D, H, W] in voxels of 1 mm, zero on the border."""
    z, y, x = torch.meshgrid(*(torch.linspace(0, math.pi, n).sin().clamp(min=0) for n in SHAPE), indexing="ij")
    field = smooth_noise((3, *SHAPE), 6.0, seed) * x * y * z
    return field * (amplitude_mm / field.square().sum(0).sqrt().max())


def pull(image: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    return warp(image[None, None], field[None])[0, 0]


def correlation(first: torch.Tensor, second: torch.Tensor, where: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack((first[where], second[where])))[0, 1])


def remaining_mm(field: torch.Tensor, known: torch.Tensor) -> float:
    """Mean distance of known o found from the identity, inside the ball."""
    rest = field + warp(known[None], field[None])[0]
    return float(rest.square().sum(0).sqrt()[inside() > 0.5].mean())


def refine_by(similarity: str, fixed: torch.Tensor, moving: torch.Tensor) -> OptimisedField:
    comparison = compare_by(similarity, fixed, moving, inside() > 0.5)
    return refine(comparison.of_fixed(fixed), comparison.of_moving(moving), spacing_mm=1.0, schedule=SHORT)


def test_a_curve_of_intensities_follows_bends_between_tissues_and_no_noise():
    fixed = torch.linspace(0.1, 1, 48_000)[:, None, None]
    everywhere = torch.ones(fixed.shape, dtype=torch.bool)
    ripple = 0.5 + 0.2 * (1 - 2 * ((fixed * 48).long() % 2))  # up and down from knot to knot
    step = torch.where(fixed < 0.55, 0.2, 0.8)
    noise, bend = (
        compare_by("multicontrast", fixed, moving, everywhere).of_fixed(fixed)[1] for moving in (ripple, step)
    )
    inner = (fixed > 0.2) & (fixed < 0.9)
    assert float((noise - 0.5)[inner].abs().max()) < 0.02
    assert float((bend - step)[inner & ((fixed - 0.55).abs() > 0.08)].abs().max()) < 0.02


def test_one_contrast_is_compared_as_it_is():
    t1, t2 = phantom()
    comparison = compare_by("lncc", t1, t2, inside() > 0.5)
    assert comparison.measure == "lncc"
    assert torch.equal(comparison.of_fixed(t1), t1[None]) and torch.equal(comparison.of_moving(t2), t2[None])


def test_a_network_is_shown_both_images_in_one_contrast_in_both_ways():
    t1, t2 = phantom()
    there = inside() > 0.5
    assert [tuple(map(id, view)) for view in compare_by("lncc", t1, t2, there).in_one_contrast(t1, t2)] == [
        (id(t1), id(t2))
    ]
    comparison = compare_by("multicontrast", t1, t2, there)
    views = comparison.in_one_contrast(t1, t2)
    assert comparison.views == len(views) == 2
    assert views[0][0] is t1 and views[1][1] is t2
    assert correlation(t1, t2, there) < 0.2
    assert all(correlation(*view, there) > 0.75 for view in views)


@pytest.mark.parametrize("change", ["inverted", "gamma 0.5", "gamma 2"])
def test_the_map_to_the_other_contrast_forgets_its_own(change):
    t1, t2 = phantom()
    brain = inside() > 0.9
    changed = inside() * (1 - t2 / inside().clamp(min=1e-6)) if change == "inverted" else t2 ** float(change.split()[1])
    maps = [compare_by("multicontrast", t1, m, brain).of_moving(m)[0] for m in (t2, changed)]
    assert (maps[0] - maps[1])[brain].abs().mean() < 0.02
    assert correlation(*maps, brain) > 0.99


def test_aligned_images_look_alike_in_each_others_contrast():
    t1, t2 = phantom()
    comparison = compare_by("multicontrast", t1, t2, inside() > 0.5)
    assert comparison.measure == MEASURES["multicontrast"] != MEASURES["lncc"]
    brain = inside() > 0.9
    *matched, themselves = zip(comparison.of_fixed(t1), comparison.of_moving(t2), strict=True)
    assert len(matched) == 2
    for fixed, moving in matched:
        assert correlation(fixed, moving, brain) > 0.97
    assert torch.equal(themselves[0], t1) and torch.equal(themselves[1], t2)
    assert correlation(t1, t2, brain) < 0


def test_background_stays_background():
    t1, t2 = phantom()
    shown = compare_by("multicontrast", t1, t2, inside() > 0.5).of_moving(torch.zeros(SHAPE))
    assert float(shown.abs().max()) == 0


def test_pair_without_overlap_is_compared_as_it_is():
    t1, _ = phantom()
    comparison = compare_by("multicontrast", t1, torch.zeros(SHAPE), inside() > 0.5)
    assert torch.equal(comparison.of_fixed(t1), t1[None])


def test_unknown_similarity_is_refused():
    t1, t2 = phantom()
    with pytest.raises(InputError, match="similarity: unknown 'mattes'; choose one of lncc, multicontrast"):
        compare_by("mattes", t1, t2, inside() > 0.5)
    assert (*MEASURES, "auto") == SIMILARITIES


def test_known_warp_between_contrasts_is_recovered():
    t1, t2 = phantom()
    known = known_field(3.0)
    moved = pull(t2, known)
    start = remaining_mm(torch.zeros_like(known), known)
    found = refine_by("multicontrast", t1, moved)
    assert remaining_mm(found.displacement, known) < 0.6 * start
    assert found.similarity_after > found.similarity_before


def test_refinement_of_equal_channels_is_that_of_one():
    t1, t2 = phantom()
    moved = pull(t2, known_field(3.0))
    one = refine(t1, moved, spacing_mm=1.0, schedule=SHORT)
    two = refine(torch.stack((t1, t1)), torch.stack((moved, moved)), spacing_mm=1.0, schedule=SHORT)
    assert two.similarity_after == pytest.approx(one.similarity_after, abs=1e-5)
    torch.testing.assert_close(two.field, one.field, atol=1e-3, rtol=0)


def test_register_honours_the_similarity_of_its_preset(tmp_path):
    t1, t2 = phantom()
    frame = Frame(SHAPE, (-24.0, -26.0, -22.0))
    known = known_field(3.0)
    fixed, moving = Volume(100 * t1, frame, "t1"), Volume(100 * pull(t2, known), frame, "t2")
    tables = {}
    for name in MEASURES:
        preset = tmp_path / f"{name}.toml"
        preset.write_text(PRESET.format(similarity=name), encoding="utf-8")
        found = register(fixed, moving, preset=preset, skip_affine=True, threads=1)
        tables[name] = found.result["similarity"]
    assert {name: table["measure"] for name, table in tables.items()} == MEASURES
    assert tables["multicontrast"]["lncc_after"] > tables["multicontrast"]["lncc_aligned"]
    assert tables["multicontrast"]["lncc_aligned"] != tables["lncc"]["lncc_aligned"]


def test_verdict_names_the_measure():
    for measure in MEASURES.values():
        verdict = judge({"similarity": {"measure": measure, "lncc_before": 0.01, "lncc_after": 0.05}})
        assert verdict["level"] == "poor"
        assert f"({measure.replace('lncc', 'LNCC')} 0.05)" in verdict["reasons"][0]


def test_beyond_its_first_and_last_knot_a_curve_is_level_and_fades_towards_the_background():
    curve = torch.linspace(0.3, 0.9, contrast._KNOTS)
    darkest, brightest = torch.tensor([0.0, 0.002, 0.01]), torch.tensor([1 - 0.25 / contrast._KNOTS, 1.0])
    torch.testing.assert_close(contrast._show(darkest, curve), 0.3 * darkest / 0.05)
    torch.testing.assert_close(contrast._show(brightest, curve), torch.full((2,), 0.9), atol=1e-4, rtol=0)
    knots = (torch.arange(4, contrast._KNOTS - 1) + 0.5) / contrast._KNOTS
    torch.testing.assert_close(contrast._show(knots, curve), curve[4:-1], atol=1e-5, rtol=0)
