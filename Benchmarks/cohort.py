"""40 of the 156 ordered pairs of development brains, every method from the same affine map: overlap, folds, cost.

    python Benchmarks/cohort.py [--methods ...] [--again METHOD ...] [--model FILE --teacher FILE] [--preset P]

Methods: affine; the dense teachers, the spiking networks and the sparse ones alone, with and without the fine pass; the
whole `register` with the preset (spikereg), with that of the sparse networks, without a network (optimize) and with the
preview preset; greedy (deformable stage). One thread, in one process; a map is scored with the 33 label groups as the
independent scorer does it, and its folds are counted in patient space and as the scorer reads them.

Rows are kept in `--cache` and in the result file with a key of weights, settings and code: a second run makes only the
rows whose key changed (other weights: those of the network; never greedy's), `--again` makes a method's rows anew in
any case. The affine maps are kept too; for new ones give another `--cache` and another `--out`. Every row names the
machine its seconds are from.

CPU seconds: of `register`, from reading to the measured result, the affine search included (searched once for the
pair); for a network alone those of the pair's spikereg run with the network's own time in place of its prediction and
refinement; for greedy of its deformable stage alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import evaluation as data
import numpy as np
import SimpleITK as sitk
import torch
from evaluation import PairNames

from SpikeRegLib import models, register
from SpikeRegLib.networks.fine_pass import predict_fine
from SpikeRegLib.networks.passes import Prediction, predict
from SpikeRegLib.presets.preset import PRESET_FOLDER, Preset, load_preset
from SpikeRegLib.progress import silent
from SpikeRegLib.similarity.pair import itk_reading
from SpikeRegLib.space.displacement import hold_border
from SpikeRegLib.space.folds import remove_folds
from SpikeRegLib.space.transforms import DisplacementTransform, compose
from SpikeRegLib.spiking.unet import RegistrationUNet
from SpikeRegLib.studies.paired_statistics import compare

GREEDY = "-m NCC 2x2x2 -n 100x50x10"
# Dice within which two methods count as equivalent.
MARGIN = 0.005
COMPARED = (
    ("spiking", "teacher"),
    ("spiking, coarse pass", "teacher, coarse pass"),
    ("sparse", "spiking"),
    ("spikereg, sparse", "spikereg"),
    ("spikereg", "greedy"),
    ("spikereg", "optimize"),
)


@dataclass(frozen=True)
class Method:
    """One row of every pair: `key` changes when its result may."""

    key: str
    run: Callable[[PairNames], dict[str, Any]]


def affine_row(pair: PairNames, cache: Path) -> dict[str, Any]:
    base, seconds = data.affine_of(pair, cache)
    frame = data.grouped_labels(pair[0]).frame
    return {**data.scored(base.displacement_on(frame), pair), "cpu_s": seconds, "matrix": base.matrix.tolist()}


class NetworkMap(NamedTuple):
    """What networks alone give for a pair.

    Attributes:
        prediction: what they did.
        total: the whole map on the fixed grid, [3, D, H, W] mm.
        cpu_s: of the networks.
        mended_percent: of the cells of the predicted field, which the fold guard had to change.
    """

    prediction: Prediction
    total: torch.Tensor
    cpu_s: float
    mended_percent: float


def network_map(
    pair: PairNames, cache: Path, *, networks: list[RegistrationUNet], passes: int, working_mm: float
) -> NetworkMap:
    """The passes of the networks and the fold guard of `register`, without refinement.

    Args:
        pair, cache: what to register, and where the affine map and the prepared images are kept.
        networks: the coarse one, and the fine one if it is to follow.
        passes: of the coarse one.
        working_mm: of the preset.
    """
    base, _ = data.affine_of(pair, cache)
    views = [
        data.seen_by_network(
            pair, cache, working_mm=working_mm, network_mm=max(working_mm, network.spec.input_spacing_mm)
        )
        for network in networks
    ]
    seen = views[0]
    before = time.process_time()
    prediction = predict(
        networks[0], seen, passes=passes, device="cpu", spike_maps=False, listener=silent
    )  # fmt: skip
    grid = seen.grid
    for network, view in zip(networks[1:], views[1:], strict=True):
        prediction, grid = predict_fine(
            network, view, coarse=prediction, coarse_grid=grid, device="cpu", spike_maps=False, listener=silent
        )  # fmt: skip
    seconds = time.process_time() - before
    frame = data.grouped_labels(pair[0]).frame
    field = hold_border(prediction.displacement / grid.spacing_mm)
    settled, mended = remove_folds(field, linear=itk_reading(frame, base))
    total = compose(DisplacementTransform(settled * grid.spacing_mm, seen.frame_of(grid)), base)
    return NetworkMap(prediction, total.displacement_on(frame), seconds, 100 * mended / field[0].numel())


def network_alone(pair: PairNames, cache: Path, **settings: Any) -> dict[str, Any]:
    found = network_map(pair, cache, **settings)
    prediction = found.prediction
    return {
        **data.scored(found.total, pair), "passes": prediction.passes, "predict_cpu_s": found.cpu_s,
        **activity(prediction.layers), "energy": prediction.energy.as_result(),
    }  # fmt: skip


def load_networks(preset: Preset, method: str, given: str | None) -> tuple[list[Path], list[RegistrationUNet]]:
    """Files and networks of a preset: the coarse one (or the one given instead) and the fine one."""
    names = [given] if given else [name for name in (preset.model, preset.fine_model) if name]
    files = [models.find(name, method) for name in names]
    return files, [models.load_for(file, method, None) for file in files]


def activity(layers: list) -> dict[str, float]:
    """Mean rate of all neurons, and synaptic operations per dense multiply-accumulate and step; nothing if dense."""
    if not layers:
        return {}
    receiving = [layer for layer in layers if layer.analog_macs == 0]
    return {
        "mean_rate": sum(layer.count for layer in layers) / sum(layer.neuron_updates for layer in layers),
        "mac_weighted_rate": sum(layer.synaptic_ops for layer in receiving)
        / sum(layer.dense_macs * layer.timesteps for layer in receiving),
    }


def whole_run(pair: PairNames, cache: Path, **settings: Any) -> dict[str, Any]:
    """`register` from the files, the affine search replaced by its stored result and its stored time."""
    base, align_seconds = data.affine_of(pair, cache)
    fixed, moving = (data.subject_image(name) for name in pair)
    registration = register(fixed, moving, initial_transform=base, threads=1, device="cpu", **settings)
    result = registration.result
    stages = {name: seconds for name, seconds in result["cpu_s"].items() if name != "process"}
    stages["align"] += align_seconds
    spikes = result["spikes"] or {}
    return {
        **data.scored(registration.displacement, pair),
        "cpu_s": sum(stages.values()),
        "stages_cpu_s": stages,
        "inverse_consistency_mm": result["deformation"]["inverse_consistency_mm"],
        "lncc": {name: value for name, value in result["similarity"].items() if name.startswith("lncc")},
        "mean_rate": spikes.get("mean_rate"),
        "mac_weighted_rate": spikes.get("mac_weighted_rate"),
        "energy": result["energy"],
        "warnings": result["warnings"],
    }


def greedy_row(pair: PairNames, cache: Path) -> dict[str, Any]:
    base, _ = data.affine_of(pair, cache)
    with tempfile.TemporaryDirectory() as folder:
        affine, field = Path(folder) / "affine.tfm", Path(folder) / "field.nii.gz"
        itk = sitk.AffineTransform(3)
        itk.SetMatrix(base.matrix[:3, :3].ravel().tolist())
        itk.SetTranslation(base.matrix[:3, 3].tolist())
        sitk.WriteTransform(itk, str(affine))
        script = Path(__file__).with_name("greedy_run.py")
        command = [sys.executable, script, *map(data.subject_image, pair), affine, field]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        seconds = json.loads(Path(f"{field}.json").read_text())["cpu_s"]
        vectors = sitk.GetArrayFromImage(sitk.ReadImage(str(field), sitk.sitkVectorFloat32))
    total = torch.from_numpy(np.ascontiguousarray(np.moveaxis(vectors, -1, 0)))
    return {**data.scored(total, pair), "cpu_s": seconds}


def all_methods(options: argparse.Namespace) -> dict[str, Method]:
    cache, preset = options.cache, load_preset(options.preset)
    code = data.library_stamp(network=True)
    methods = {"affine": Method("searched", partial(affine_row, cache=cache))}
    for name, method, given, of in (
        ("teacher", "ann", options.teacher, preset),
        ("spiking", "spikereg", options.model, preset),
        ("sparse", "spikereg", None, load_preset(options.sparse_preset)),
    ):
        files, networks = load_networks(of, method, given)
        for suffix, used in (("", len(networks)), (", coarse pass", 1)):
            if suffix and len(networks) == 1:
                continue
            passes = 1 if suffix else max(1, of.passes)
            run = partial(
                network_alone,
                cache=cache,
                networks=networks[:used],
                passes=passes,
                working_mm=of.working_spacing_mm,
            )
            methods[name + suffix] = Method(data.digest(*files[:used], passes, code), run)
    for name, chosen, given in (
        ("spikereg", options.preset, options.model),
        ("spikereg, sparse", options.sparse_preset, None),
        ("optimize", options.optimize_preset, None),
        ("fast-preview", options.preview_preset, options.preview_model),
    ):
        settings = {"preset": chosen, **({"model": given} if given else {})}
        files = _model_files(load_preset(chosen), given)
        key = data.digest(_preset_file(chosen), *files, data.library_stamp(network=bool(files)))
        methods[name] = Method(key, partial(whole_run, cache=cache, **settings))
    methods["greedy"] = Method(data.digest(GREEDY), partial(greedy_row, cache=cache))
    return methods


def _preset_file(preset: str) -> Path:
    return Path(preset) if preset.endswith(".toml") else PRESET_FOLDER / f"{preset}.toml"


def _model_files(preset: Preset, given: str | None) -> list[Path]:
    return [] if preset.method == "optimize" else load_networks(preset, preset.method, given)[0]


def make_rows(name: str, method: Method, pairs: list[PairNames], options: argparse.Namespace, kept: dict) -> list[dict]:
    """The rows of a method: from the cache, the result file, or made now."""
    rows = []
    for pair in pairs:
        label = "_".join(pair)
        path = options.cache / "rows" / f"{name.replace(', ', '_').replace(' ', '_')}-{method.key}" / f"{label}.json"
        if name in options.again or not path.exists():
            if name not in options.again and label in kept:
                row = kept[label]
            elif name in options.methods:
                row = {"pair": label, "machine": data.machine(), **method.run(pair)}
                print(f"{name:20} {label} Dice {row['dice']:.4f} folds {row['true_folding_percent']:.4f} %", flush=True)
            else:
                continue
            data.write_json(path, row)
        rows.append(json.loads(path.read_text()))
    return rows


def with_shared_stages(results: dict[str, dict]) -> None:
    """CPU seconds of a network alone: its own and the stages that it shares with the pair's spikereg run."""
    shared = {}
    for row in results.get("spikereg", {"rows": []})["rows"]:
        stages = row["stages_cpu_s"]
        shared[row["pair"]] = sum(stages[stage] for stage in ("prepare", "align", "finish"))
    for entry in results.values():
        for row in entry["rows"]:
            if "predict_cpu_s" in row:
                row["cpu_s"] = shared[row["pair"]] + row["predict_cpu_s"] if row["pair"] in shared else None


def comparisons(results: dict[str, dict]) -> list[dict[str, Any]]:
    """Paired Dice differences of the `COMPARED` methods that were run."""
    dice = {name: {row["pair"]: row["dice"] for row in entry["rows"]} for name, entry in results.items()}
    return [
        {"first": first, "second": second, **compare(dice[first], dice[second], margin=MARGIN).as_result()}
        for first, second in COMPARED
        if min(len(dice.get(first, ())), len(dice.get(second, ()))) >= 3
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data.add_arguments(parser, "cohort.json")
    parser.add_argument("--optimize-preset", default="any-anatomy")
    parser.add_argument("--sparse-preset", default="brain-t1-sparse")
    parser.add_argument("--preview-preset", default="fast-preview")
    parser.add_argument("--preview-model", help="spiking weights of the preview; default: its preset's")
    parser.add_argument("--methods", nargs="+", help="make missing rows of these only; default: all")
    parser.add_argument("--again", nargs="+", default=[], help="make all rows of these methods anew")
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look; needs --out")
    options = parser.parse_args()
    data.one_thread()
    methods = all_methods(options)
    options.methods = options.methods or list(methods)
    for name in (*options.methods, *options.again):
        if name not in methods:
            parser.error(f"unknown method {name!r}; known: {', '.join(methods)}")
    stored = json.loads(options.out.read_text())["methods"] if options.out.exists() else {}
    for row in stored.get("affine", {"rows": []})["rows"]:
        path = data.affine_file(tuple(row["pair"].split("_")), options.cache)
        if not path.exists():
            data.write_json(path, {"matrix": row["matrix"], "cpu_s": row["cpu_s"]})
    results = {}
    began = time.process_time()
    for name, method in methods.items():
        entry = stored.get(name, {})
        kept = {row["pair"]: row for row in entry.get("rows", ())} if entry.get("key") == method.key else {}
        rows = make_rows(name, method, data.cohort_pairs()[: options.pairs], options, kept)
        if rows:
            results[name] = {"key": method.key, "rows": rows}
    with_shared_stages(results)
    facts = {"pairs": data.COHORT_SIZE, "seed": data.COHORT_SEED, "label_groups": 33, "threads": 1, "greedy": GREEDY}
    data.write_json(options.out, {**facts, "methods": results, "comparisons": comparisons(results)})
    print(f"{options.out}: {time.process_time() - began:.0f} CPU s of this process")


if __name__ == "__main__":
    main()
