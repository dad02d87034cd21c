"""Code files: a deformation in about a megabyte. Safetensors; what is no tensor is JSON in the header.

Local codes are integers of eight bits, deflated; a step per channel and stage turns them into numbers.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from SpikeRegLib import __version__, models
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.files import check_frame
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.neural_field.coded import CodedDeformation, ModelIdentity, steps_of, wide_grid
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform
from SpikeRegLib.system.atomic_files import atomic_output
from SpikeRegLib.text.json_text import read_json
from SpikeRegLib.text.ranges import (
    AXIS,
    CODED_SPACING_MM,
    CODES,
    COORDINATE_MM,
    GRID_VOXELS,
    MATRIX,
    TAPER_MM,
    Range,
    within,
    within_all,
)

FORMAT = "spikereg-codes-1"
SUFFIX = ".safetensors"
_DECODERS = "decoders."
_REMEDY = "register again, or copy it again"


def to_bytes(coded: CodedDeformation) -> bytes:
    """The content of a code file; it holds the decoders only where they are those of no model."""
    tensors: dict[str, torch.Tensor] = {}
    for number, codes in enumerate(coded.stages):
        tensors[f"stages.{number}.overall"] = codes.overall.half().contiguous()
        step = steps_of(codes.local)
        whole = (codes.local / step[:, None, None, None]).to(torch.int8).contiguous()
        packed = zlib.compress(whole.numpy().tobytes(), 9)
        tensors[f"stages.{number}.step"] = step
        tensors[f"stages.{number}.local"] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
    if coded.model is None:
        for name, value in coded.decoders.state_dict().items():
            tensors[_DECODERS + name] = value.detach().cpu().float().contiguous()
    if coded.near is not None:
        tensors["near"] = coded.near.to(torch.uint8).contiguous()
    facts = {
        "options": asdict(coded.decoders.options),
        "model": None if coded.model is None else asdict(coded.model),
        "frame": asdict(coded.frame),
        "taper_mm": coded.taper_mm,
        "base": coded.base.matrix.tolist(),
        "itk_jacobian": None if coded.itk_jacobian is None else coded.itk_jacobian.tolist(),
        "stages": [{"centre_mm": codes.centre_mm, **asdict(codes.grid)} for codes in coded.stages],
    }
    return save(tensors, {"format": FORMAT, "spikereg": __version__, "deformation": json.dumps(facts)})


def write_codes(coded: CodedDeformation, path: str | os.PathLike[str]) -> None:
    """Write a code file; it appears complete or not at all.

    Raises:
        InputError: a folder that cannot be written, or a full disk.
    """
    content = to_bytes(coded)
    with atomic_output(path) as temporary:
        temporary.write_bytes(content)


def read_codes(path: str | os.PathLike[str], *, model: str | Path | None = None) -> CodedDeformation:
    """The deformation in a code file; its displacement is, bit for bit, that of the run which wrote it.

    Args:
        path: of the file.
        model: whose decoders read the codes, by name or file; if not given, the one that the file names is looked for
            among the shipped ones and beside the file.

    Raises:
        InputError: the file is missing, truncated, a pickle or no code file, or made with another model.
    """
    path = Path(path)
    metadata = models.read_metadata(path, remedy=_REMEDY)
    if metadata.get("format") == models.FORMAT:
        raise InputError(f"{path}: a model, not a code file; give the codes.safetensors that `register` wrote")
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: not a SpikeReg code file; give the codes.safetensors that `register` wrote")
    try:
        facts = read_json(metadata["deformation"])
        tensors = load_file(str(path))
        models.check_tensors(tensors)
        return _built(facts, tensors, path, model)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, zlib.error) as error:
        raise InputError(f"{path}: its codes do not fit its header ({error}); {_REMEDY}") from error


def _built(
    facts: dict[str, Any], tensors: dict[str, torch.Tensor], path: Path, model: str | Path | None
) -> CodedDeformation:
    named = facts["model"]
    options = FieldSizes(**facts["options"])
    if named is None:
        decoders = Decoders(options)
        inside = {n.removeprefix(_DECODERS): v for n, v in tensors.items() if n.startswith(_DECODERS)}
        decoders.load_state_dict(inside)
        identity = None
    else:
        identity = ModelIdentity(str(named["name"]), str(named["sha256"]))
        decoders = models.load_field(_model_file(identity, path, model)).decoders
        if decoders.options != options:
            raise ValueError("other sizes than its model's")
    placed = facts["frame"]
    reading = None if facts["itk_jacobian"] is None else _matrix("itk_jacobian", facts["itk_jacobian"], 3)
    frame = Frame(
        shape=_shape("frame.shape", placed["shape"], GRID_VOXELS),
        origin=_three("frame.origin", placed["origin"], COORDINATE_MM),
        spacing=_three("frame.spacing", placed["spacing"], CODED_SPACING_MM),
        direction=tuple(_numbers("frame.direction", placed["direction"], (-1.001, 1.001), 9)),
    )
    check_frame(frame, path)
    within_all("taper_mm", [facts["taper_mm"]], TAPER_MM)
    base = _matrix("base", facts["base"], 4)
    if np.abs(base[3] - (0, 0, 0, 1)).max() > 0:
        raise ValueError(f"base: the last row must be 0, 0, 0, 1, got {base[3].tolist()}")
    return CodedDeformation(
        decoders=decoders.eval(),
        stages=tuple(_stage(n, stage, tensors, options) for n, stage in enumerate(facts["stages"])),
        frame=frame,
        taper_mm=float(facts["taper_mm"]),
        base=AffineTransform(base),
        itk_jacobian=None if reading is None else torch.tensor(reading.tolist()),
        model=identity,
        near=_near(tensors, frame),
    )


def _stage(number: int, facts: dict[str, Any], tensors: dict[str, torch.Tensor], options: FieldSizes) -> Codes:
    overall, step, packed = (tensors[f"stages.{number}.{name}"] for name in ("overall", "step", "local"))
    name = f"stage {number + 1}, "
    within_all(f"{name}spacing_mm", [facts["spacing_mm"]], CODED_SPACING_MM)
    shape = _shape(f"{name}shape", facts["shape"], GRID_VOXELS)
    grid = Grid(shape, facts["spacing_mm"], _three(f"{name}offset_mm", facts["offset_mm"], COORDINATE_MM))
    size = options.local_size * math.prod(grid.shape)
    within(f"{name}codes", size, *CODES)
    centre = _three(f"{name}centre_mm", facts["centre_mm"], COORDINATE_MM)
    unpacking = zlib.decompressobj()
    values = unpacking.decompress(packed.numpy().tobytes(), size + 1)
    if overall.shape != (options.global_size,) or step.shape != (options.local_size,) or len(values) != size:
        raise ValueError(f"stage {number + 1} has codes of other sizes")
    whole = torch.frombuffer(bytearray(values), dtype=torch.int8).reshape(options.local_size, *grid.shape)
    overall, local = overall.float(), whole.float() * step[:, None, None, None]
    return Codes(overall, local, grid, centre)


def _near(tensors: dict[str, torch.Tensor], frame: Frame) -> torch.Tensor | None:
    if "near" not in tensors:
        return None
    near = tensors["near"].bool()
    if tuple(near.shape) != wide_grid(Grid(frame.shape, frame.spacing[0])).shape:
        raise ValueError("its decoded part is on another grid")
    return near


def _numbers(name: str, values: Any, limits: Range, count: int) -> list[float]:
    """So many numbers inside the limits."""
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name}: must be {count} numbers, got {values!r:.60}")
    within_all(name, values, limits)
    return [float(value) for value in values]


def _three(name: str, values: Any, limits: Range) -> tuple[float, float, float]:
    first, second, third = _numbers(name, values, limits, 3)
    return first, second, third


def _shape(name: str, values: Any, most: Range) -> tuple[int, int, int]:
    """Axes of a grid that has no more voxels than `most` says."""
    _numbers(name, values, AXIS, 3)
    within_all(name, values, AXIS, whole_numbers=True)
    within(f"{name}, voxels", math.prod(values), *most)
    depth, height, width = values
    return depth, height, width


def _matrix(name: str, rows: Any, size: int) -> np.ndarray:
    if not isinstance(rows, list) or len(rows) != size:
        raise ValueError(f"{name}: must be {size} rows, got {rows!r:.60}")
    return np.array([_numbers(name, row, MATRIX, size) for row in rows])


def _model_file(identity: ModelIdentity, path: Path, given: str | Path | None) -> Path:
    """The file with the decoders: the one that the codes were made with, and no other."""
    wanted = f"{path}: made with the model {identity.name} (sha256 {identity.sha256[:12]}...)"
    if given is not None:
        file = models.find(given, "nephi")
        models.read_header(file)  # first: its message tells what is wrong with a file
        if models.sha256(file) != identity.sha256:
            raise InputError(f"{wanted}, not with {file}; give that one as --model")
        return file
    beside = [folder / f"{identity.name}{SUFFIX}" for folder in (models.WEIGHTS, path.parent)]
    there = [file for file in beside if file.is_file()]
    for file in there:
        if models.sha256(file) == identity.sha256:
            return file
    found = f"another one than {there[0]}" if there else "which is not here"
    raise InputError(f"{wanted}, {found}; give its file as --model")
