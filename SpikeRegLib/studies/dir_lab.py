"""DIR-Lab's 4DCT of ten patients: 300 landmarks each at the ends of inhalation (T00) and exhalation (T50).

Images are headless int16 files, x fastest, whose size and spacing the web site tells; landmarks count voxels from 1
(Castillo et al., Phys Med Biol 54 (2009) 1849 and 55 (2010) 305; www.dir-lab.com/ReferenceData.html). The inhalation
is fixed here, the exhalation moving. The files say nothing of orientation: axes are taken as LPS and origins as 0,
which changes no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.studies.pairs import Study, StudyPair

if TYPE_CHECKING:
    from SpikeRegLib.images.volumes import Volume

NAME = "dir-lab"
PHASES = ("T00", "T50")
# Columns and rows, slices, and mm between columns and rows; slices are 2.5 mm apart.
_CASES = {
    1: (256, 94, 0.97),
    2: (256, 112, 1.16),
    3: (256, 104, 1.15),
    4: (256, 99, 1.13),
    5: (256, 106, 1.10),
    6: (512, 128, 0.97),
    7: (512, 136, 0.97),
    8: (512, 128, 0.97),
    9: (512, 128, 0.97),
    10: (512, 120, 0.97),
}
_SLICES_MM = 2.5


def dir_lab(root: Path) -> Study:
    """The ten cases below `root`, in folders such as Case1Pack and Case8Deploy as they are unpacked.

    Raises:
        InputError: a file of landmarks is missing; names the first one.
    """
    return Study(NAME, tuple(_case(root, number) for number in _CASES))


def _case(root: Path, number: int) -> StudyPair:
    wide, slices, spacing = _CASES[number]
    frame = Frame((slices, wide, wide), spacing=(spacing, spacing, _SLICES_MM))
    images = [_first(_images(root, number, phase)) for phase in PHASES]
    points = [_first(_landmarks(root, number, phase)) for phase in PHASES]
    for path in points:
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; give the folder into which the packs of DIR-Lab's 4DCT are unpacked"
            )
    return StudyPair(
        f"case{number:02}",
        fixed=images[0],
        moving=images[1],
        fixed_points=points[0],
        moving_points=points[1],
        first_voxel=1,
        fixed_frame=frame,
        moving_frame=frame,
        subjects=(f"case{number:02}", f"case{number:02}"),
    )


def _folders(root: Path, number: int) -> list[Path]:
    return [root / f"Case{number}{kind}" for kind in ("Pack", "Deploy")]


def _images(root: Path, number: int, phase: str) -> Iterable[Path]:
    endings = ("_s", "-ssm", "")
    for folder in _folders(root, number):
        yield from (folder / "Images" / f"case{number}_{phase}{ending}.img" for ending in endings)


def _landmarks(root: Path, number: int, phase: str) -> Iterable[Path]:
    names = [f"Case{number}_300_{phase}_xyz.txt", f"case{number}_dirLab300_{phase}_xyz.txt"]
    for folder in _folders(root, number):
        for inside in ("ExtremePhases", "extremePhases"):
            yield from (folder / inside / name for name in names)


def _first(paths: Iterable[Path]) -> Path:
    """The first that is there, whatever the case of its letters; else the first."""
    paths = list(paths)
    for path in paths:
        if path.is_file():
            return path
        if path.parent.is_dir():
            pattern = re.compile(re.escape(path.name), re.IGNORECASE)
            same = [found for found in sorted(path.parent.iterdir()) if pattern.fullmatch(found.name)]
            if same:
                return same[0]
    return paths[0]


def read_raw(path: Path, frame: Frame) -> Volume:
    """Read a headless image: little-endian int16, x fastest; intensities as they are stored.

    Args:
        path: `.img`.
        frame: its grid.

    Returns:
        A volume of [D, H, W] int16.

    Raises:
        InputError: missing, or of another size than the grid asks for.
    """
    import numpy as np
    import torch

    from SpikeRegLib.images.volumes import Volume

    try:
        values = np.fromfile(path, "<i2")
        odd = path.stat().st_size % 2
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    depth, height, width = frame.shape
    if odd or values.size != depth * height * width:
        raise InputError(
            f"{path}: {path.stat().st_size} bytes where {width}x{height}x{depth} voxels take "
            f"{2 * depth * height * width}; download the file again"
        )
    return Volume(torch.from_numpy(values.reshape(frame.shape).astype(np.int16)), frame, str(path))
