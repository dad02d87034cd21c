"""Time the shipped networks alone: closed form, event simulation and dense twin, side by side in one process.

    python Benchmarks/inference.py [--threads 1] [--shape 80 96 80] [--repeats 7] [--out FILE.json]

CPU seconds are the smallest of the repeats, modes taking turns; ratios are what to look at. The field of the event
simulation is compared with that of the closed form.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from SpikeRegLib import models
from SpikeRegLib.precision import Precision
from SpikeRegLib.spiking.unet import SpikingUNet

SAMPLE = Path(__file__).resolve().parents[1] / "SpikeRegLib" / "sample"


def sample_image(shape: tuple[int, int, int]) -> torch.Tensor:
    """[1, 2, D, H, W]: the bundled pair, cropped or padded to `shape` (activity depends on what is seen)."""
    from SpikeRegLib.images import normalise_intensity, read_image

    channels = []
    for role in ("fixed", "moving"):
        data = normalise_intensity(read_image(SAMPLE / f"{role}.nii.gz")).data
        volume = torch.zeros(shape)
        depth, height, width = (min(a, b) for a, b in zip(shape, data.shape, strict=True))
        volume[:depth, :height, :width] = data[:depth, :height, :width]
        channels.append(volume)
    return torch.stack(channels)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", type=int, nargs=3, default=[80, 96, 80])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spiking = models.load_for(models.find("brain-t1", "spikereg"), "spikereg", None)
    dense = models.load_for(models.find("brain-t1", "ann"), "ann", None)
    assert isinstance(spiking, SpikingUNet)
    image = sample_image((options.shape[0], options.shape[1], options.shape[2]))
    results: dict[str, dict] = {}
    for precision in (Precision("cpu", True), Precision("cpu", False)):
        seconds: dict[str, float] = {}
        fields: dict[str, torch.Tensor] = {}
        for _ in range(options.repeats):
            for mode in ("dense twin", "closed form", "event simulation"):
                network = dense if mode == "dense twin" else spiking
                spiking.mode = "events" if mode == "event simulation" else "closed_form"
                with torch.inference_mode(), precision.autocast():
                    began = time.process_time()
                    fields[mode] = network(image)
                    seconds[mode] = min(seconds.get(mode, 1e9), time.process_time() - began)
        results[precision.name] = {
            "cpu_s": seconds,
            "closed_form_vs_dense": seconds["closed form"] / seconds["dense twin"],
            "events_equal_closed_form": bool(torch.equal(fields["closed form"], fields["event simulation"])),
        }
        print(precision.name, json.dumps(results[precision.name]))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        facts = {"shape": options.shape, "threads": options.threads, "timesteps": spiking.spec.timesteps}
        options.out.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
