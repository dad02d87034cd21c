"""`spikereg energy`: what a network costs, layer by layer, by the energy proxy, and the memory traffic beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SpikeRegLib.commands.arguments import number

if TYPE_CHECKING:
    from SpikeRegLib.presets.preset import Preset
    from SpikeRegLib.spiking.spec import NetworkSpec

# The one that is priced where nothing is named, with images and without.
MODEL = "brain-t1"
# What runs a network of each kind on a pair.
_METHODS = {"spiking": "spikereg", "analog": "ann", "field": "nephi", "spiking-field": "spiking-nephi"}

CONSTANTS = {
    "mac_pj": "a multiply-accumulate",
    "ac_pj": "a synaptic operation",
    "sram_pj": "a byte read or written on chip",
    "dram_pj": "a byte read or written off chip",
}
COUNTS = ("dense_macs", "analog_macs", "synaptic_ops", "neuron_updates")
MEBIBYTE = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"weights, by name or .safetensors file (default: {MODEL})"
    )
    parser.add_argument("--spec", metavar="NAME", help="a network spec instead of weights: velocity-2mm, paper")
    parser.add_argument(
        "--preset", metavar="P", help="all networks of a preset instead, as `register` runs them: name or .toml file"
    )
    parser.add_argument(
        "--shape", nargs=3, type=number("shape"), metavar=("D", "H", "W"),
        help="grid of the network's input (default: 80 96 80), or a preset's working grid (default: 160 192 160)",
    )  # fmt: skip
    parser.add_argument(
        "--image-pair", nargs=2, type=Path, metavar=("FIXED", "MOVING"), help="align and run it, count its spikes"
    )
    parser.add_argument("--fixed", type=Path, metavar="F", help="with --moving: the same as --image-pair F M")
    parser.add_argument("--moving", type=Path, metavar="M")
    parser.add_argument(
        "--threads", type=number("threads"), metavar="N", help="CPU threads for that pair (default: all cores)"
    )
    for name, text in CONSTANTS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=number("picojoules"), metavar="PJ", help=f"picojoules of {text}")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    from SpikeRegLib.spiking.energy import FORMULA, EnergyTable
    from SpikeRegLib.spiking.traffic import COLUMNS, memory_result

    pair = _checked(arguments)
    rows, figures = _measured(arguments, *pair) if pair else _dense(arguments)
    price = {name: getattr(arguments, name) for name in CONSTANTS if getattr(arguments, name) is not None}
    counts = {name: figures[name] for name in ("dense_twin_macs", "paper_baseline_macs", *COUNTS[1:])}
    operations = {name: price[name] for name in ("mac_pj", "ac_pj") if name in price}
    totals = EnergyTable(**counts, **operations).as_result()
    memory = memory_result(rows, totals, **{name: price[name] for name in ("sram_pj", "dram_pj") if name in price})
    total: dict[str, Any] = {"name": "total"}
    for column in (*COUNTS, *COLUMNS):
        values = [row[column] for row in rows]
        total[column] = None if None in values else sum(values)
    firing = [row for row in rows if row.get("neurons")]
    if firing:
        total["rate"] = sum(row["count"] for row in firing) / sum(row["neuron_updates"] for row in firing)
        neurons = sum(row["neurons"] for row in firing)
        total["silent_percent"] = sum(row["silent_percent"] * row["neurons"] for row in firing) / neurons
    if arguments.json:
        print(json.dumps({"layers": rows, "total": total, "energy": totals, "memory": memory, "formula": FORMULA}))
        return 0
    _print_table([*rows, total])
    _print_energy(totals, FORMULA)
    _print_memory(memory)
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[Path, Path] | None:
    """The image pair, if one is given.

    Raises:
        InputError: arguments that contradict each other or make no sense.
    """
    from SpikeRegLib.errors import InputError

    named = [name for name in ("--spec", "--preset") if getattr(arguments, name[2:])]
    if arguments.model and named:
        raise InputError(f"{named[0]}: given together with a model; give one of them")
    if len(named) > 1:
        raise InputError("--preset: given together with --spec; give one of them")
    if (arguments.fixed is None) != (arguments.moving is None):
        raise InputError("--fixed and --moving: give both images or neither")
    if arguments.image_pair and arguments.fixed:
        raise InputError("--image-pair: given together with --fixed and --moving; give one of them")
    pair = tuple(arguments.image_pair) if arguments.image_pair else (arguments.fixed, arguments.moving)
    if pair[0] is not None and arguments.spec:
        raise InputError("--spec: a spec has no weights to count spikes with; give a model")
    if pair[0] is not None and arguments.shape:
        raise InputError("--shape: the images decide the grid; leave it out")
    if pair[0] is None and arguments.threads is not None:
        raise InputError("--threads: nothing runs without an image pair; leave it out")
    return None if pair[0] is None else (pair[0], pair[1])


def _measured(arguments: argparse.Namespace, fixed: Path, moving: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and totals of a real pair: aligned, run without refinement."""
    from SpikeRegLib import models
    from SpikeRegLib.errors import InputError
    from SpikeRegLib.pipeline import register
    from SpikeRegLib.presets.preset import FIELD_METHODS, preset_for

    settings: dict[str, Any]
    if arguments.preset:
        chosen = _with_networks(arguments.preset)
        name, method, settings = chosen.model, chosen.method, {"preset": arguments.preset}
    else:
        name = arguments.model or MODEL
        method = _METHODS[models.read_header(models.find(name, "spikereg")).kind]
        settings = {"method": method, "preset": preset_for(method), "model": name}
    if method not in ("spikereg", "spiking-nephi"):
        raise InputError(f"{name}: a dense network fires no spikes; leave the images out, or give another")
    if method in FIELD_METHODS:
        settings["field_iterations"] = 0
    result = register(fixed, moving, refine_iterations=0, threads=arguments.threads, **settings).result
    rows = [dict(layer) for layer in result["spikes"]["layers"]]
    smoothing = result["energy"]["analog_macs"] - sum(row["analog_macs"] for row in rows)
    return rows + _smoothing_row(smoothing, measured=True), result["energy"]


def _dense(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and totals of the part that needs no image: one pass over the pair, or as often as a preset says."""
    from SpikeRegLib.errors import InputError
    from SpikeRegLib.networks.fine_pass import PREFIX
    from SpikeRegLib.presets.preset import FIELD_METHODS
    from SpikeRegLib.space.grids import Grid
    from SpikeRegLib.spiking.energy import EnergyTable, dense_rows, dense_table, smoothing_macs
    from SpikeRegLib.spiking.spec import named_spec

    # Of every network: what its layers are called, how often it reads the pair, and on which grid.
    networks: list[tuple[str, NetworkSpec, int, tuple[int, int, int]]]
    if arguments.preset:
        preset = _with_networks(arguments.preset)
        working = Grid(arguments.shape or (160, 192, 160), preset.working_spacing_mm)
        unets = preset.method not in FIELD_METHODS
        views = 2 if unets and preset.similarity == "multicontrast" else 1
        named = [("", preset.model, preset.passes if unets else 1)]
        if unets and preset.fine_model:
            named.append((PREFIX, preset.fine_model, 1))
        networks = []
        for prefix, name, passes in named:
            spec = _spec_of(name)
            seen = working.coarser(max(spec.input_spacing_mm, preset.working_spacing_mm))
            networks.append((prefix, spec, passes * views, seen.shape))
    else:
        try:
            named_one = named_spec(arguments.spec) if arguments.spec else None
        except ValueError as error:
            raise InputError(f"--spec: {error}") from error
        spec = named_one or _spec_of(arguments.model or MODEL)
        depth, height, width = arguments.shape or (80, 96, 80)
        networks = [("", spec, 1, (depth, height, width))]
    rows: list[dict[str, Any]] = []
    dense = analog = paper = 0
    for prefix, spec, times, grid in networks:
        table = dense_table(spec, grid)
        dense, analog = dense + times * table.dense_twin_macs, analog + times * table.analog_macs
        paper = table.paper_baseline_macs
        for row in dense_rows(spec, grid) + _smoothing_row(smoothing_macs(spec, grid), measured=False):
            numbers = {key: value if value is None else times * value for key, value in row.items() if key != "name"}
            rows.append({"name": prefix + row["name"], **numbers})
    return rows, EnergyTable(dense, paper, analog, None, None).as_result()


def _with_networks(name: str) -> Preset:
    """A preset by name or file.

    Raises:
        InputError: there is none, or it has no network.
    """
    from SpikeRegLib.errors import InputError
    from SpikeRegLib.presets.preset import load_preset

    preset = load_preset(name)
    if not preset.model:
        raise InputError(f"--preset: {preset.name} has no network whose operations could be counted; choose another")
    return preset


def _spec_of(model: str) -> NetworkSpec:
    from SpikeRegLib import models

    return models.spec_of(models.read_header(models.find(model, "spikereg")))


def _smoothing_row(macs: int, *, measured: bool) -> list[dict[str, Any]]:
    """The smoothing after the head, where there is one: analog work of the spiking network alone."""
    from SpikeRegLib.spiking.traffic import COLUMNS, WORD_BYTES

    if not macs:
        return []
    row: dict[str, Any] = {"name": "smoothing", **dict.fromkeys((*COUNTS, *COLUMNS), 0 if measured else None)}
    row |= {"dense_macs": 0, "analog_macs": macs, "dense_sram_bytes": 0, "dense_dram_bytes": 0}
    row |= {"rate": None, "silent_percent": None}
    if measured:
        row["sram_bytes"] = 2 * WORD_BYTES * macs  # it works on the head's output while that is on chip
    return [row]


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'':<96}{'spiking, MiB':>22}{'dense twin, MiB':>22}")
    head = f"{'layer':<16}" + "".join(f"{column:>16}" for column in COUNTS) + f"{'rate':>8}{'silent':>8}"
    print(head + "".join(f"{level:>11}" for level in ("SRAM", "DRAM") * 2))
    for row in rows:
        line = f"{row['name']:<16}" + "".join(f"{_text(row[column], ',.0f'):>16}" for column in COUNTS)
        fires = row.get("neurons") != 0 and row.get("rate") is not None
        line += f"{_text(row['rate'] if fires else None, '.1%'):>8}"
        line += f"{_text(row['silent_percent'] / 100 if fires else None, '.1%'):>8}"
        for column in ("sram_bytes", "dram_bytes", "dense_sram_bytes", "dense_dram_bytes"):
            line += f"{_text(None if row[column] is None else row[column] / MEBIBYTE, ',.1f'):>11}"
        print(line)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _print_energy(totals: dict[str, Any], formula: str) -> None:
    print(f"\nenergy proxy: {formula}  (e_MAC {totals['mac_pj']} pJ, e_AC {totals['ac_pj']} pJ; not a measurement)")
    if totals["snn_mj"] is None:
        print(f"dense twin {totals['ann_mj']:.3f} mJ; this is the dense part only:")
        print("synaptic operations depend on the images: give --image-pair FIXED MOVING")
        return
    factor = totals["reduction_vs_twin"]
    print(f"spiking {totals['snn_mj']:.3f} mJ, dense twin {totals['ann_mj']:.3f} mJ: {factor:.1f}x")
    print(f"against the paper's dense network over the same field of view: {totals['reduction_vs_paper']:.1f}x")


def _print_memory(memory: dict[str, Any]) -> None:
    prices = f"{memory['sram_pj_per_byte']:g} pJ per byte on chip, {memory['dram_pj_per_byte']:g} off chip"
    print(f"\nmemory traffic, estimated and not in the proxy ({prices})")
    if memory["snn_mj"] is None:
        print(f"dense twin {memory['ann_mj']:.1f} mJ")
        return
    print(f"spiking {memory['snn_mj']:.1f} mJ, dense twin {memory['ann_mj']:.1f} mJ; operations and memory together:")
    print(f"{memory['reduction_with_memory']:.1f}x if every operation fetches its words on chip, ", end="")
    print(f"{memory['reduction_with_reuse']:.1f}x if multiply-accumulates find all of theirs in registers")
