"""Run one method of the league on one pair, in a process of its own: its deformation, CPU seconds and memory.

    python Benchmarks/league_run.py METHOD FIXED MOVING AFFINE.tfm OUT_FIELD.nii.gz

Every method starts from the given affine and runs with one thread and the settings in `METHODS`. Those that take no
affine get the moving image resampled through it. The field written is the whole displacement (LPS mm) on the fixed
grid. OUT_FIELD.nii.gz.json gets the CPU seconds of the registration, reading included, and the peak memory of the
process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

Transform = sitk.Transform


def spikereg(fixed: str, moving: str, affine: str, *, preset: str) -> Transform:
    """`register` with a preset, from the affine; without the alignment's search."""
    from SpikeRegLib import register
    from SpikeRegLib.space.transforms import read_transform

    found = register(fixed, moving, preset=preset, initial_transform=read_transform(affine), threads=1)
    frame = found.fixed.frame
    vectors = np.moveaxis(found.displacement.numpy(), 0, -1).astype(np.float64)
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.SetOrigin(frame.origin)
    field.SetSpacing(frame.spacing)
    field.SetDirection(frame.direction)
    return sitk.DisplacementFieldTransform(field)


def greedy(fixed: str, moving: str, affine: str) -> Transform:
    """The deformable stage of greedy with the settings of `greedy_run`."""
    from greedy_run import RAS, greedy_arguments, matrix_of
    from picsl_greedy import Greedy3D

    with tempfile.TemporaryDirectory() as folder:
        matrix, warp = Path(folder) / "affine.mat", Path(folder) / "warp.nii.gz"
        np.savetxt(matrix, RAS @ matrix_of(sitk.ReadTransform(affine)) @ RAS)
        Greedy3D().execute(greedy_arguments(fixed, moving, str(matrix), str(warp)))
        field = sitk.ReadImage(str(warp), sitk.sitkVectorFloat64)
    return sitk.CompositeTransform([sitk.ReadTransform(affine), sitk.DisplacementFieldTransform(field)])


def ants_syn(fixed: str, moving: str, affine: str, *, kind: str) -> Transform:
    """The deformable stage of one of ANTs' two scripts, as antspyx has them."""
    import ants

    images = ants.image_read(fixed), ants.image_read(moving)
    found = ants.registration(*images, kind, initial_transform=affine, singleprecision=True)
    warp, *_ = (name for name in found["fwdtransforms"] if name.endswith(".nii.gz"))
    field = sitk.ReadImage(warp, sitk.sitkVectorFloat64)
    return sitk.CompositeTransform([sitk.ReadTransform(affine), sitk.DisplacementFieldTransform(field)])


def elastix(fixed: str, moving: str, affine: str) -> Transform:
    """elastix's default B-spline parameters, on four resolutions with a final grid of 8 mm and NCC."""
    import itk

    still, moved = (
        itk.image_view_from_array(sitk.GetArrayFromImage(image)) for image in aligned(fixed, moving, affine)
    )
    reference = sitk.ReadImage(fixed)
    for image in (still, moved):
        image.SetSpacing(reference.GetSpacing())
    parameters = itk.ParameterObject.New()
    table = parameters.GetDefaultParameterMap("bspline", 4, 8.0)
    table["Metric"] = ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"]
    table["Metric0Weight"], table["Metric1Weight"] = ["1"], ["1"]
    table["MaximumNumberOfIterations"], table["NumberOfSpatialSamples"] = ["500"], ["4096"]
    parameters.AddParameterMap(table)
    _, found = itk.elastix_registration_method(
        still, moved, parameter_object=parameters, number_of_threads=1, log_to_console=False
    )
    vectors = itk.array_from_image(itk.transformix_deformation_field(moved, found))
    return after_affine(grid_axes_to_lps(vectors.astype(np.float64), reference), reference, affine)


def demons(fixed: str, moving: str, affine: str) -> Transform:
    """SimpleITK's diffeomorphic demons on three levels, intensities matched by histogram."""
    still, moved = aligned(fixed, moving, affine)
    moved = sitk.HistogramMatching(moved, still, 256, 15, True)
    field: sitk.Image | None = None
    for shrink, iterations in ((4, 50), (2, 50), (1, 20)):
        pair = [sitk.Shrink(sitk.DiscreteGaussian(image, (shrink / 2) ** 2), [shrink] * 3) for image in (still, moved)]
        method = sitk.DiffeomorphicDemonsRegistrationFilter()
        method.SetNumberOfIterations(iterations)
        method.SetStandardDeviations(1.5)
        if field is None:
            field = method.Execute(*pair)
        else:
            field = method.Execute(*pair, sitk.Resample(field, pair[0], Transform(), sitk.sitkLinear))
    assert field is not None
    return sitk.CompositeTransform([sitk.ReadTransform(affine), sitk.DisplacementFieldTransform(field)])


def convex_adam(fixed: str, moving: str, affine: str) -> Transform:
    """convexAdam with MIND features and its default settings, in single precision."""
    import torch
    from convexAdam.convex_adam_MIND import convex_adam_pt

    still, moved = aligned(fixed, moving, affine)
    arrays = [torch.from_numpy(sitk.GetArrayFromImage(image)) for image in (still, moved)]
    voxels = convex_adam_pt(*arrays, dtype=torch.float32, device=torch.device("cpu"))  # [D, H, W, 3], z first
    vectors = voxels[..., ::-1] * np.array(still.GetSpacing())
    return after_affine(grid_axes_to_lps(vectors.astype(np.float64), still), still, affine)


def fireants(fixed: str, moving: str, affine: str) -> Transform:
    """FireANTs' greedy registration with the settings of its examples, on the CPU."""
    from fireants.io.image import BatchedImages, Image
    from fireants.registration.greedy import GreedyRegistration

    pair = [BatchedImages([Image(image, device="cpu")]) for image in aligned(fixed, moving, affine)]
    method = GreedyRegistration(
        scales=[4, 2, 1], iterations=[200, 100, 25], fixed_images=pair[0], moving_images=pair[1],
        cc_kernel_size=5, deformation_type="compositive", smooth_grad_sigma=1, smooth_warp_sigma=0.5,
        optimizer="Adam", optimizer_lr=0.5,
    )  # fmt: skip
    method.optimize()
    with tempfile.TemporaryDirectory() as folder:
        method.save_as_ants_transforms([f"{folder}/warp.nii.gz"])
        field = sitk.ReadImage(f"{folder}/warp.nii.gz", sitk.sitkVectorFloat64)
    return sitk.CompositeTransform([sitk.ReadTransform(affine), sitk.DisplacementFieldTransform(field)])


METHODS: dict[str, Callable[[str, str, str], Transform]] = {
    "spikereg brain": partial(spikereg, preset="brain"),
    "spikereg brain-t1": partial(spikereg, preset="brain-t1"),
    "spikereg any-anatomy": partial(spikereg, preset="any-anatomy"),
    "greedy": greedy,
    "ANTs SyN": partial(ants_syn, kind="antsRegistrationSyN[so]"),
    "ANTs SyNQuick": partial(ants_syn, kind="antsRegistrationSyNQuick[so]"),
    "elastix": elastix,
    "SimpleITK demons": demons,
    "convexAdam": convex_adam,
    "FireANTs": fireants,
}


def aligned(fixed: str, moving: str, affine: str) -> tuple[sitk.Image, sitk.Image]:
    """The fixed image, and the moving one resampled onto it through the affine, as single precision."""
    still, moved = (sitk.ReadImage(name, sitk.sitkFloat32) for name in (fixed, moving))
    return still, sitk.Resample(moved, still, sitk.ReadTransform(affine), sitk.sitkLinear)


def grid_axes_to_lps(vectors: np.ndarray, grid: sitk.Image) -> np.ndarray:
    """[D, H, W, 3] mm along the axes of a grid, as LPS mm."""
    return vectors @ np.reshape(grid.GetDirection(), (3, 3)).T


def after_affine(vectors: np.ndarray, grid: sitk.Image, affine: str) -> Transform:
    """The map of [D, H, W, 3] LPS mm on a grid, followed by the affine."""
    field = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    field.CopyInformation(grid)
    return sitk.CompositeTransform([sitk.ReadTransform(affine), sitk.DisplacementFieldTransform(field)])


def main() -> None:
    method, fixed, moving, affine, out = sys.argv[1:6]
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    before = os.times()
    found = METHODS[method](fixed, moving, affine)
    after = os.times()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = after.user + after.system - before.user - before.system
    reference = sitk.ReadImage(fixed)
    total = sitk.TransformToDisplacementField(
        found, sitk.sitkVectorFloat32, reference.GetSize(), reference.GetOrigin(), reference.GetSpacing(),
        reference.GetDirection(),
    )  # fmt: skip
    sitk.WriteImage(total, out, True, 1)
    Path(out + ".json").write_text(json.dumps({"cpu_s": seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
