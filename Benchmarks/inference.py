"""Time the shipped networks alone: dense twin, closed form and event simulation in every arithmetic, side by side.

    python Benchmarks/inference.py [--field-of-view 160 192 224] [--repeats 9] [--out FILE.json]

CPU seconds are the smallest of the repeats, everything taking turns in one process; ratios are what to look at. The
dense twin is the faster of two variants: as it is trained (autocast), and as `deploy` makes it ready (BatchNorm folded,
weights converted once, channels-last). Integers are compared with both of its arithmetics. Further, in one process
each: the first run and peak memory of the whole program. `arithmetics.py` has what they cost in Dice.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from SpikeRegLib import models  # noqa: E402
from SpikeRegLib.networks.deploy import FloatUNet  # noqa: E402
from SpikeRegLib.networks.integer import IntegerUNet  # noqa: E402
from SpikeRegLib.networks.integer_convolution import available  # noqa: E402
from SpikeRegLib.networks.precision import Precision  # noqa: E402
from SpikeRegLib.networks.tiles import reach, tiled_output  # noqa: E402
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet  # noqa: E402

SAMPLE = ROOT / "SpikeRegLib" / "sample"
FLOATS = ("bfloat16", "float32")
Shape = tuple[int, int, int]


def sample_image(shape: Shape) -> torch.Tensor:
    """[1, 2, D, H, W]: the bundled pair, cropped or padded to `shape` (activity depends on what is seen)."""
    from SpikeRegLib.images.volumes import normalise_intensity, read_image

    channels = []
    for role in ("fixed", "moving"):
        data = normalise_intensity(read_image(SAMPLE / f"{role}.nii.gz")).data
        volume = torch.zeros(shape)
        depth, height, width = (min(a, b) for a, b in zip(shape, data.shape, strict=True))
        volume[:depth, :height, :width] = data[:depth, :height, :width]
        channels.append(volume)
    return torch.stack(channels)[None]


def load(name: str) -> tuple[SpikingUNet, AnalogUNet]:
    spiking = models.load_for(models.find(name, "spikereg"), "spikereg", None)
    dense = models.load_for(models.find(name, "ann"), "ann", None)
    assert isinstance(spiking, SpikingUNet) and isinstance(dense, AnalogUNet)
    return spiking, dense


def ready(network: RegistrationUNet, arithmetic: str) -> RegistrationUNet:
    if arithmetic == "int8":
        assert isinstance(network, SpikingUNet)
        return IntegerUNet(network)
    return FloatUNet(network, Precision("cpu", arithmetic == "bfloat16"))


def autocast(network: RegistrationUNet, arithmetic: str) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(image: torch.Tensor) -> torch.Tensor:
        with Precision("cpu", arithmetic == "bfloat16").autocast():
            return network(image)

    return run


def side_by_side(
    runs: dict[str, Callable[[torch.Tensor], torch.Tensor]], image: torch.Tensor, repeats: int
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The smallest CPU seconds and the output of each, taking turns."""
    seconds: dict[str, float] = {}
    outputs: dict[str, torch.Tensor] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.process_time()
            outputs[name] = run(image)
            seconds[name] = min(seconds.get(name, 1e9), time.process_time() - began)
    return seconds, outputs


@torch.inference_mode()
def times(spiking: SpikingUNet, dense: AnalogUNet, image: torch.Tensor, repeats: int) -> tuple[dict, dict, list[str]]:
    """Rows of the table, everything that was timed, and the arithmetics there are."""
    arithmetics = (["int8"] if available() else []) + list(FLOATS)
    runs: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
    for name in FLOATS:
        runs[f"dense as trained, {name}"] = autocast(dense, name)
        runs[f"dense ready, {name}"] = ready(dense, name)
    networks = {name: ready(spiking, name) for name in arithmetics}
    for name, network in networks.items():
        runs[f"closed form, {name}"] = network
    seconds, outputs = side_by_side(runs, image, repeats)
    spiking.mode = "events"
    events = {f"events, {name}": ready(spiking, name) for name in arithmetics}
    simulated, fields = side_by_side(events, image, 3)
    spiking.mode = "closed_form"
    seconds, outputs = {**seconds, **simulated}, {**outputs, **fields}
    rows = {}
    for name in arithmetics:
        for twin in FLOATS if name == "int8" else (name,):
            dense_s = min(seconds[f"dense as trained, {twin}"], seconds[f"dense ready, {twin}"])
            label = f"{name} (dense twin: {twin})" if name == "int8" else name
            rows[label] = {
                "cpu_s": {
                    "dense twin": dense_s,
                    "closed form": seconds[f"closed form, {name}"],
                    "event simulation": seconds[f"events, {name}"],
                },
                "closed_form_vs_dense": seconds[f"closed form, {name}"] / dense_s,
                "events_equal_closed_form": bool(
                    torch.equal(outputs[f"closed form, {name}"], outputs[f"events, {name}"])
                ),
            }
    return rows, seconds, arithmetics


def peak_mb() -> float:
    """The most memory this program had resident so far; the kernel's other figure begins with its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("peak memory is read from /proc/self/status")


@torch.inference_mode()
def once(model: str, arithmetic: str, kind: str, image: torch.Tensor) -> dict[str, float]:
    """A pass from images to displacement in this process: making ready, the first and later runs, peak memory."""
    spiking, dense = load(model)
    network = spiking if kind == "spiking" else dense
    before = peak_mb()
    began = time.process_time()
    prepared = ready(network, arithmetic)
    made = time.process_time()
    prepared.displacement(image)
    first = time.process_time()
    peak = peak_mb()
    later, _ = side_by_side({"network": prepared, "displacement": prepared.displacement}, image, 5)
    return {
        "ready_cpu_s": made - began,
        "first_cpu_s": first - made,
        "network_cpu_s": later["network"],
        "displacement_cpu_s": later["displacement"],
        "peak_mb": peak,
        "peak_mb_before": before,
    }


def in_its_own_process(options: argparse.Namespace, arithmetic: str, kind: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--model", options.model, "--threads", str(options.threads)]
    command += ["--field-of-view", *map(str, options.field_of_view), "--once", arithmetic, kind]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@torch.inference_mode()
def tiles(network: RegistrationUNet, image: torch.Tensor) -> dict:
    """How far tiles with less overlap than any output depends on are from the whole image's velocity."""
    whole = network(image)
    rows = []
    for size, overlap in ((96, 48), (64, 32), (64, 16)):
        began = time.process_time()
        error = (tiled_output(network, image, size=size, overlap=overlap) - whole).norm(dim=1)
        seconds = time.process_time() - began
        scale = network.spec.input_spacing_mm * network.spec.output_stride()
        rows.append(
            {
                "size": size, "overlap": overlap, "cpu_s": seconds,
                "mean_mm": float(error.mean()) * scale, "max_mm": float(error.max()) * scale,
            }
        )  # fmt: skip
    mean = float(whole.norm(dim=1).mean()) * network.spec.input_spacing_mm * network.spec.output_stride()
    return {"reach_voxels": reach(network.spec), "mean_velocity_mm": mean, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="brain-t1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--field-of-view", type=int, nargs=3, default=[160, 192, 224], help="mm")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("ARITHMETIC", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spiking, dense = load(options.model)
    spacing = spiking.spec.input_spacing_mm
    depth, height, width = (round(length / spacing) for length in options.field_of_view)
    image = sample_image((depth, height, width))
    if options.once:
        print(json.dumps(once(options.model, *options.once, image)))
        return
    rows, seconds, arithmetics = times(spiking, dense, image, options.repeats)
    for name, row in rows.items():
        print(name, json.dumps(row))
    whole = {f"closed form, {name}": in_its_own_process(options, name, "spiking") for name in arithmetics}
    whole |= {f"dense, {name}": in_its_own_process(options, name, "dense") for name in FLOATS}
    results = {
        "model": options.model,
        "shape": [depth, height, width],
        "field_of_view_mm": options.field_of_view,
        "threads": options.threads,
        "timesteps": spiking.spec.timesteps,
        "results": rows,
        "all_cpu_s": seconds,
        "whole_process": whole,
        "tiles": tiles(ready(spiking, arithmetics[0]), image),
    }
    print(json.dumps({name: results[name] for name in ("all_cpu_s", "whole_process", "tiles")}, indent=1))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
