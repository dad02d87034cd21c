"""Peak memory of training and of predicting: a neural deformation field against voxel-field networks on the same grid.

    python Benchmarks/field_memory.py [--field-of-view 160 192 224] [--spacings 2 1] [--out FILE.json]

Every figure comes from a fresh process: what is resident after the imports is its baseline, shown and subtracted; what
counts is the peak of the whole process beyond it, images, weights, gradients and the optimiser's state included. The
images are synthetic noise in an ellipsoid: memory depends on their size alone.

Training is `--steps` steps as the training loop makes them: loss, gradient, Adam. The neural field has the objective
and the sizes of the recipe `nephi`: the encoder reads the whole grid, the field is evaluated at cubes of points. The
voxel networks have the ordinary objective, the warp of the whole image. Predicting is what a registration does:
networks made ready by `deploy`, no gradient, a displacement at every voxel of the grid. At 1 mm the neural field
appears twice: with an encoder on the same grid, and with the encoder at twice the voxel size and points of the full
grid, which only a continuous field can do. The paper's decoder (128 frequencies, width 128) and number of points
(100,000, at most 2 % of the voxels) are measured, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from SpikeRegLib.networks.deploy import deploy  # noqa: E402
from SpikeRegLib.neural_field.field import NeuralField  # noqa: E402
from SpikeRegLib.neural_field.model import FieldNetwork  # noqa: E402
from SpikeRegLib.neural_field.sizes import paper_options  # noqa: E402
from SpikeRegLib.space.grids import Grid  # noqa: E402
from SpikeRegLib.spiking.spec import named_spec  # noqa: E402
from SpikeRegLib.spiking.unet import AnalogUNet  # noqa: E402
from SpikeRegLib.training.config import load_config  # noqa: E402
from SpikeRegLib.training.field_objective import FieldWeights, field_objective  # noqa: E402
from SpikeRegLib.training.loop import gradient_precision, make_optimiser  # noqa: E402
from SpikeRegLib.training.objective import objective  # noqa: E402
from SpikeRegLib.training.synthetic import DICE_LABELS, SyntheticPair  # noqa: E402

Shape = tuple[int, int, int]
# The share of a voxel-field network's training memory that the paper claims for its own.
CLAIM = 1 / 5
RECIPE = "nephi"


@dataclass(frozen=True)
class Case:
    """One network on one grid.

    Attributes:
        spec: of the U-Net, or of the encoder of a neural field.
        field: whether it is the encoder of one.
        halved: whether the encoder reads the image at twice the voxel size.
        paper: whether decoder and points are the paper's: wide decoders, 100,000 points a direction but at most 2 % of
            the voxels; trained only.
        spacings: of the grids, in mm, for which it is measured.
    """

    spec: str
    field: bool = False
    halved: bool = False
    paper: bool = False
    spacings: tuple[int, ...] = (1, 2)


CASES = {
    "neural field": Case("field-codes-2mm", field=True),
    "neural field, encoder at half the resolution": Case("field-codes-2mm", field=True, halved=True, spacings=(1,)),
    "velocity U-Net, velocity-2mm": Case("velocity-2mm"),
    "velocity U-Net, velocity-1mm": Case("velocity-1mm", spacings=(1,)),
    "the paper's displacement U-Net": Case("paper"),
    "neural field, the paper's decoder and points": Case("field-codes-2mm", field=True, paper=True),
}
TASKS = ("train", "predict")


class HalvedNetwork(FieldNetwork):
    """A neural field whose encoder sees the image at twice its voxel size."""

    def encode(self, image: torch.Tensor, *, spacing_mm: float, **settings: Any) -> Any:
        smaller = torch.nn.functional.avg_pool3d(image, 2)
        return super().encode(smaller, spacing_mm=2 * spacing_mm, **settings)


def status_mb(name: str) -> float:
    """`VmRSS`, resident now, or `VmHWM`, the most so far, of this process; the parent's does not count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("memory is read from /proc/self/status, which this system does not have")


def noise_image(shape: Shape) -> torch.Tensor:
    """[1, 2, D, H, W]: two noisy ellipsoids that fill two thirds of every axis; made with little memory of its own."""
    image = torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(0)).mul_(0.7).add_(0.3)
    z, y, x = (torch.linspace(-1.5, 1.5, n).square() for n in shape)
    return image.mul_(z[:, None, None] + y[:, None] + x < 1)


def noise_pair(shape: Shape) -> SyntheticPair:
    """The two channels of `noise_image` with soft labels, as large as a real training pair."""
    fixed, moving = noise_image(shape).split(1, 1)
    half = tuple(n // 2 for n in shape)
    shares = [torch.rand((1, len(DICE_LABELS), *half), generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    return SyntheticPair(fixed.contiguous(), moving.contiguous(), *shares)


def build(case: Case) -> AnalogUNet | FieldNetwork:
    encoder = AnalogUNet(named_spec(case.spec))
    if not case.field:
        return encoder
    options = paper_options() if case.paper else load_config(RECIPE).field
    return (HalvedNetwork if case.halved else FieldNetwork)(encoder, options)


def weights_of(case: Case, shape: Shape) -> FieldWeights:
    """What a neural field is trained for: the recipe's terms, and where asked for the paper's number of points."""
    weights = load_config(RECIPE).field_weights
    if not case.paper:
        return weights
    points = min(100_000, 0.02 * shape[0] * shape[1] * shape[2])
    return replace(weights, cubes=max(1, round(points / weights.cube**3)))


def training(case: Case, shape: Shape, steps: int) -> Callable[[], None]:
    """Make images, network and optimiser now; what is returned trains."""
    network, pair = build(case), noise_pair(shape)
    config, weights = load_config(RECIPE), weights_of(case, shape)
    seen: Shape = tuple(n // 2 for n in shape) if case.halved else shape  # type: ignore[assignment]
    unet = network.encoder if isinstance(network, FieldNetwork) else network
    precision = gradient_precision(unet.spec, seen, "cpu")
    optimiser = make_optimiser(network, config.teacher)
    network.train()

    def run() -> None:
        for step in range(steps):
            if isinstance(network, FieldNetwork):
                loss, _ = field_objective(network, pair, weights, precision=precision, seed=step)
            else:
                loss, _ = objective(network, pair, config.teacher.weights, precision=precision)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return run


def predicting(case: Case, shape: Shape, spacing_mm: float) -> Callable[[], None]:
    """Make image and network now; what is returned predicts a displacement on the grid of the image."""
    network, image = build(case).eval(), noise_image(shape)

    @torch.inference_mode()
    def run() -> None:
        if isinstance(network, FieldNetwork):
            codes = network.encode(image, spacing_mm=spacing_mm, encoder=deploy(network.encoder, "cpu"))
            NeuralField(network.decoders, [codes]).displacement_on(Grid(shape, spacing_mm))
        else:
            deploy(network, "cpu").displacement(image)

    return run


def measure(name: str, task: str, shape: Shape, spacing_mm: int, steps: int) -> dict[str, float]:
    """In this process, which did nothing before: MB after the imports, with all prepared, at the peak; CPU seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    imports = status_mb("VmRSS")
    case = CASES[name]
    run = training(case, shape, steps) if task == "train" else predicting(case, shape, spacing_mm)
    prepared = status_mb("VmRSS")
    before = time.process_time()
    run()
    seconds = time.process_time() - before
    peak = status_mb("VmHWM")
    return {
        "imports_mb": imports, "prepared_mb": prepared - imports, "peak_mb": peak, "beyond_mb": peak - imports,
        "cpu_s": seconds / (steps if task == "train" else 1),
    }  # fmt: skip


def in_its_own_process(name: str, task: str, shape: Shape, spacing_mm: int, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--once", name, task, str(spacing_mm), *map(str, shape), "--steps", str(steps)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}, {task}, {spacing_mm} mm failed ({done.returncode}): {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--field-of-view", type=int, nargs=3, default=[160, 192, 224], help="mm")
    parser.add_argument("--spacings", type=int, nargs="+", default=[2, 1], choices=[1, 2], help="mm")
    parser.add_argument("--steps", type=int, default=2, help="training steps; the second has the optimiser's state")
    parser.add_argument("--out", type=Path, default=ROOT / "Benchmarks" / "results" / "field_memory.json")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out has already")
    parser.add_argument("--once", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        name, task, spacing, *size = options.once
        depth, height, width = map(int, size)
        print(json.dumps(measure(name, task, (depth, height, width), int(spacing), options.steps)))
        return
    facts = {"threads": 1, "steps": options.steps, "field_of_view_mm": options.field_of_view, "claim": CLAIM}
    stored = json.loads(options.out.read_text())["rows"] if options.resume and options.out.exists() else []
    kept = {(row["network"], row["task"], row["spacing_mm"]): row for row in stored}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for spacing, task, name in itertools.product(options.spacings, TASKS, CASES):
        if spacing not in CASES[name].spacings or (task == "predict" and CASES[name].paper):
            continue
        depth, height, width = (length // spacing for length in options.field_of_view)
        row = kept.get((name, task, spacing))
        if row is None:
            found = in_its_own_process(name, task, (depth, height, width), spacing, options.steps)
            shape = [depth, height, width]
            row = {"network": name, "task": task, "spacing_mm": spacing, "shape": shape, **found}
            print(name, task, f"{spacing} mm", {key: round(value, 2) for key, value in found.items()}, flush=True)
        rows.append(row)
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
