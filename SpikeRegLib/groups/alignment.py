"""Affine maps from one common space to every image of a group, none of them favoured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SpikeRegLib.affine import align
from SpikeRegLib.anatomy.layout import Layout, Places, fit_affine
from SpikeRegLib.anatomy.pose import usual_places
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.space.matrix_logarithms import affine_exp, affine_log, without_mean, without_mean_stretch

# Rounds in which the mean head is found; the first has the layout of the network for one.
_ROUNDS = 4


def aligned_heads(subjects: Sequence[tuple[str, Places]], layout: Layout) -> list[np.ndarray]:
    """Affine maps between structures: common space -> each head.

    The common space is upright, around the middle of the brain, whatever the headers say. Its structures lie where they
    lie on average once every head was brought there, and the logarithms of the stretches add to zero.

    Args:
        subjects: name and places of every head, LPS mm.
        layout: of heads as the network knows them, where the search for the mean begins.

    Raises:
        InputError: a head has too few structures in common with the others.
    """
    mean = usual_places(layout)
    found: list[np.ndarray] = []
    for _ in range(_ROUNDS):
        found = []
        for name, places in subjects:
            fit = fit_affine(mean, places)
            if fit is None or np.linalg.det(fit.matrix[:3, :3]) <= 0:
                raise InputError(f"{name}: too few of its structures were found to align it; leave it out")
            found.append(fit.matrix)
        found = without_mean_stretch(found)
        brought = []
        for (_, places), matrix in zip(subjects, found, strict=True):
            back = np.linalg.inv(matrix)
            brought.append(places.centres @ back[:3, :3].T + back[:3, 3])
        counted: np.ndarray = np.isfinite(np.stack(brought)).all(2)
        centres = np.where(counted[..., None], np.stack(brought), 0.0).sum(0) / np.maximum(counted.sum(0), 1)[:, None]
        centres[2 * counted.sum(0) < len(subjects)] = np.nan
        mean = Places(centres, np.mean([places.volumes_ml for _, places in subjects], 0))
    return found


def aligned_images(images: Sequence[Volume], listener: Listener, *, model: str = "affine") -> list[np.ndarray]:
    """Affine or rigid maps between intensities: common space -> each image.

    Every image is aligned with the first, both ways, and then the common space is moved into the middle: the logarithms
    of all maps add to zero.

    Args:
        images: darker than all of their anatomy around it.
        listener: hears the progress as step "align", from 0 to 1.
        model: "affine" or "rigid".

    Raises:
        InputError: an image cannot be aligned, or lies so otherwise than the others that there is no middle.
    """
    found = [np.eye(4)]
    for number, image in enumerate(images[1:], 1):
        there = align(images[0], image, model=model, listener=_told(listener, number - 1, len(images) - 1, image.name))
        back = align(image, images[0], model=model, initial=there.transform.inverse())
        try:
            found.append(_middle(there.transform.matrix, back.transform.inverse().matrix))
        except ValueError as error:
            raise InputError(f"{image.name}: cannot be aligned with {images[0].name}; leave it out") from error
    try:
        return without_mean(found)
    except ValueError as error:
        raise InputError(f"{images[0].name} and the others: {error}; check the orientation of the files") from error


def _middle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The map half way between two that are near to each other."""
    half: np.ndarray = first @ affine_exp(affine_log(np.linalg.inv(first) @ second) / 2)
    return half


def _told(listener: Listener, number: int, count: int, name: str) -> Listener:
    def heard(progress: Progress) -> None:
        listener(Progress("align", (number + progress.fraction) / max(1, count), f"aligning {name}"))

    return heard
