"""Which volumes the live view holds, on which grid, and how fine their values are told apart."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from SpikeRegLib.images.boxes import bounding_box
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, background_value, foreground_mask
from SpikeRegLib.report.pictures import intensity_window
from SpikeRegLib.report.planes import affine_part
from SpikeRegLib.report.quantised import quantised
from SpikeRegLib.space.transforms import Transform, warp_image

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.registration import Registration

_MOST_VOXELS = 1_000_000  # of an image
_MOST_LETTERS = 3_000_000  # of all volumes in base64, so that the page stays below 6 MB
_ATTEMPTS = 4
_MOST_SPIKE_VOXELS = 150_000  # of one layer: there are many
_GREY_STEPS = 100  # at least, between black and white; with round steps they mostly go into one byte
_MARGIN_MM = 6.0
JACOBIAN_STEP = 0.01
ERROR_STEP_MM = 0.05
_RATE_STEP = 1 / 250


def live_volumes(registration: Registration) -> list[dict[str, Any]]:
    """Fixed, warped, moving after the affine part, Jacobian, predicted error and spike rates, ready for JSON.

    The images share one grid: the voxels of the fixed image around its anatomy, where those are too many resampled on
    larger ones. Jacobian and predicted error are those
    of the nearest voxels, within the anatomy.

    Returns:
        For each a table as of `quantised.quantised`, and `name`, `text` for readers, `kind` (image, jacobian, error or
        rate), `window` (the values drawn as the two ends of the scale).
    """
    mask, most = foreground_mask(registration.fixed), _MOST_VOXELS
    for _ in range(_ATTEMPTS):
        volumes = _volumes_on(live_frame(registration.fixed.frame, mask, most), registration, mask)
        letters = sum(len(volume["codes"]) for volume in volumes)
        if letters <= _MOST_LETTERS:
            break
        most = int(0.9 * most * _MOST_LETTERS / letters)  # noise does not pack
    return volumes


def _volumes_on(frame: Frame, registration: Registration, mask: torch.Tensor) -> list[dict[str, Any]]:
    fixed = registration.fixed
    fixed_window = intensity_window(fixed)
    moving_window = intensity_window(registration.moving)
    air = background_value(registration.moving)
    outside = registration.result.get("background", air)
    own = frame.spacing == fixed.frame.spacing  # nothing lies between voxels then
    images = (
        ("fixed", "Fixed", _on(fixed, frame, background_value(fixed), nearest=own), fixed_window),
        ("warped", "Warped", _on(registration.warped, frame, outside, nearest=own), moving_window),
        (
            "moving",
            "Moving, affine only",
            _on(registration.moving, frame, air, through=affine_part(registration.transform)),
            moving_window,
        ),
    )
    volumes = []
    for name, text, values, window in images:
        step = grey_step(window)
        volumes.append(_entry(name, text, "image", values, frame, step, window))
    inside = _on(Volume(mask.float(), fixed.frame), frame, 0.0, nearest=True) > 0.5
    jacobian = np.where(inside, _on(registration.jacobian, frame, np.nan, nearest=True), np.nan)
    volumes.append(_entry("jacobian", "Jacobian", "jacobian", jacobian, frame, JACOBIAN_STEP, (0.25, 4.0)))
    if registration.predicted_error is not None:
        error = np.where(inside, _on(registration.predicted_error, frame, np.nan, nearest=True), np.nan)
        volumes.append(_entry("error", "Predicted error", "error", error, frame, ERROR_STEP_MM, (0.0, 6.0)))
    rates = registration.spike_maps
    highest = max((float(rate.data.max()) for rate in rates.values()), default=0.0) or 1.0
    for layer, rate in rates.items():
        step = thinned(rate.frame, _MOST_SPIKE_VOXELS)
        values = rate.data.float().numpy()[::step, ::step, ::step]
        volumes.append(
            _entry(f"spikes {layer}", layer, "rate", values, every(rate.frame, step), _RATE_STEP, (0.0, highest))
        )
    return volumes


def grey_step(window: tuple[float, float]) -> float:
    """The round number (1, 2 or 5 times a power of ten) of which at least 100 lie between black and white."""
    largest = max(window[1] - window[0], 1e-6) / _GREY_STEPS
    power = 10.0 ** floor(log10(largest))
    return power * max(factor for factor in (1.0, 2.0, 5.0) if factor == 1.0 or factor * power <= largest)


def live_frame(frame: Frame, mask: torch.Tensor, most: int = _MOST_VOXELS) -> Frame:
    """The part of `frame` around the anatomy, of at most so many voxels; the same voxels where they are so few.

    Args:
        frame: of the fixed image.
        mask: [D, H, W] bool, its anatomy.
        most: how many voxels.
    """
    box = bounding_box(mask)
    lowest, highest = box if box is not None else ([0, 0, 0], [n - 1 for n in frame.shape])
    margin = [ceil(_MARGIN_MM / spacing) for spacing in reversed(frame.spacing)]
    first = [max(0, start - more) for start, more in zip(lowest, margin, strict=True)]
    stop = [min(n, last + 1 + more) for n, last, more in zip(frame.shape, highest, margin, strict=True)]
    part = frame.part(first[::-1], (stop[0] - first[0], stop[1] - first[1], stop[2] - first[2]))
    extent = np.multiply(part.size, part.spacing)
    spacing, pitch = np.array(part.spacing), min(part.spacing)
    while np.prod(np.maximum(1, extent // spacing)) > most:
        pitch *= 1.02
        spacing = np.maximum(part.spacing, pitch)  # an axis that is coarser already stays as it is
    if pitch == min(part.spacing):
        return part
    width, height, depth = (max(1, int(count)) for count in extent // spacing)
    x, y, z = spacing.tolist()
    return replace(part, shape=(depth, height, width), spacing=(x, y, z))


def thinned(frame: Frame, most: int) -> int:
    """The smallest n for which every n-th voxel along each axis is at most `most` voxels."""
    step = 1
    while np.prod([ceil(n / step) for n in frame.shape]) > most:
        step += 1
    return step


def every(frame: Frame, step: int) -> Frame:
    """The grid of every `step`-th voxel of `frame`, from its first on."""
    depth, height, width = (ceil(n / step) for n in frame.shape)
    x, y, z = frame.spacing
    return replace(frame, shape=(depth, height, width), spacing=(x * step, y * step, z * step))


def _on(
    volume: Volume, frame: Frame, outside: float, *, nearest: bool = False, through: Transform | None = None
) -> np.ndarray:
    """[D, H, W] values of `volume` on `frame`, seen through a transform when given."""
    seen = Volume(volume.data.float(), volume.frame)
    how = "nearest" if nearest else "linear"
    return warp_image(
        seen, through or Transform.identity(), frame, interpolation=how, outside=float(outside)
    ).data.numpy()


def _entry(
    name: str, text: str, kind: str, values: np.ndarray, frame: Frame, step: float, window: tuple[float, float]
) -> dict[str, Any]:
    return {"name": name, "text": text, "kind": kind, "window": list(window), **quantised(values, frame, step)}
