"""The neural deformation field: predicted by an encoder, fitted to this pair, and kept as codes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.neural_field.coded import CodedDeformation, ModelIdentity, enlarged, rounded, wide_grid
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.encode import predict_codes
from SpikeRegLib.neural_field.field import Decoders, NeuralField
from SpikeRegLib.neural_field.files import to_bytes
from SpikeRegLib.neural_field.optimise import OptimisationOptions, new_codes, optimise
from SpikeRegLib.neural_field.sampled import near_content
from SpikeRegLib.neural_field.settings import FieldSettings
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.pipeline.align import TwoScalePair
from SpikeRegLib.pipeline.inputs import lengths_scale
from SpikeRegLib.pipeline.predict import Start, no_deformation
from SpikeRegLib.pipeline.prepare import FieldModel
from SpikeRegLib.pipeline.refine import refinement
from SpikeRegLib.pipeline.stage import Chosen, Stage, Work
from SpikeRegLib.presets.preset import FIELD_METHODS, Preset, load_preset, preset_for
from SpikeRegLib.progress import Progress, part_of_stage
from SpikeRegLib.similarity.pair import Deformation
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import AffineTransform, Transform

# Width of the margin around the anatomy over which the displacement falls to zero: all of the working frame's margin.
TAPER_MM = 12.0


@dataclass(frozen=True)
class StartWithCodes(Start):
    """What the encoder found; `codes` is None without one, and where its codes did not improve the similarity."""

    codes: Codes | None = None


@dataclass(frozen=True)
class FittedField:
    """The field as it goes on to the refinement of voxels.

    Attributes:
        deformation: sampled from `coded`.
        similarity: that it reaches.
        coded: the same as codes.
        optimisation: for result.json; None where there was none.
        warnings: what a person should know.
    """

    deformation: Deformation
    similarity: float
    coded: CodedDeformation
    optimisation: dict[str, Any] | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How a field is sampled, in mm, or in voxels of the working grid where that follows the image.

    Attributes:
        grid_mm: distance of the nodes.
        working_voxels: of the preset.
    """

    grid_mm: float
    working_voxels: int


@dataclass(frozen=True)
class Fit:
    """How the field is fitted to the pair.

    Attributes:
        field: what preset and options say.
        seed: of its random choices.
        regularisation: factor on the smoothing lengths.
        working_voxels: of the preset.
    """

    field: FieldSettings
    seed: int
    regularisation: float
    working_voxels: int

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.field.grid_mm, self.working_voxels)


def field_settings(
    method: str, preset: Preset, *, iterations: int | None, seconds: float | None, decoder: bool
) -> FieldSettings | None:
    """What a run does with its field; None for methods that have none.

    Args:
        method: of the run; a preset of another method lends its field's settings, if it has any.
        preset: of the run.
        iterations, seconds, decoder: of this run instead of the preset's; `decoder` only adds.

    Raises:
        InputError: options of a field without one, or out of range.
    """
    if method not in FIELD_METHODS:
        for option, given in (("iterations", iterations), ("seconds", seconds), ("decoder", decoder or None)):
            if given is not None:
                known = " or ".join(FIELD_METHODS)
                raise InputError(f"--field-{option}: method {method} has no neural field; choose --method {known}")
        return None
    settings = preset.field or load_preset(preset_for(method)).field or FieldSettings()
    changes: dict[str, Any] = {"iterations": iterations, "seconds": seconds, "decoder": decoder or None}
    try:
        return replace(settings, **{name: value for name, value in changes.items() if value is not None})
    except ValueError as error:
        raise InputError(f"--field-{error}") from error


def _predicted(work: Work, settings: tuple[Sampling, str, bool]) -> StartWithCodes:
    """The encoder's codes and the displacement they stand for, kept if they improve the similarity."""
    sampling, device, spike_maps = settings
    pair: TwoScalePair = work["working pair"]
    model: FieldModel | None = work["network"]
    nothing = no_deformation(pair)
    if model is None:
        return StartWithCodes(None, nothing.deformation, nothing.similarity)
    seen = pair.working.coarser(model.network.encoder.spec.input_spacing_mm)
    prediction, codes = predict_codes(
        model.network, *seen.filled(seen.fixed, seen.moving), seen.frame, device=device, spike_maps=spike_maps,
        listener=part_of_stage(work.listener, 0.0, 0.5),
    )  # fmt: skip
    coded = _coded(pair, sampling, model.network.decoders, (codes,), None)
    field = coded.displacement(tick=lambda done: work.listener(Progress("predict", 0.5 + 0.5 * done, "decoding")))
    found = Deformation(field, coded.grid)
    after = found.similarity(pair.judged)
    if after > nothing.similarity:
        return StartWithCodes(prediction, found, after, codes)
    warning = "the encoder's codes did not improve the similarity; they were dropped"
    dropped = replace(prediction, passes=0, warnings=[*prediction.warnings, warning])
    return StartWithCodes(dropped, nothing.deformation, nothing.similarity)


def _fit_settings(chosen: Chosen, work: Work) -> Fit:
    regularisation = chosen.preset.regularisation * chosen.regularisation
    return Fit(chosen.field, chosen.seed, regularisation, chosen.preset.working_voxels)


def _fitted(work: Work, fit: Fit) -> FittedField:
    """The codes fitted to this pair, unless that is left out, and rounded as their file keeps them."""
    pair, predicted, base = work["working pair"], work["prediction"], work["alignment"].transform
    model: FieldModel | None = work["network"]
    decoders = model.network.decoders if model is not None else None
    start = None if predicted.codes is None or decoders is None else NeuralField(decoders, (predicted.codes,))
    optimisation, warnings = None, []
    field = start
    if fit.field.iterations:
        if start is None and decoders is not None:
            spacing_mm = decoders.options.code_spacing_mm
            start = NeuralField(decoders, (new_codes(pair.working.grid, decoders.options, spacing_mm),))
        optimised, optimisation = _optimised(work, pair, fit, start, model)
        if optimisation["accepted"]:
            field = optimised
        else:
            warnings.append(f"the optimisation of the field was dropped: {optimisation['reason']}")
    stages = () if field is None else tuple(rounded(codes) for codes in field.stages)
    used = field.decoders if field is not None else decoders or Decoders(FieldSizes())
    identity = None
    if model is not None and used is model.network.decoders:
        identity = ModelIdentity(model.facts["name"], model.facts["sha256"])
    coded = _coded(pair, fit.sampling, used, stages, identity, base=base)
    if optimisation is None and predicted.deformation.grid == coded.grid:
        return FittedField(predicted.deformation, predicted.similarity, coded, None)
    sampled = coded.displacement(tick=lambda done: work.listener(Progress("refine", 0.9 + 0.1 * done, "decoding")))
    deformation = Deformation(sampled, coded.grid)
    return FittedField(deformation, deformation.similarity(pair.judged), coded, optimisation, tuple(warnings))


def _inside_region(work: Work) -> Start:
    """Where refinement of voxels goes on: the fitted field, outside of the region what was predicted."""
    predicted, fitted, region = work["prediction"], work["field"], work["region"]
    if region is None or fitted.optimisation is None:
        return Start(predicted.prediction, fitted.deformation, fitted.similarity)
    grid = fitted.deformation.grid
    before = torch.zeros(3, *grid.shape)
    if predicted.deformation.grid == grid:
        before = predicted.deformation.field
    blended = Deformation(before + region.weight_on(grid) * (fitted.deformation.field - before), grid)
    return Start(predicted.prediction, blended, blended.similarity(work["working pair"].judged))


def field_facts(fitted: FittedField, *, whole: bool) -> dict[str, Any]:
    """What result.json says under `field`.

    Args:
        whole: the field is all of the deformation, so that its code file is the transform.
    """
    coded = fitted.coded
    macs = sum(parameter.numel() for parameter in coded.decoders.forward_map.parameters() if parameter.ndim == 2)
    macs += coded.decoders.forward_map.features.frequencies.numel()
    size = [tuple(codes.local.shape) for codes in coded.stages]
    return {
        "stages": [
            {"spacing_mm": c.grid.spacing_mm, "channels": s[0], "shape": list(s[1:]), "overall": len(c.overall)}
            for c, s in zip(coded.stages, size, strict=True)
        ],
        "grid_mm": coded.grid.spacing_mm,
        "decoders": "in the code file" if coded.model is None else asdict(coded.model),
        "decoder_macs": macs * len(size) * int(np.prod(coded.grid.shape)),
        "optimisation": fitted.optimisation,
        "bytes": len(to_bytes(coded)) if whole else None,
    }


def _coded(
    pair: TwoScalePair, sampling: Sampling, decoders: Decoders, stages: tuple[Codes, ...], model: ModelIdentity | None,
    *, base: Transform | None = None,
) -> CodedDeformation:  # fmt: skip
    scale = lengths_scale(sampling.working_voxels, pair.working.frame)
    spacing_mm = max(sampling.grid_mm * scale, pair.working.frame.spacing[0])
    grid = pair.working.grid.coarser(spacing_mm)
    wide = wide_grid(grid)
    near = near_content(pair.working.fixed[None], pair.working.grid, wide, wide.spacing_mm)
    return CodedDeformation(
        decoders=decoders,
        stages=stages,
        frame=pair.working.frame_of(grid),
        taper_mm=TAPER_MM * scale,
        base=base if isinstance(base, AffineTransform) else AffineTransform.identity(),
        itk_jacobian=pair.itk_jacobian,
        model=model,
        near=near,
    )


def _optimised(
    work: Work, pair: TwoScalePair, fit: Fit, start: NeuralField | None, model: FieldModel | None
) -> tuple[NeuralField, dict[str, Any]]:
    """The field fitted to the pair, or as it was where that is no worse, and what result.json says about it."""
    settings, working = fit.field, pair.working
    # Without a model lengths may count voxels: then one of them is a millimetre to the optimisation.
    scale = lengths_scale(fit.working_voxels, working.frame) if model is None else 1.0
    options = OptimisationOptions(
        stages_mm=settings.stages_mm, iterations=settings.iterations, seconds=settings.seconds,
        decoder=settings.decoder, regularisation=fit.regularisation,
    )  # fmt: skip
    found = optimise(
        working.comparison.of_fixed(working.fixed), working.comparison.of_moving(working.moving),
        working.mask.float(), Grid(working.frame.shape, working.frame.spacing[0] / scale), start,
        options=options, seed=fit.seed, known=working.known, listener=part_of_stage(work.listener, 0.0, 0.9),
    )  # fmt: skip
    facts = {name: getattr(found, name) for name in ("iterations", "seconds", "accepted", "reason")}
    facts |= {"similarity_before": found.similarity_before, "similarity_after": found.similarity_after}
    return (found.field if scale == 1.0 else enlarged(found.field, scale)), facts


ENCODED = Stage(
    "prediction", "predict", _predicted, reads=("field", "device", "spike_maps", "preset.working_voxels"),
    follows=("network", "working pair"),
    settings=lambda chosen, work: (
        Sampling(chosen.field.grid_mm, chosen.preset.working_voxels), chosen.device, chosen.spike_maps,
    ),
)  # fmt: skip
FIELD = Stage(
    "field", "refine", _fitted,
    reads=("field", "seed", "regularisation", "preset.regularisation", "preset.working_voxels"),
    follows=("network", "alignment", "working pair", "prediction"), settings=_fit_settings,
)  # fmt: skip
FIELD_REFINEMENT = refinement(_inside_region, "prediction", "field")
