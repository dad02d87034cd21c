"""From what all stages found to the registration and every figure of its result."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import torch

from SpikeRegLib.anatomy.pose import FoundHead
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.networks.passes import Prediction
from SpikeRegLib.pipeline.anatomy import anatomy_facts, warnings_of
from SpikeRegLib.pipeline.field import field_facts
from SpikeRegLib.pipeline.inputs import Side
from SpikeRegLib.pipeline.landmarks import unmet
from SpikeRegLib.pipeline.refine import schedule_of
from SpikeRegLib.pipeline.registration import SCHEMA, Registration
from SpikeRegLib.pipeline.stage import Chosen, Stage, Work
from SpikeRegLib.pipeline.trust import predicted_facts
from SpikeRegLib.quality import metrics
from SpikeRegLib.quality.verdict import judge
from SpikeRegLib.space.transforms import AffineTransform, Transform
from SpikeRegLib.spiking.activity import LayerActivity
from SpikeRegLib.system.versions import versions

_READS = (
    "method", "transform_type", "device", "threads", "seed", "structures_for", "spike_maps",
    "landmark_weight", "regularisation", "refine_iterations", "preset.name", "preset.anatomy", "preset.refine",
    "preset.regularisation", "preset.working_voxels", "preset.similarity", "preset.across_contrasts",
)  # fmt: skip
_FOLLOWS = (
    "fixed points", "moving points", "fixed segmentation", "background", "region image", "alignment", "working pair",
    "prediction", "refinement", "landmarks", "mapping", "overlap", "structures network", "fixed anatomy",
    "fixed mask", "moving mask", "verdict bounds", "predicted error",
    "moving anatomy", "structure maps", "agreement", "structure rates",
)  # fmt: skip


def asked_of_refinement(landmark_weight: float, regularisation: float, region: Volume | None) -> dict[str, Any]:
    """What result.json says about what was asked of the refinement beyond the preset."""
    return {
        "landmark_weight": landmark_weight,
        "regularisation": regularisation,
        "region": None if region is None else region.name or "given",
    }


def _settings(chosen: Chosen, work: Work) -> dict[str, Any]:
    named = {
        name: getattr(chosen, name)
        for name in ("method", "transform_type", "device", "threads", "seed", "structures_for")
    }
    return {
        **named,
        "preset": chosen.preset.name,
        "anatomy": chosen.preset.anatomy,
        "refinement": asked_of_refinement(chosen.landmark_weight, chosen.regularisation, work["region image"]),
        "unrefined": schedule_of(chosen, work) is None,
        "spike_maps": chosen.spike_maps,
    }


def _registration(work: Work, settings: dict[str, Any], networks: tuple[str, ...], fitted: bool) -> Registration:
    """Measure what is left to measure, judge, and put together what `register` returns."""
    sides: tuple[Side, Side] = work["fixed points"], work["moving points"]
    fixed, moving = sides
    base, pair = work["alignment"].transform, work["working pair"]
    mapping, overlap, prediction = work["mapping"], work["overlap"], work["prediction"].prediction
    refined = work["landmarks"] or work["refinement"]
    field = work["field"] if fitted else None
    whole = field is not None and refined.deformation.field is field.deformation.field
    warnings = _warnings(work, settings, field)
    if field is not None and not whole:
        warnings.append("codes.safetensors is left out: refinement after the field changed the deformation")
    elif field is not None and not isinstance(base, AffineTransform):
        whole = False
        warnings.append("codes.safetensors is left out: the initial transform bends, and codes cannot hold that")
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "method": settings["method"],
        "transform_type": settings["transform_type"],
        "preset": settings["preset"],
        "model": _model(*(work[name] for name in networks)),
        "inputs": {"fixed": fixed.image.name, "moving": moving.image.name},
        "device": settings["device"] if prediction is None else prediction.device,
        "arithmetic": None if prediction is None else prediction.arithmetic,
        "tile": None if prediction is None else prediction.tile,
        "threads": settings["threads"],
        "seed": settings["seed"],
        "versions": versions(),
        "peak_memory_mb": None,
        "background": work["background"],
        "similarity": {
            "measure": pair.working.comparison.measure, **refined.similarity, "above_chance": pair.above_chance,
        },
        "refinement": {"iterations": list(refined.deformation.iterations), **settings["refinement"]},
        "deformation": dict(mapping.summary),
        "predicted_error": predicted_facts(work),
        "dice": None if overlap is None else overlap.dice,
        "hd95_mm": None if overlap is None else overlap.hd95_mm,
        "tre_mm": _landmarks(fixed.points, moving.points, base, mapping.transform),
        "anatomy": anatomy_facts(work, settings["structures_for"]),
        "spikes": _spikes(prediction) or _spikes_of_reading(work),
        "energy": None if prediction is None or not prediction.layers else prediction.energy.as_result(),
    }  # fmt: skip
    if settings["refinement"]["landmark_weight"] and result["tre_mm"] is not None:
        warnings += unmet(result["tre_mm"]["per_point"])
    result["verdict"] = judge(result, anatomy=settings["anatomy"], bounds=work["verdict bounds"])
    result["warnings"] = warnings
    if field is not None:
        result["field"] = field_facts(field, whole=whole)
        if result["energy"] is not None:  # beside the encoder's figures, which the reductions are made of
            result["energy"]["decoder_macs"] = result["field"]["decoder_macs"]
    return Registration(
        fixed=fixed.image,
        moving=moving.image,
        warped=mapping.warped,
        transform=mapping.transform,
        inverse=mapping.inverse,
        displacement=mapping.displacement,
        jacobian=Volume(mapping.jacobian, fixed.image.frame, "jacobian"),
        predicted_error=work["predicted error"].on(fixed.image.frame, work["fixed mask"].mask),
        warped_labels=None if overlap is None else overlap.warped,
        fixed_labels=work["fixed segmentation"],
        coded=field.coded if field is not None and whole else None,
        spike_maps=_spike_maps(prediction, work),
        result=result,
    )


def _warnings(work: Work, settings: dict[str, Any], field: Any) -> list[str]:
    """What a person should know, in the order in which it was found."""
    found: list[str] = []
    for side in ("fixed", "moving"):
        image, labels = work[f"{side} points"].image, work[f"{side} segmentation"]
        found += [*image.warnings, *(labels.warnings if labels else ())]
        if image.nonfinite:
            found.append(f"{image.name or 'image'}: {image.nonfinite} NaN or infinite voxels were taken as background")
        found += warnings_of(side, work[f"{side} anatomy"], image.name)
    found += [*work["alignment"].warnings, *work["prediction"].warnings]
    if field is not None:
        found += field.warnings
    found += (work["landmarks"] or work["refinement"]).warnings
    if settings["spike_maps"] and not _spike_maps(work["prediction"].prediction, work):
        found.append("--spike-maps: no spiking network runs here; there are no maps")
    asked = settings["refinement"]
    guided = asked["region"] is not None or asked["regularisation"] != 1
    optimised = field is not None and field.optimisation is not None
    if settings["unrefined"] and guided and not asked["landmark_weight"] and not optimised:
        found.append(f"preset {settings['preset']}: without refinement, region and regularisation change nothing")
    return found


def _model(network: Any = None, fine: Any = None) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": None, "sha256": None} if network is None else dict(network.facts)
    return facts if fine is None else {**facts, "fine": fine.facts}


def _landmarks(
    fixed: torch.Tensor | None, moving: torch.Tensor | None, base: Transform, transform: Transform
) -> dict[str, Any] | None:
    if fixed is None or moving is None:
        return None
    before = (fixed.double() - moving.double()).norm(dim=1)
    aligned, after = (metrics.target_registration_error_mm(fixed, moving, map_) for map_ in (base, transform))
    return {
        "before_mean": float(before.mean()),
        "aligned_mean": float(aligned.mean()),
        "after_mean": float(after.mean()),
        "after_max": float(after.max()),
        "after_max_at_mm": fixed[after.argmax()].tolist(),
        "per_point": after.tolist(),
        "per_point_before": before.tolist(),
        "per_point_aligned": aligned.tolist(),
    }


def _spikes(prediction: Prediction | None) -> dict[str, Any] | None:
    """Of the network that predicts the deformation."""
    if prediction is None or not prediction.layers:
        return None
    return {
        "network": "registration",
        "timesteps": prediction.timesteps,
        "passes": prediction.passes_run,
        "passes_kept": prediction.passes,
        "views": prediction.views,
        **_activity(prediction.layers),
    }


def _spikes_of_reading(work: Work) -> dict[str, Any] | None:
    """Of the network that names structures, where it is the only one: what it did in the fixed image."""
    found: FoundHead | None = work["fixed anatomy"]
    if found is None or not found.maps.layers:
        return None
    layers = found.maps.layers
    return {
        "network": "structures",
        "timesteps": layers[0].timesteps,
        "passes": 1,
        "passes_kept": 1,
        "views": found.maps.looks,
        **_activity(layers),
    }


def _spike_maps(prediction: Prediction | None, work: Work) -> dict[str, Volume]:
    """Rates of the network that predicts the deformation; without one, of the one that names structures."""
    if prediction is not None and prediction.layers:
        return prediction.maps
    rates: dict[str, Volume] | None = work["structure rates"]
    return rates or {}


def _activity(layers: list[LayerActivity]) -> dict[str, Any]:
    updates = sum(layer.neuron_updates for layer in layers)
    receiving = [layer for layer in layers if layer.analog_macs == 0]
    return {
        "mean_rate": sum(layer.count for layer in layers) / updates,
        "mac_weighted_rate": sum(layer.synaptic_ops for layer in receiving)
        / sum(layer.dense_macs * layer.timesteps for layer in receiving),
        "layers": [asdict(layer) for layer in layers],
    }


def peak_memory_mb() -> float | None:
    """Highest resident memory of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def registration(*networks: str, fitted: bool = False) -> Stage:
    """The last stage of a method that loads these networks, and fits a neural field or not."""
    return Stage(
        "registration", "finish", lambda work, settings: _registration(work, settings, networks, fitted),
        reads=_READS, follows=(*_FOLLOWS, "moving segmentation", *networks, *(("field",) if fitted else ())),
        settings=_settings, kept=False,
    )  # fmt: skip
