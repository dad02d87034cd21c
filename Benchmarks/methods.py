"""All methods side by side on the development pairs: voxel networks, neural fields, and both without a network.

    python Benchmarks/methods.py [--methods ...] [--pairs N] [--out FILE.json]

Every method runs as a person would run it, `spikereg register` with a preset, each in a process of its own so that the
peak memory is its own, on one thread, from the same affine map (each run finds it with the same search; its CPU seconds
are told apart). Scores come from the independent scorer and the written files. A method whose preset or weights are
not there is left out, with the reason.

Rows are kept in `--cache` with a key of preset, weights and code: a second run makes only what changed. The energy
proxy of a network is counted as in Docs/energy.md, that of a neural field's decoders as multiply-accumulates for every
node of its grid and every stage; instance optimisation is not in it. Data: $SPIKEREG_DATA (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dev_pairs
import evaluation as data
from evaluation import PairNames

from SpikeRegLib import models
from SpikeRegLib.errors import InputError
from SpikeRegLib.pipeline.inputs import working_frame
from SpikeRegLib.presets.preset import PRESET_FOLDER, Preset, load_preset
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.spiking.energy import MAC_PJ, dense_table
from SpikeRegLib.spiking.spec import NetworkSpec
from SpikeRegLib.studies.paired_statistics import compare


@dataclass(frozen=True)
class Method:
    """A preset and what is asked for beside it.

    Attributes:
        preset: name.
        method: instead of the preset's.
        arguments: further ones of `register`.
    """

    preset: str
    method: str = ""
    arguments: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return ["--preset", self.preset, *(["--method", self.method] if self.method else []), *self.arguments]


METHODS = {
    "spiking network alone": Method("brain-t1", arguments=("--refine-iterations", "0")),
    "dense network alone (ann)": Method("brain-t1", "ann", ("--refine-iterations", "0")),
    "spikereg": Method("brain-t1"),
    "nephi-fast": Method("nephi-fast"),
    "nephi": Method("nephi"),
    "spiking-nephi": Method("spiking-nephi"),
    "nephi-any-anatomy": Method("nephi-any-anatomy"),
    "optimize": Method("any-anatomy"),
}
# Dice by which the first may be worse than the second.
MARGIN = 0.01
COMPARED = (
    ("nephi", "spikereg"),
    ("spiking-nephi", "nephi"),
    ("nephi-fast", "spiking network alone"),
    ("nephi-any-anatomy", "optimize"),
)
AFTER_AFFINE = ("predict", "refine", "finish")


def needed(method: Method) -> tuple[Preset, list[Path]]:
    """The preset of a method and the files of its networks.

    Raises:
        InputError: one of them is not there.
    """
    preset = load_preset(method.preset)
    used = method.method or preset.method
    names = [name for name in (preset.model, preset.fine_model) if name] if used != "optimize" else []
    return preset, [models.find(name, used) for name in names]


def dense_mj(pair: PairNames, preset: Preset, specs: list[NetworkSpec]) -> float:
    """Energy proxy in mJ of one pass of dense networks over a pair."""
    frame = working_frame(data.side(pair[0]), preset.working_spacing_mm, preset.working_voxels)
    whole = Grid(frame.shape, frame.spacing[0])
    grids = [whole.coarser(max(spec.input_spacing_mm, whole.spacing_mm)) for spec in specs]
    return sum(dense_table(spec, grid.shape).ann_mj for spec, grid in zip(specs, grids, strict=True))


def energy_of(pair: PairNames, method: Method, row: dict[str, Any], field: dict[str, Any] | None) -> dict[str, float]:
    """Proxy in mJ of the networks, and of decoding a neural field; nothing for what has neither."""
    preset, files = needed(method)
    found = {}
    if row["energy"]:
        found["network_mj"] = row["energy"]["snn_mj"]
    elif files:
        specs = [NetworkSpec.from_json(models.read_header(file).spec_json) for file in files]
        found["network_mj"] = dense_mj(pair, preset, specs)
    if field:
        found["decoder_mj"] = MAC_PJ * field["decoder_macs"] * 1e-9
    return found


def run(pair: PairNames, method: Method) -> dict[str, Any]:
    """One registration in a process of its own, scored."""
    folder = Path(tempfile.mkdtemp())
    try:
        row = dev_pairs.register_pair(method.command(), *pair, folder / "out")
        result = json.loads((folder / "out" / "result.json").read_text())
    finally:
        shutil.rmtree(folder)
    stages = row["stages_cpu_s"]
    field = result.get("field")
    return {
        **row,
        "beyond_affine_cpu_s": sum(stages[stage] for stage in AFTER_AFFINE),
        "found_cpu_s": stages["predict"] + stages["refine"],
        "energy_mj": energy_of(pair, method, row, field),
        "field": field,
        "warnings": result["warnings"],
    }


def rows_of(name: str, key: str, pairs: list[PairNames], cache: Path) -> list[dict[str, Any]]:
    rows = []
    for pair in pairs:
        path = cache / "rows" / f"methods-{name.replace(' ', '_')}-{key}" / f"{'_'.join(pair)}.json"
        if not path.exists():
            row = run(pair, METHODS[name])
            data.write_json(path, row)
            print(
                f"{name:26} {row['pair']} Dice {row['dice']:.4f} folds {row['true_folding_percent']:.4f} % "
                f"{row['cpu_s']:.1f} CPU s {row['peak_mb']:.0f} MB", flush=True,
            )  # fmt: skip
        rows.append(json.loads(path.read_text()))
    return rows


def comparisons(methods: dict[str, Any]) -> list[dict[str, Any]]:
    """Paired Dice differences of the `COMPARED` methods that were run on three pairs or more."""
    dice = {name: {row["pair"]: row["dice"] for row in entry["rows"]} for name, entry in methods.items()}
    return [
        {"first": first, "second": second, **compare(dice[first], dice[second], margin=MARGIN).as_result()}
        for first, second in COMPARED
        if len(dice.get(first, {}).keys() & dice.get(second, {}).keys()) >= 3
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look; needs --out")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "spikereg-benchmarks")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "methods.json")
    options = parser.parse_args()
    data.one_thread()
    code = data.library_stamp(network=True)
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in options.methods:
        method = METHODS[name]
        try:
            _, files = needed(method)
        except InputError as error:
            left_out[name] = str(error)
            print(f"{name}: left out: {error}", flush=True)
            continue
        key = data.digest(method.command(), PRESET_FOLDER / f"{method.preset}.toml", *files, code)
        found[name] = {"key": key, "rows": rows_of(name, key, data.dev_pairs()[: options.pairs], options.cache)}
    facts = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    results = {"machine": facts, "threads": 1, "methods": found, "left_out": left_out}
    data.write_json(options.out, {**results, "comparisons": comparisons(found)})


if __name__ == "__main__":
    main()
