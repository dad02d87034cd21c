"""Rigid and affine alignment: start search over rotations, then SimpleITK registration, each step kept only if better.

What a search over so many poses finds is similar in any case. So in the end the start is left only for a pose that
explains the images clearly better by another measure, which no step has maximised: see `evidence`.

Both images are brought to a small isotropic grid in units of the object's radius, centred on the foreground, where
rotations, scales and translations have the same order of magnitude. What is compared there is the local contrast
(intensity minus its local mean, over its local deviation): it does not change with bias fields or gains, follows the
tissue rather than the outline, and so is not misled by wide ventricles and sulci. The domain is fixed, the fixed
foreground and a rim around it, and outside the moving image counts as background: shrinking or leaving the overlap
is never rewarded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from SpikeRegLib.affine import steps
from SpikeRegLib.affine.alignment_images import AlignmentImages
from SpikeRegLib.affine.evidence import Evidence
from SpikeRegLib.affine.matrices import unit_map
from SpikeRegLib.affine.reduced import find, prepare
from SpikeRegLib.affine.search import search
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.progress import Listener, Progress, part_of_stage, silent
from SpikeRegLib.space.transforms import AffineTransform

_NESTED = 0.6  # ratio of foreground volumes below which one image shows much more than the other
_SAME_CONTRAST = 0.2  # interior correlation above which two images count as the same contrast
_LOW_CORRELATION = 0.3


@dataclass(frozen=True)
class Alignment:
    """The result of `align`.

    Attributes:
        transform: fixed -> moving, LPS mm.
        similarity_before, similarity_after: of the start and of `transform`, by the measure that decided every step.
        accepted_steps: the steps that improved it, in order; empty when the start was kept.
        warnings: one line each on what was not accepted and why, or what looks doubtful.
        measure: "correlation" (of local contrast, at most 1) or "mutual information" (of local contrast, nats).
    """

    transform: AffineTransform
    similarity_before: float
    similarity_after: float
    accepted_steps: list[str]
    warnings: list[str]
    measure: str


def align(
    fixed: Volume,
    moving: Volume,
    *,
    model: str = "affine",
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    fixed_left_out: Volume | None = None,
    moving_left_out: Volume | None = None,
    initial: AffineTransform | None = None,
    listener: Listener = silent,
    seed: int = 0,
) -> Alignment:
    """Align `moving` to `fixed`, whatever their headers say about position and orientation.

    Args:
        fixed, moving: images on any grid; the contrast may differ.
        model: "rigid", or "affine" (rigid, then similarity, then affine).
        fixed_mask, moving_mask: non-zero where the anatomy is, on any grid; what lies outside counts as background.
        fixed_left_out, moving_left_out: non-zero where an image does not count, on any grid.
        initial: fixed -> moving, LPS mm. Registration starts there and searches nothing; the rigid or affine motion
            found is applied before it. Without it, the start is what the headers say, then a search.
        listener: told of the progress at least every 0.2 s; whatever it raises ends the registration.
        seed: of the sample points; the result depends on nothing else.

    Raises:
        InputError: unknown model, empty mask, or constant image.
        Cancelled: raised by the listener.
    """
    if model not in ("affine", "rigid"):
        raise InputError(f"model: {model!r} is unknown; use affine or rigid")
    listener(Progress("align", 0.0, "preparing the images"))
    with _one_itk_thread():
        masks, left_out = (fixed_mask, moving_mask), (fixed_left_out, moving_left_out)
        return _align(fixed, moving, model, masks, left_out, initial, listener, seed)


@contextmanager
def _one_itk_thread() -> Iterator[None]:
    """ITK's metrics add up in the order in which their threads finish: only one thread gives the same bits again."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _align(
    fixed: Volume, moving: Volume, model: str, masks: tuple[Volume | None, Volume | None],
    left_out: tuple[Volume | None, Volume | None], initial: AffineTransform | None, listener: Listener, seed: int,
) -> Alignment:  # fmt: skip
    objects = find(fixed, masks[0], "fixed", left_out[0]), find(moving, masks[1], "moving", left_out[1])
    radius = min(o.radius for o in objects)
    listener(Progress("align", 0.1, "preparing the images"))
    matrix: np.ndarray = np.eye(4) if initial is None else initial.matrix
    # A brain against a whole head: the smaller one sets the domain, so it plays the fixed image.
    nested = min(o.volume for o in objects) < _NESTED * max(o.volume for o in objects)
    swapped = nested and objects[1].volume < objects[0].volume
    if swapped:
        objects, matrix = objects[::-1], np.linalg.inv(matrix)
    partly = any(face for o in objects for faces in o.faces for face in faces)
    prepared = prepare(objects[0], radius, alone=nested, in_part=partly), prepare(objects[1], radius, in_part=partly)
    images = AlignmentImages(*prepared, seed, nested=nested)
    to_unit = unit_map(objects[0].centre, radius)
    from_unit = np.linalg.inv(unit_map(objects[1].centre, radius))
    start = np.linalg.inv(from_unit) @ matrix @ np.linalg.inv(to_unit)

    evidence = Evidence(*objects, radius, seed, nested=nested)

    def convincing(ascent: _Ascent) -> bool:
        """Whether it stayed at the start, or had good reasons to leave it."""
        return not ascent.accepted or evidence.clearly_better(from_unit @ ascent.matrix @ to_unit, matrix)

    ascent = _climb(images, start, model, listener, search_first=initial is None, span=(0.5, 0.9))
    if initial is None and not convincing(ascent):
        # What was found far away may be chance; what is found near the start is asked the same.
        ascent = _climb(images, start, model, listener, search_first=False, span=(0.9, 1.0))
    if not convincing(ascent):
        ascent = _Ascent(start, ascent.measure, ascent.before, ascent.before, [], ascent.warnings)
        kept = "position that the headers give" if initial is None else "initial transform"
        ascent.warnings.append(f"no alignment explains the images clearly better than the {kept}, which was kept")
    measure, before, similarity, warnings = ascent.measure, ascent.before, ascent.similarity, ascent.warnings
    if measure == "correlation" and similarity < _LOW_CORRELATION:
        warnings.append(f"the images agree poorly after alignment ({measure} {similarity:.3f}); check the result")
    listener(Progress("align", 1.0, f"{measure} {before:.3f} -> {similarity:.3f}"))
    matrix = from_unit @ ascent.matrix @ to_unit
    transform = AffineTransform(np.linalg.inv(matrix) if swapped else matrix)
    return Alignment(transform, before, similarity, ascent.accepted, warnings, measure)


@dataclass(frozen=True)
class _Ascent:
    """Where the steps led, in the units of `Prepared`, by which measure, and what they say."""

    matrix: np.ndarray
    measure: str
    before: float
    similarity: float
    accepted: list[str]
    warnings: list[str]


def _climb(
    images: AlignmentImages,
    start: np.ndarray,
    model: str,
    listener: Listener,
    *,
    search_first: bool,
    span: tuple[float, float],
) -> _Ascent:
    """The start search, if wanted, and the steps of the model, each kept only if it improves the similarity."""
    best = search(images, start, listener) if search_first else start
    measure = "correlation" if images.interior_correlation(best) > _SAME_CONTRAST else "mutual information"
    before = images.similarity(start, measure)
    ascent = _Ascent(start, measure, before, before, [], [])

    def offer(step: str, candidate: np.ndarray | str) -> None:
        nonlocal ascent
        if isinstance(candidate, str):
            ascent.warnings.append(f"{step} step failed and was left out: {candidate}")
            return
        if step in ("similarity", "affine") and (problem := steps.implausible(candidate)):
            ascent.warnings.append(f"{step} step not accepted: {problem}")
            return
        reached = images.similarity(candidate, measure)
        if reached > ascent.similarity + 1e-6:
            ascent = replace(ascent, matrix=candidate, similarity=reached, accepted=[*ascent.accepted, step])

    if search_first:
        offer("start search", best)
    names = ["rigid"] if model == "rigid" else ["rigid", "similarity", "affine"]
    for number, step in enumerate(names):
        begin, end = (span[0] + (span[1] - span[0]) * (number + n) / len(names) for n in (0, 1))
        offer(step, steps.optimise(images, ascent.matrix, step, measure, part_of_stage(listener, begin, end)))
    if not ascent.accepted:
        ascent.warnings.append(f"no step improved the similarity ({measure} {before:.3f}); the start was kept")
    return ascent
