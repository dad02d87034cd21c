"""Run greedy (PyPI picsl_greedy) on one pair from a given affine: the classical yardstick, in a process of its own.

    python Benchmarks/greedy_run.py FIXED MOVING AFFINE.tfm OUT_FIELD.nii.gz

Settings: -m NCC 2x2x2 -n 100x50x10, one thread. The field written is the total displacement (LPS mm) on the fixed grid,
so that the independent scorer reads it as it reads ours. OUT_FIELD.nii.gz.json gets the CPU seconds of greedy alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def greedy_arguments(fixed: str, moving: str, affine: str, warp: str) -> str:
    """The command line of the deformable stage."""
    return f"-d 3 -m NCC 2x2x2 -i {fixed} {moving} -it {affine} -o {warp} -n 100x50x10 -threads 1"


def matrix_of(affine: sitk.Transform) -> np.ndarray:
    """[4, 4] of a linear transform, LPS mm."""
    origin = np.array(affine.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, :3] = np.stack([np.array(affine.TransformPoint(axis.tolist())) - origin for axis in np.eye(3)], 1)
    lps[:3, 3] = origin
    return lps


def main() -> None:
    from picsl_greedy import Greedy3D

    fixed, moving, affine_file, out = sys.argv[1:5]
    affine = sitk.ReadTransform(affine_file)
    with tempfile.TemporaryDirectory() as folder:
        matrix, warp = Path(folder) / "affine.mat", Path(folder) / "warp.nii.gz"
        np.savetxt(matrix, RAS @ matrix_of(affine) @ RAS)
        before = os.times()
        Greedy3D().execute(greedy_arguments(fixed, moving, str(matrix), str(warp)))
        after = os.times()
        seconds = after.user + after.system - before.user - before.system
        Path(out + ".json").write_text(json.dumps({"cpu_s": seconds}))
        field = sitk.ReadImage(str(warp), sitk.sitkVectorFloat64)  # ITK reads the file as LPS vectors
        reference = sitk.ReadImage(fixed)
        composite = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])
        total = sitk.TransformToDisplacementField(
            composite, sitk.sitkVectorFloat32, reference.GetSize(), reference.GetOrigin(), reference.GetSpacing(),
            reference.GetDirection(),
        )  # fmt: skip
        sitk.WriteImage(total, out, True, 1)


if __name__ == "__main__":
    main()
