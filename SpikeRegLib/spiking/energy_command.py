"""`spikereg energy`: what a network costs, layer by layer, by the energy proxy."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="weights, by name or .safetensors file (default: brain-t1)"
    )
    parser.add_argument("--spec", metavar="NAME", help="a network spec instead of weights: velocity-2mm, paper")
    parser.add_argument(
        "--shape", nargs=3, type=int, default=[80, 96, 80], metavar=("D", "H", "W"), help="grid of the network's input"
    )
    parser.add_argument("--fixed", type=Path, metavar="F", help="with --moving: count the spikes of a real pair")
    parser.add_argument("--moving", type=Path, metavar="M")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads for that pair (default: all cores)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    from SpikeRegLib import models
    from SpikeRegLib.errors import InputError
    from SpikeRegLib.spiking.activity import dense_macs
    from SpikeRegLib.spiking.energy import FORMULA, dense_table, smoothing_macs
    from SpikeRegLib.spiking.spec import NetworkSpec, named_spec

    if arguments.model and arguments.spec:
        raise InputError("--spec: given together with a model; give one of them")
    if (arguments.fixed is None) != (arguments.moving is None):
        raise InputError("--fixed and --moving: give both images or neither")
    if min(arguments.shape) < 16:
        raise InputError(f"--shape: every axis needs at least 16 voxels, got {arguments.shape}")
    if arguments.fixed is not None:
        if arguments.spec:
            raise InputError("--spec: a spec has no weights to count spikes with; give a model")
        from SpikeRegLib.pipeline import register

        result = register(
            arguments.fixed, arguments.moving, model=arguments.model, refine_iterations=0, threads=arguments.threads
        ).result
        layers, totals = result["spikes"]["layers"], result["energy"]
    else:
        if arguments.spec:
            try:
                spec = named_spec(arguments.spec)
            except ValueError as error:
                raise InputError(f"--spec: {error}") from error
        else:
            header = models.read_header(models.find(arguments.model or "brain-t1", "spikereg"))
            spec = NetworkSpec.from_json(header.spec_json)
        shape = (arguments.shape[0], arguments.shape[1], arguments.shape[2])
        macs = dense_macs(spec, shape)
        layers = [
            {
                "name": layer.name,
                "dense_macs": macs[layer.name],
                "analog_macs": macs[layer.name] if "image" in layer.inputs else 0,
                "synaptic_ops": None,
                "neuron_updates": None,
            }
            for layer in spec.layers
        ]
        if spec.smoothing:
            empty = {"dense_macs": 0, "synaptic_ops": None, "neuron_updates": None}
            layers.append({"name": "smoothing", "analog_macs": smoothing_macs(spec, shape), **empty})
        totals = dense_table(spec, shape).as_result()
    columns = ("dense_macs", "analog_macs", "synaptic_ops", "neuron_updates")
    rows = [{"name": layer["name"], **{column: layer[column] for column in columns}} for layer in layers]
    total: dict[str, int | str | None] = {"name": "total"}
    total.update({c: None if any(row[c] is None for row in rows) else sum(row[c] for row in rows) for c in columns})
    if arguments.json:
        print(json.dumps({"layers": rows, "total": total, "energy": totals, "formula": FORMULA}))
        return 0
    print(f"{'layer':<14}" + "".join(f"{column:>18}" for column in columns))
    for row in [*rows, total]:
        print(f"{row['name']:<14}" + "".join(f"{'-' if row[c] is None else format(row[c], ','):>18}" for c in columns))
    print(f"\nenergy proxy: {FORMULA}  (e_MAC {totals['mac_pj']} pJ, e_AC {totals['ac_pj']} pJ; not a measurement)")
    if totals["snn_mj"] is not None:
        factor = totals["reduction_vs_twin"]
        print(f"spiking {totals['snn_mj']:.3f} mJ, dense twin {totals['ann_mj']:.3f} mJ: {factor:.1f}x")
        print(f"against the paper's dense network over the same field of view: {totals['reduction_vs_paper']:.1f}x")
    else:
        print("synaptic operations depend on the images: give --fixed and --moving")
    return 0
