"""What is to be done with the images of a data set, as the rows of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from SpikeRegLib.bids.layout import T1w
from SpikeRegLib.cohort.manifest import SEGMENT, Row
from SpikeRegLib.errors import InputError

# Files of a registration from which derivatives are made.
OUTPUTS = ("warped.nii.gz", "transform.h5", "inverse_transform.h5", "report.html", "result.json")


@dataclass(frozen=True)
class Work:
    """One row, and the image whose derivatives it makes.

    Attributes:
        row: of the cohort.
        image: that is registered to `to`, or segmented.
        to: the space it is registered to, as in `space-` and `to-`; "" of a segmentation.
        fixed: file that is this space.
    """

    row: Row
    image: T1w
    to: str = ""
    fixed: Path = Path()


def to_template(images: Sequence[T1w], template: Path, name: str, options: Mapping[str, Any]) -> list[Work]:
    """Every image registered to a template.

    Args:
        images: of the data set.
        template: the fixed image.
        name: of its space, letters and digits, such as MNI152NLin2009cAsym.
        options: keywords of `register`.
    """
    return [
        Work(Row(f"{image.stem}_to-{name}", _options(options, template, image.path)), image, name, template)
        for image in images
    ]


def between_sessions(images: Sequence[T1w], options: Mapping[str, Any]) -> list[Work]:
    """Every later session of a subject registered to the first one.

    Raises:
        InputError: no subject has two sessions.
    """
    found = []
    for _, visits in groupby(images, key=lambda image: image.subject):
        first, *later = visits
        for image in later:
            name = f"ses{first.session}T1w"
            row = Row(f"{image.stem}_to-{name}", _options(options, first.path, image.path))
            found.append(Work(row, image, name, first.path))
    if not found:
        raise InputError("--between-sessions: no subject has two sessions with a T1-weighted image; check the data set")
    return found


def segmentations(images: Sequence[T1w], threads: int) -> list[Work]:
    """The structures of every image."""
    return [
        Work(Row(f"{image.stem}_seg", {"source": str(image.path.absolute()), "threads": threads}, SEGMENT), image)
        for image in images
    ]


def _options(options: Mapping[str, Any], fixed: Path, moving: Path) -> dict[str, Any]:
    return {**options, "fixed": str(fixed.absolute()), "moving": str(moving.absolute())}
