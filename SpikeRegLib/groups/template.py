"""The unbiased template of a group: every subject registered to it, its shape and brightness the mean of all.

The scheme of Guimond, Meunier and Thirion (2000), Joshi et al. (2004) and Avants et al. (2010). Affine maps are found
from one common space to every subject and moved so that the logarithms of their stretches add to zero. Then, round
after round, every subject is registered to the template, the deformations are averaged, and the template is made anew
in the shape that the inverse of that mean gives it: from the original images, interpolated once. Every point of it then
lies where the points that it is mapped to lie on average, and no subject is favoured. Of deformations themselves are
averaged, not logarithms: between people, the velocities whose flows they would be hardly exist on a grid (corrected by
the mean of logarithms, mean displacements of nearly a millimetre were left; by the mean itself, none are).

Of all subjects together only sums are in memory; what is finished lies in a working folder (`groups.working`), so that
a run that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SpikeRegLib import models
from SpikeRegLib.anatomy.model import StructureModel, load_structure_model
from SpikeRegLib.anatomy.tissue import contrast_agreement
from SpikeRegLib.errors import InputError
from SpikeRegLib.groups.alignment import aligned_heads, aligned_images
from SpikeRegLib.groups.average import RunningMean, sharpened
from SpikeRegLib.groups.rounds import (
    Field,
    Template,
    registered,
    seen,
    seen_maps,
    shape_update,
    updated,
)
from SpikeRegLib.groups.space import Round, TemplateSpace, rounds_of, space_around
from SpikeRegLib.groups.subject import Subject, read_subject, subject_of
from SpikeRegLib.groups.working import Piece, Working, key_of
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline.assemble import peak_memory_mb
from SpikeRegLib.presets.preset import Preset
from SpikeRegLib.progress import Listener, Progress, Tick, part_of_stage, silent
from SpikeRegLib.quality.metrics import deformation_summary
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.space.fine_inversion import fine_inverse
from SpikeRegLib.space.grids import Grid, resample
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, Transform, compose
from SpikeRegLib.system.devices import leaving_state, seed_cpu, set_threads
from SpikeRegLib.system.versions import versions

SCHEMA = 1
# Changes whenever pieces made by an earlier version are no longer what this one makes.
_VERSION = 1
# Correlation of structures' intensities below which an image is of another contrast than the rest.
_ONE_CONTRAST = 0.76


@dataclass(frozen=True)
class FinishedSubject:
    """One subject of a finished group.

    Attributes:
        name: its id.
        to_subject: template -> subject points: resamples the subject onto the template.
        to_template: subject -> template points, its inverse.
    """

    name: str
    to_subject: Transform
    to_template: Transform


@dataclass
class Group:
    """A group whose rounds are done; its subjects are finished one after the other by `subjects`.

    Attributes:
        space: of the template.
        result: the content of group.json; complete once `subjects` has been gone through.
    """

    space: TemplateSpace
    result: dict[str, Any]
    _run: _Run
    _mean: RunningMean = field(default_factory=RunningMean)

    def subjects(self) -> Iterator[FinishedSubject]:
        """Every subject's transforms, without folds; the template's image is added up on the way."""
        run, listener = self._run, self._run.listener
        shift, roughness, grid = RunningMean(), {}, self.space.grid
        for number, name in enumerate(run.names):
            listener(Progress("finish", number / len(run.names), f"transforms of {name}"))
            found = run.field_of(name)
            assert found is not None  # there is a round at least
            subject, matrix = run.subject(name), run.matrices[name]
            self._mean.add(seen(subject, matrix, found, self.space, self.space.frame.spacing[0]))
            shift.add(found.mm)
            grid = found.grid
            frame = self.space.frame_of(found.grid)
            summary = deformation_summary(found.mm, frame)
            roughness[name] = {key: summary[key] for key in ("sdlogj", "folding_percent", "mean_mm", "max_mm")}
            deformation = DisplacementTransform(found.mm, frame)
            part = part_of_stage(listener, number / len(run.names), (number + 1) / len(run.names))
            inverse = fine_inverse(deformation, tick=_tick(part, name))
            affine = AffineTransform(matrix)
            yield FinishedSubject(name, compose(deformation, affine), compose(affine.inverse(), inverse))
        self._complete(Field(shift.mean, grid), roughness)

    def _complete(self, shift: Field, roughness: dict[str, dict[str, float]]) -> None:
        length = shift.mm.square().sum(0).sqrt()
        inside = _inside(self.template().data, self.space.grid, shift.grid)
        folds = [row["folding_percent"] for row in roughness.values()]
        self.result["bias_mm"] = {"mean": float(length[inside].mean()), "most": float(length[inside].max())}
        self.result["roughness"] = {
            "sdlogj": float(np.mean([row["sdlogj"] for row in roughness.values()])),
            "folding_percent": max(folds),
        }
        for row in self.result["subjects"]:
            row |= roughness[row["id"]]
        run = self._run
        self.result["cpu_s"] = {"process": time.process_time(), "with_earlier_runs": run.cpu_s() + time.process_time()}
        self.result["peak_memory_mb"] = peak_memory_mb()
        warnings = self.result.pop("warnings")
        self.result["warnings"] = warnings

    def template(self) -> Volume:
        """The template's image in [0, 1]; there once `subjects` has been gone through."""
        return Volume(sharpened(self._mean.mean), self.space.frame, "template")


@leaving_state
def build_group(
    members: Mapping[str, Path],
    digests: Mapping[str, str],
    preset: Preset,
    working: Working,
    *,
    iterations: int = 4,
    threads: int | None = None,
    seed: int = 0,
    listener: Listener = silent,
) -> Group:
    """Build the template of a group of images of one contrast.

    Args:
        members: id -> image, two or more.
        digests: id -> SHA-256 of the image.
        preset: its levels, voxel size and structures are used; of a network's preset, the levels.
        working: where finished pieces are kept and found again.
        iterations: rounds.
        threads: CPU threads; all this process may run on if not given.
        seed: of random numbers.
        listener: hears the progress; raises Cancelled to stop, and what is finished stays in `working`.

    Raises:
        InputError: an image cannot be used or is of another contrast than the others, or the preset has no levels.
        Cancelled: the listener asked to stop.
    """
    count = set_threads(threads)
    seed_cpu(seed)
    if preset.similarity == "multicontrast":
        raise InputError(f"preset {preset.name}: compares two contrasts; a group is of one, choose brain")
    rounds_of(preset, iterations, 1.0)  # refuses a preset without levels before any work
    run = _Run(members, digests, preset, working, seed, listener)
    run.prepare()
    run.align()
    for number, step in enumerate(run.rounds_of(iterations)):
        run.round(number, step)
    facts = {
        "schema": SCHEMA,
        "preset": preset.name,
        "iterations": iterations,
        "seed": seed,
        "threads": count,
        "model": None if run.model is None else {"name": run.model.name, "sha256": run.model.sha256},
        "space": {name: value for name, value in asdict(run.space.frame).items()},
        "subjects": [
            {"id": name, "file": members[name].name, "sha256": digests[name], "affine": run.matrices[name].tolist()}
            for name in run.names
        ],
        "rounds": run.figures,
        "versions": versions(),
        "warnings": list(run.warnings),
    }
    return Group(run.space, facts, run)


class _Run:
    """Where a group stands: what every subject and round is made from, and the pieces that are there."""

    def __init__(
        self, members: Mapping[str, Path], digests: Mapping[str, str], preset: Preset, working: Working, seed: int,
        listener: Listener,
    ) -> None:  # fmt: skip
        self.members, self.preset, self.working, self.listener = members, preset, working, listener
        # Sums are added up in this order, whatever the order in which the images were given.
        self.names = sorted(members, key=lambda name: digests[name])
        self.digests = digests
        self.model: StructureModel | None = None
        self.warnings: list[str] = []
        self.figures: list[dict[str, Any]] = []
        self.matrices: dict[str, np.ndarray] = {}
        self.heads = bool(preset.structures)
        self._model_key = models.sha256(models.find(preset.structures, "spikereg")) if preset.structures else ""
        self._seed = seed
        self._keys: dict[str, str] = {}  # of the field of every subject after the last round
        self._update: Field | None = None  # that comes before them
        self._state = ""
        self._cpu: dict[str, float] = {}
        self._made: set[str] = set()
        self._before: Template | None = None

    # Pieces ----------------------------------------------------------------------------------------------------------

    def _recall(self, key: str, make: Any) -> Piece:
        """A piece; what it once took is counted where it was not made now."""

        def timed() -> Piece:
            begin = time.process_time()
            piece: Piece = make()
            self._made.add(key)
            facts = piece.setdefault("facts", {})
            facts["cpu_s"] = time.process_time() - begin
            return piece

        piece = self.working.recall(key, timed)
        self._cpu.setdefault(key, float(piece["facts"].get("cpu_s", 0.0)))
        return piece

    def cpu_s(self) -> float:
        """CPU seconds of pieces that earlier runs made."""
        return sum(seconds for key, seconds in self._cpu.items() if key not in self._made)

    def _subject_key(self, name: str) -> str:
        return key_of("subject", _VERSION, self.digests[name], self._model_key)

    def subject(self, name: str) -> Subject:
        def make() -> Piece:
            if self._model_key and self.model is None:
                self.model = load_structure_model(self.preset.structures)
            return read_subject(self.members[name], self.model, self.listener).piece()

        return subject_of(self._recall(self._subject_key(name), make))

    def field_of(self, name: str) -> Field | None:
        """The deformation of a subject after the last round, in the template's new shape; None before the first."""
        if self._update is None:
            return None
        piece = self._recall(self._keys[name], _must_be_there)
        return updated(_field(piece, "field"), self._update)

    # Steps -----------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Read every image that was not read yet."""
        means = {}
        for number, name in enumerate(self.names):
            self.listener(Progress("prepare", number / len(self.names), f"reading {self.members[name]}"))
            subject = self.subject(name)
            self.warnings += subject.warnings
            self.heads = self.heads and subject.head
            means[name] = subject.means
        if self._model_key and self.model is None:
            self.model = load_structure_model(self.preset.structures)
        if not self.heads:
            return
        for name, own in means.items():
            others = np.stack([values for other, values in means.items() if other != name])
            usual = np.full(len(own), np.nan)
            known = np.isfinite(others).any(0)
            usual[known] = np.nanmedian(others[:, known], axis=0)
            if (agreement := contrast_agreement(own, usual)) < _ONE_CONTRAST:
                raise InputError(
                    f"{self.members[name]}: is of another contrast than the others (agreement {agreement:.2f}, "
                    f"{_ONE_CONTRAST:g} needed); a template is of one contrast, leave it out"
                )

    def align(self) -> None:
        """Affine maps, the space, and the first template."""

        def make() -> Piece:
            self.listener(Progress("align", 0.0, "bringing all into one space"))
            subjects = [self.subject(name) for name in self.names] if not self.heads else []
            if self.heads and self.model is not None:
                places = [(str(self.members[name]), self.subject(name).places) for name in self.names]
                found = aligned_heads(places, self.model.layout)
            else:
                found = aligned_images([subject.scaled for subject in subjects], self.listener)
            return {"matrices": np.stack(found)}

        key = key_of("affine", _VERSION, [self._subject_key(name) for name in self.names], self.heads, self._seed)
        self.matrices = dict(zip(self.names, self._recall(key, make)["matrices"], strict=True))
        frames = [self.subject(name).scaled.frame for name in self.names]
        self.space = space_around(frames, list(self.matrices.values()), self.preset)
        self._state = key_of(key, asdict(self.space.frame))

    def rounds_of(self, count: int) -> list[Round]:
        return rounds_of(self.preset, count, self.space.frame.spacing[0])

    def round(self, number: int, step: Round) -> None:
        """Register every subject to the template that all fields so far give, and find what favours none."""
        began = time.process_time()
        key = key_of(self._state, step.spacing_mm, asdict(step.schedule))
        template = self._template(key, step.spacing_mm)
        fields, similarities, grid = RunningMean(), [], self.space.grid
        keys = {name: key_of(key, self._subject_key(name)) for name in self.names}
        for place, name in enumerate(self.names):
            listener = part_of_stage(self.listener, place / len(self.names), (place + 1) / len(self.names))
            heard = _named(listener, f"round {number + 1}, {name}")

            def make(name: str = name, heard: Listener = heard) -> Piece:
                start = self.field_of(name)
                subject, matrix = self.subject(name), self.matrices[name]
                found, facts = registered(template, subject, matrix, start, self.space, step, heard)
                return {"field": found.mm.numpy(), "facts": {**facts, "grid": _grid_facts(found.grid)}}

            heard(Progress("refine", 0.0))
            piece = self._recall(keys[name], make)
            found = _field(piece, "field")
            fields.add(found.mm)
            grid = found.grid
            similarities.append(piece["facts"]["similarity_after"])
        mean = Field(fields.mean, grid)
        self._update = shape_update(mean, self.space)
        self._keys, self._state = keys, key_of("after", key)
        length = mean.mm.square().sum(0).sqrt()
        inside = _inside(template.image, self.space.grid.coarser(template.spacing_mm), grid)
        self.figures.append({
            "spacing_mm": template.spacing_mm,
            "mean_displacement_mm": float(length[inside].mean()),
            "most_displacement_mm": float(length[inside].max()),
            "similarity": float(np.mean(similarities)),
            "change_of_template": self._change(template),
            "cpu_s": time.process_time() - began,
        })  # fmt: skip

    def _template(self, key: str, spacing_mm: float) -> Template:
        """The mean of all subjects through their fields so far."""

        def make() -> Piece:
            image, maps = RunningMean(), RunningMean()
            for place, name in enumerate(self.names):
                self.listener(Progress("align", place / len(self.names), f"mean of all, {name}"))
                subject, matrix, found = self.subject(name), self.matrices[name], self.field_of(name)
                image.add(seen(subject, matrix, found, self.space, spacing_mm))
                if self.heads:
                    maps.add(seen_maps(subject, matrix, found, self.space))
            piece = {"image": sharpened(image.mean).numpy()}
            return {**piece, "maps": maps.mean.numpy()} if self.heads else piece

        piece = self._recall(key_of("template", key), make)
        maps = torch.from_numpy(piece["maps"]) if "maps" in piece else None
        return Template(torch.from_numpy(piece["image"]), maps, spacing_mm)

    def _change(self, template: Template) -> float | None:
        """How far a template is from the one of the round before, as a share of its own size, on that one's voxels."""
        before, self._before = self._before, template
        if before is None:
            return None
        grids = [self.space.grid.coarser(one.spacing_mm) for one in (template, before)]
        now = resample(template.image, grids[0], grids[1], sigma_mm=0.35 * before.spacing_mm)
        return float((now - before.image).abs().mean() / before.image.abs().mean())


def _must_be_there() -> Piece:
    raise InputError("working folder: a piece of this run is gone; run again")


def _field(piece: Piece, name: str) -> Field:
    shape, spacing_mm = piece["facts"]["grid"]
    return Field(torch.from_numpy(piece[name]), Grid((shape[0], shape[1], shape[2]), spacing_mm))


def _grid_facts(grid: Grid) -> list[Any]:
    return [list(grid.shape), grid.spacing_mm]


def _inside(image: torch.Tensor, grid: Grid, target: Grid) -> torch.Tensor:
    """[d, h, w] bool on `target`: where a template [D, H, W] on `grid` is not empty."""
    return resample((image > FOREGROUND).float(), grid, target) > 0.5


def _tick(listener: Listener, name: str) -> Tick:
    return lambda done: listener(Progress("finish", done, f"inverse of {name}"))


def _named(listener: Listener, name: str) -> Listener:
    def heard(progress: Progress) -> None:
        listener(Progress("refine", progress.fraction, f"{name}: {progress.message}"))

    return heard
