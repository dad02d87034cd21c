"""Figures on pairs that training never sees: mean Dice of the network alone, without refinement."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from SpikeRegLib.affine import align
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.pipeline.inputs import load_side, on_working_frame, working_frame
from SpikeRegLib.quality import metrics
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, compose, warp_image
from SpikeRegLib.spiking.unet import RegistrationUNet


@dataclass(frozen=True)
class _Pair:
    image: torch.Tensor
    frame: Frame
    affine: AffineTransform
    fixed_labels: Volume
    moving_labels: Volume


class DiceOnPairs:
    """Mean Dice over the labels of pairs listed in a CSV file, after alignment and one pass of the network.

    Args:
        manifest: columns fixed, moving, fixed_seg, moving_seg; paths relative to the file.

    Raises:
        InputError: the manifest or a file in it cannot be used.
    """

    def __init__(self, manifest: Path) -> None:
        try:
            with open(manifest, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise InputError(f"{manifest}: cannot be read ({error.strerror}); give an existing CSV file") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{manifest}: no CSV in UTF-8 ({error}); save it as that") from error
        wanted = {"fixed", "moving", "fixed_seg", "moving_seg"}
        if not rows or not wanted <= set(rows[0]):
            raise InputError(f"{manifest}: needs the columns {', '.join(sorted(wanted))} and at least one row")
        self._rows = [{name: manifest.parent / row[name] for name in wanted} for row in rows]
        self._pairs: list[_Pair] = []

    def __call__(self, network: RegistrationUNet) -> dict[str, float]:
        if not self._pairs:
            self._pairs = [_prepare(row, network) for row in self._rows]
        device = str(next(network.parameters()).device)
        scores = []
        for pair in self._pairs:
            with torch.inference_mode(), Precision.best(device).autocast():
                displacement = network.displacement(pair.image.to(device)).float().cpu()[0] * pair.frame.spacing[0]
            transform = compose(DisplacementTransform(displacement.clone(), pair.frame), pair.affine)
            warped = warp_image(pair.moving_labels, transform, pair.fixed_labels.frame, interpolation="nearest")
            scores.append(fmean(metrics.dice(pair.fixed_labels, warped).values()))
        return {"dice": fmean(scores)}


def _prepare(row: dict[str, Path], network: RegistrationUNet) -> _Pair:
    fixed = load_side(row["fixed"], labels=row["fixed_seg"])
    moving = load_side(row["moving"], labels=row["moving_seg"])
    affine = align(fixed.image, moving.image).transform
    frame = working_frame(fixed, network.spec.input_spacing_mm)
    images = on_working_frame(fixed, frame, None), on_working_frame(moving, frame, affine)
    assert fixed.labels is not None and moving.labels is not None
    return _Pair(torch.stack(images)[None], frame, affine, fixed.labels, moving.labels)
