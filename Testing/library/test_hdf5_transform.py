"""Compressed transform files: what ITK reads from them is, bit for bit, what was written, in a fraction of the size."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from examples import FRAMES, a_registration
from hdf5_format import read_hdf5
from scipy.spatial.transform import Rotation

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.outputs.folder import write_outputs
from SpikeRegLib.quality.metrics import inverse_consistency_mm
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.space.fine_inversion import fine_inverse
from SpikeRegLib.space.transform_files import _way
from SpikeRegLib.space.transforms import (
    AffineTransform,
    DisplacementTransform,
    Transform,
    compose,
    read_transform,
    write_transform,
)

OBLIQUE = tuple(Rotation.from_euler("xyz", (5, -9, 21), degrees=True).as_matrix().ravel())
STEP = 2.0**-10
FRAME = Frame((3, 3, 3), (0.0, 0.0, 0.0))


def smooth(shape: tuple[int, int, int], largest_mm: float, seed: int = 0) -> torch.Tensor:
    field = gaussian(torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed)), 3.0)
    return field * (largest_mm / float(field.abs().max()))


def affine() -> AffineTransform:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", 7, degrees=True).as_matrix() * 1.05
    matrix[:3, 3] = 3.25, -7.5, 0.1
    return AffineTransform(matrix)


def of_itk(path) -> tuple[list[sitk.Transform], np.ndarray, sitk.Image]:
    """Transforms in ITK's order, and the array and image of the displacement field among them."""
    whole = sitk.ReadTransform(str(path)).Downcast()
    composite = isinstance(whole, sitk.CompositeTransform)
    parts = (
        [whole.GetNthTransform(n).Downcast() for n in range(whole.GetNumberOfTransforms())] if composite else [whole]
    )
    (field,) = (part for part in parts if isinstance(part, sitk.DisplacementFieldTransform))
    image = field.GetDisplacementField()
    return parts, np.moveaxis(sitk.GetArrayFromImage(image), -1, 0), image


# One chunk that is not full; several, the last one not full; more than fit with the smallest size of a chunk.
@pytest.mark.parametrize("shape", [(3, 3, 3), (16, 17, 18), (40, 41, 42), (100, 110, 120)])
@pytest.mark.parametrize("kind", ["smooth", "noise", "nothing"])
def test_itk_reads_every_bit_of_a_field_and_its_grid(shape, kind, tmp_path):
    generator, sizes = torch.Generator().manual_seed(1), 10.0 ** torch.arange(-20, 10, 10).view(3, 1, 1, 1)
    field = {
        "smooth": lambda: torch.linspace(-9, 9, 3 * shape[0] * shape[1] * shape[2]).sin().view(3, *shape) * 12,
        "noise": lambda: torch.randn(3, *shape, generator=generator) * sizes,
        "nothing": lambda: torch.zeros(3, *shape),
    }[kind]()
    frame = Frame(shape, (-10.5, 26.25, -18.125), (1.25, 0.75, 2.5), OBLIQUE)
    write_transform(compose(DisplacementTransform(field, frame), affine()), tmp_path / "t.h5")
    parts, read, image = of_itk(tmp_path / "t.h5")
    assert np.array_equal(read, field.numpy().astype(np.float64))
    assert image.GetSize() == frame.size and image.GetOrigin() == frame.origin and image.GetSpacing() == frame.spacing
    assert image.GetDirection() == pytest.approx(OBLIQUE, abs=1e-15)
    assert len(parts) == 2 and isinstance(parts[0], sitk.AffineTransform), "the one added last is applied first"
    assert parts[0].GetMatrix() == tuple(affine().matrix[:3, :3].ravel())
    assert parts[0].GetTranslation() == tuple(affine().matrix[:3, 3])


# A chunk; two, the last one not full; as many as a node of their tree holds.
@pytest.mark.parametrize("shape", [(3, 4, 5), (27, 28, 29), (100, 110, 120)])
def test_a_reader_that_follows_the_specification_to_the_letter_finds_the_same(shape, tmp_path):
    """Whatever ITK forgives: every field of every header says what is there."""
    sizes = 10.0 ** torch.arange(-40, 38, 38).view(3, 1, 1, 1)
    field = torch.randn(3, *shape[:2], 1, generator=torch.Generator().manual_seed(5)).expand(3, *shape) * sizes
    frame = Frame(shape, (-10.5, 26.25, -18.125), (1.25, 0.75, 2.5), OBLIQUE)
    write_transform(compose(DisplacementTransform(field.contiguous(), frame), affine()), tmp_path / "t.h5")
    content = read_hdf5(tmp_path / "t.h5")
    assert list(content) == ["TransformGroup"]
    composite, linear, displacement = (content["TransformGroup"][str(number)] for number in range(3))
    assert composite == {"TransformType": "CompositeTransform_double_3_3"}
    assert linear["TransformType"] == "AffineTransform_double_3_3"
    assert np.array_equal(linear["TransformFixedParameters"], np.zeros(3))
    numbers = (*affine().matrix[:3, :3].ravel(), *affine().matrix[:3, 3])
    assert np.array_equal(linear["TransformParameters"], numbers)
    assert displacement["TransformType"] == "DisplacementFieldTransform_double_3_3"
    grid = (*frame.size, *frame.origin, *frame.spacing, *frame.direction)
    assert np.array_equal(displacement["TransformFixedParameters"], grid)
    node_by_node = field.flatten(1).T.double().flatten().numpy()
    assert np.array_equal(displacement["TransformParameters"], node_by_node)


def test_names_that_outgrow_the_smallest_heap_are_all_found(tmp_path):
    for count in range(30, 45):  # the heap of 4096 bytes is filled somewhere among them
        write_transform(compose(*[affine(), DisplacementTransform(torch.zeros(3, 3, 3, 3), FRAME)] * count),
                        tmp_path / "t.h5")  # fmt: skip
        parts = read_hdf5(tmp_path / "t.h5")["TransformGroup"]
        kinds = [part["TransformType"].split("_")[0] for part in parts.values()]
        assert kinds == ["CompositeTransform", *["DisplacementFieldTransform", "AffineTransform"] * count]


def test_bytes_are_packed_only_as_far_as_it_pays():
    random = np.random.default_rng(0)
    repeating, few = np.repeat(random.integers(0, 256, 400), 50), random.integers(0, 12, 20_000)
    ways = [_way(values.astype(np.uint8)) for values in (repeating, few, random.integers(0, 256, 20_000))]
    assert [way[1] for way in ways] == [zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY]
    assert [way[0] > 0 for way in ways] == [True, True, False]
    outside = random.integers(0, 256, (2, 2**13))
    middle = np.concatenate((outside[0], np.zeros(2**14, int), outside[1])).astype(np.uint8)
    assert _way(middle)[1] == zlib.Z_RLE, "sixteen thousand bytes of the middle speak for all"


def test_one_transform_and_many_are_read_back(tmp_path):
    frame = Frame((9, 8, 7), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    field = DisplacementTransform(torch.randn(3, 9, 8, 7, generator=torch.Generator().manual_seed(2)), frame)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(3)).double() * 12
    for parts in ([field], [affine()], [affine(), field] * 9):
        write_transform(compose(*parts), tmp_path / "t.h5")
        itk = sitk.ReadTransform(str(tmp_path / "t.h5"))
        mapped = np.array([itk.TransformPoint(point) for point in points.tolist()])
        assert np.allclose(mapped, compose(*parts).map_points(points), atol=1e-9)
        assert torch.allclose(read_transform(tmp_path / "t.h5").map_points(points), compose(*parts).map_points(points))


def test_files_are_compressed(tmp_path):
    """Single precision halves what ITK writes; exponents repeat; what was rounded leaves few digits to store."""
    frame = Frame((60, 61, 62), (0.0, 0.0, 0.0))
    field = DisplacementTransform(smooth(frame.shape, 8.0), frame)
    sizes = []
    for number, step in enumerate((None, STEP)):
        write_transform(field, tmp_path / f"{number}.h5", step_mm=step)
        sizes.append((tmp_path / f"{number}.h5").stat().st_size)
    in_doubles = 8 * field.field.numel()
    assert sizes[0] < 0.46 * in_doubles
    assert sizes[1] < 0.25 * in_doubles
    write_transform(DisplacementTransform(torch.zeros(3, *frame.shape), frame), tmp_path / "none.h5")
    assert (tmp_path / "none.h5").stat().st_size < 0.02 * in_doubles


def test_a_field_is_packed_as_its_middle_asks_for(tmp_path):
    """Where the anatomy is: noise in a part that is not is no reason to store all as it is."""
    frame = Frame((60, 61, 62), (0.0, 0.0, 0.0))
    field = torch.zeros(3, *frame.shape)
    field[:, 4:9] = torch.randn(3, 5, 61, 62, generator=torch.Generator().manual_seed(7))
    write_transform(DisplacementTransform(field, frame), tmp_path / "t.h5")
    assert (tmp_path / "t.h5").stat().st_size < 1.2 * 4 * field[:, 4:9].numel()


def test_rounding_moves_nothing_by_more_than_half_a_step(tmp_path):
    field = smooth((20, 21, 22), 30.0)
    write_transform(DisplacementTransform(field, Frame((20, 21, 22), (0.0, 0.0, 0.0))), tmp_path / "t.h5", step_mm=STEP)
    read = of_itk(tmp_path / "t.h5")[1]
    assert 0.4 * STEP < np.abs(read - field.numpy()).max() <= 0.5 * STEP
    assert np.array_equal(read / STEP, np.rint(read / STEP))


def test_written_files_undo_each_other_as_well_as_the_transforms_did(tmp_path):
    frame = Frame((26, 28, 30), (-20.0, 5.0, 11.0), (2.0, 2.0, 2.0))
    deformation = DisplacementTransform(smooth(frame.shape, 5.0, seed=4), frame)
    registration = a_registration(FRAMES["oblique"])
    registration.transform = compose(deformation, affine())
    registration.inverse = compose(affine().inverse(), fine_inverse(deformation))
    write_outputs(registration, tmp_path / "out", ["transform.h5", "inverse_transform.h5"])
    files = [tmp_path / "out" / name for name in ("transform.h5", "inverse_transform.h5")]
    transform, inverse = map(read_transform, files)
    inner = Frame((39, 43, 47), (-10.3, 15.2, 21.4))

    def apart(forward: Transform, backward: Transform) -> float:
        return inverse_consistency_mm(forward, backward, inner)

    before = apart(registration.transform, registration.inverse)
    assert apart(transform, inverse) == pytest.approx(before, abs=2e-5) and before > 1e-3
    moved = transform.displacement_on(inner) - registration.transform.displacement_on(inner)
    assert float(moved.abs().max()) == 0.0, "the map that made the warped image is kept to the last bit"
    doubles = 8 * sum(part.field.numel() for part in registration.inverse.transforms if hasattr(part, "field"))
    assert files[1].stat().st_size < 0.3 * doubles
