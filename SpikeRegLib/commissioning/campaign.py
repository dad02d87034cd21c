"""All phantoms of all heads: drawn, written, registered and measured, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from SpikeRegLib import __version__
from SpikeRegLib.commissioning.phantoms import Phantom, anatomy_mm, make_phantom
from SpikeRegLib.commissioning.trial import measured
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import write_sitk
from SpikeRegLib.images.volumes import read_image, to_sitk, write_volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.progress import Listener, Progress, silent
from SpikeRegLib.report import write_report
from SpikeRegLib.space.transforms import write_transform
from SpikeRegLib.system import interrupt

SCHEMA = 1
# Share of an image above which what stands out is no head on a background.
_MOST_ANATOMY = 0.95


def commission(
    heads: Mapping[str, Path], kinds: Iterable[str], folder: Path, *, seed: int = 0, registered: bool = True,
    listener: Listener = silent, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Make the phantoms, register them, and say how far each result is from the truth.

    Args:
        heads: name -> file of a scalar image of a head.
        kinds: of `commissioning.KINDS`.
        folder: that is there; gets HEAD-KIND/ with fixed.nii.gz, moving.nii.gz, moving_to_fixed.h5 and, registered,
            transform.h5, inverse_transform.h5 and report.html.
        seed: of the motions and the noise.
        registered: whether they are registered, too.
        listener: hears the progress of each registration; raises Cancelled to stop.
        options: as `register` takes them.

    Returns:
        schema, version, preset, seed, and phantoms: name -> figures as `trial.measured` gives them.

    Raises:
        InputError: a head cannot be read or registered, or the image shows none.
    """
    result: dict[str, Any] = {
        "schema": SCHEMA, "version": __version__, "preset": None, "seed": seed, "phantoms": {},
    }  # fmt: skip
    for name, path in heads.items():
        head = to_sitk(read_image(path))
        if not 0 < len(anatomy_mm(head)) < _MOST_ANATOMY * head.GetNumberOfPixels():
            raise InputError(f"{path}: shows no head on a dark background to make phantoms of; give another image")
        for kind in kinds:
            interrupt.check()
            listener(Progress("prepare", 0.0, f"drawing {name}, {kind}"))
            phantom, place = make_phantom(head, kind, seed), folder / f"{name}-{kind}"
            place.mkdir()
            _write(phantom, place)
            found: dict[str, Any] = {"kind": kind}
            if registered:
                found = _registered(phantom, place, {**options, "seed": seed, "listener": listener}, result)
            result["phantoms"][place.name] = found
    return result


def _write(phantom: Phantom, folder: Path) -> None:
    for name, image in (("fixed", phantom.fixed), ("moving", phantom.moving)):
        write_sitk(image, folder / f"{name}.nii.gz")
    sitk.WriteTransform(phantom.drawn, str(folder / "moving_to_fixed.h5"))


def _registered(phantom: Phantom, folder: Path, options: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    found = register(folder / "fixed.nii.gz", folder / "moving.nii.gz", **options)
    write_transform(found.transform, folder / "transform.h5")
    write_transform(found.inverse, folder / "inverse_transform.h5")
    write_report(found, folder / "report.html")
    write_volume(found.warped, folder / "warped.nii.gz")
    result["preset"] = found.result["preset"]
    return measured(phantom, folder, found.result)
