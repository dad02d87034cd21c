"""The pairs of a study: which files belong to each, and whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.errors import InputError
from SpikeRegLib.text.names import check_name

if TYPE_CHECKING:
    from SpikeRegLib.images.frames import Frame


@dataclass(frozen=True)
class StudyPair:
    """One pair, its transform maps fixed points to moving points.

    Attributes:
        id: a plain name; that of the folder with its registration.
        fixed, moving: images; only the header of the fixed one is read here.
        fixed_seg, moving_seg: label maps.
        fixed_points, moving_points: corresponding landmarks.
        first_voxel: None where the points are LPS mm; else they are voxels (i, j, k), and this is the number of the
            first one: 0 in Learn2Reg, 1 in DIR-Lab.
        fixed_mask: where Learn2Reg takes its SDlogJ.
        fixed_frame, moving_frame: of images without a header.
        fields: names, without extension, under which a submission may hold its displacement field.
        subjects: whose the fixed and the moving image are.
    """

    id: str
    fixed: Path | None = None
    moving: Path | None = None
    fixed_seg: Path | None = None
    moving_seg: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    first_voxel: int | None = None
    fixed_mask: Path | None = None
    fixed_frame: Frame | None = None
    moving_frame: Frame | None = None
    fields: tuple[str, ...] = ()
    subjects: tuple[str, str] = ("", "")

    def files(self) -> list[Path]:
        """All files that are named, in the order of the attributes."""
        return [value for field in dataclasses.fields(self) if isinstance(value := getattr(self, field.name), Path)]


@dataclass(frozen=True)
class Study:
    """Pairs that are measured alike.

    Attributes:
        name: of the data set, or the file that lists the pairs.
        pairs: in the order of the tables.
        labels: that are measured; all that a pair has in common where it is None.
    """

    name: str
    pairs: tuple[StudyPair, ...]
    labels: tuple[int, ...] | None = None


def check_ids(ids: Sequence[str], where: str) -> None:
    """Refuse ids that name no folder of their own.

    Args:
        ids: of all pairs.
        where: the file or option they come from, for the message.

    Raises:
        InputError: none at all, one that is no plain name, or one twice (also but for the case of its letters, which
            not every file system tells apart).
    """
    if not ids:
        raise InputError(f"{where}: lists no pairs; give at least one")
    seen: set[str] = set()
    for name in ids:
        try:
            check_name("id", name)
        except ValueError as error:
            raise InputError(f"{where}: {error}; rename the pair") from error
        if name.casefold() in seen:
            raise InputError(f"{where}: the id {name} comes twice; give every pair an id of its own")
        seen.add(name.casefold())
