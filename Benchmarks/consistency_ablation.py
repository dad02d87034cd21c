"""What gradient inverse consistency does for a neural field: the same short training with and without the term.

    python Benchmarks/consistency_ablation.py [--steps 300] [--weights 3 0] [--initial MODEL] [--pairs N] [--out F.json]

Each network starts from the same weights and sees the same synthetic pairs and points; only the weight of the term
differs. Then the encoder alone registers the development pairs, from the affine map that the other benchmarks use, and
its field is judged as it is, without the fold guard and the tapering of `register`: folds of both maps on a 2 mm grid
around the head; the distance |phi_inv(phi(x)) - x| at the nodes inside the head, by the two decoders themselves; Dice
of 33 label groups with the whole map. A training that is interrupted is taken up again where its last checkpoint was; a
finished one is kept in `--cache`. Data: $SPIKEREG_DATA (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import evaluation as data
import torch
from evaluation import PairNames

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.models import load_field
from SpikeRegLib.networks.deploy import deploy
from SpikeRegLib.neural_field.codes import positions_on
from SpikeRegLib.neural_field.field import NeuralField
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.quality import metrics
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.space.transforms import DisplacementTransform, compose
from SpikeRegLib.studies.paired_statistics import compare
from SpikeRegLib.training.config import TrainingConfig, load_config
from SpikeRegLib.training.recipe import train_field

NETWORK_MM, WORKING_MM = 2.0, 1.0
# Dice within which two trainings count as equal.
MARGIN = 0.01


def recipe(options: argparse.Namespace, weight: float) -> TrainingConfig:
    """The recipe `nephi`, shortened, with that weight of the term."""
    config = load_config("nephi")
    return replace(
        config,
        initial=options.initial or config.initial,
        teacher=replace(config.teacher, steps=options.steps, checkpoint_every=min(50, options.steps)),
        field_weights=replace(config.field_weights, consistency=weight),
    )


def trained(config: TrainingConfig, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The trained field, from the cache where it is there, and the last line of its log."""
    stamp = data.code_stamp(("training/field_objective", "training/loop", "training/synthetic", "neural_field/decoder"))
    folder = options.cache / "consistency" / data.digest(asdict(config), stamp)
    path = folder / "field.safetensors"
    if not path.exists():
        path = train_field(
            options.labels, folder, config, device="cpu", resume=True, validate=None, show_progress=False
        )
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return path, [line for line in lines if "loss" in line][-1]


@torch.inference_mode()
def judged(field: NeuralField, mask: torch.Tensor, frame: Frame, grid: Grid) -> dict[str, Any]:
    """Both maps of a field on a grid: displacement, folds %, SDlogJ, and mean and 99th percentile of the distance mm.

    Args:
        field: of the pair.
        mask: [D, H, W] bool on the grid, where SDlogJ and distances count; folds do everywhere.
        frame: where the grid lies in the patient; its axes are the patient's.
        grid: of the mask.
    """
    there, back = (field.displacement_on(grid, inverse=inverse) for inverse in (False, True))
    inside = positions_on(grid)[mask.flatten()]
    distance = (field.points(field.points(inside), inverse=True) - inside).norm(dim=1)
    ways = [metrics.deformation_summary(way, frame, mask) for way in (there, back)]
    return {
        "displacement": there,
        "folding_percent": ways[0]["folding_percent"],
        "inverse_folding_percent": ways[1]["folding_percent"],
        "jacobian_min": ways[0]["jacobian_min"],
        "sdlogj": ways[0]["sdlogj"],
        "inverse_consistency_mm": float(distance.mean()),
        "inverse_consistency_p99_mm": float(distance.quantile(0.99)),
    }


@torch.inference_mode()
def row_of(network: FieldNetwork, pair: PairNames, cache: Path) -> dict[str, Any]:
    """The encoder's field for a pair, judged and scored."""
    seen = data.seen_by_network(pair, cache, working_mm=WORKING_MM, network_mm=NETWORK_MM)
    image = torch.stack((seen.fixed, seen.moving))[None]
    codes = network.encode(image, spacing_mm=NETWORK_MM, encoder=deploy(network.encoder, "cpu"))
    codes = replace(codes, overall=codes.overall.float(), local=codes.local.float())
    figures = judged(NeuralField(network.decoders, [codes]), seen.mask, seen.frame, seen.grid)
    base, _ = data.affine_of(pair, cache)
    total = compose(DisplacementTransform(figures.pop("displacement"), seen.frame), base)
    fixed, moving = (data.grouped_labels(name) for name in pair)
    dice = data.overlap(total.displacement_on(fixed.frame), fixed, moving)
    return {"pair": "_".join(pair), "dice": dice, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--weights", type=float, nargs="+", default=[load_config("nephi").field_weights.consistency, 0])
    parser.add_argument("--initial", help="where both begin: a neural field or a U-Net; default: the recipe's")
    parser.add_argument("--labels", type=Path, default=data.DATA / "train", help="label maps of the synthetic pairs")
    parser.add_argument("--pairs", type=int, help="only the first N pairs, for a quick look; needs --out")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "spikereg-benchmarks")
    parser.add_argument("--out", type=Path, default=data.RESULTS / "consistency_ablation.json")
    options = parser.parse_args()
    data.one_thread()
    runs = []
    for weight in options.weights:
        began = time.process_time()
        path, last = trained(recipe(options, weight), options)
        network = load_field(path, kind="field")
        rows = [row_of(network, pair, options.cache) for pair in data.dev_pairs()[: options.pairs]]
        runs.append({"consistency": weight, "last_log_entry": last, "rows": rows})
        mean = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0] if key != "pair"}
        print(f"weight {weight:g}:", {key: round(value, 4) for key, value in mean.items()}, flush=True)
        print(f"  {time.process_time() - began:.0f} CPU s", flush=True)
    config = recipe(options, options.weights[0])
    facts = {"steps": options.steps, "initial": config.initial, "seed": config.seed, "threads": 1}
    dice = [{row["pair"]: row["dice"] for row in run["rows"]} for run in runs]
    paired = None
    if len(runs) > 1 and len(dice[0]) >= 3:
        paired = compare(dice[0], dice[1], margin=MARGIN).as_result()
    data.write_json(options.out, {**facts, "runs": runs, "dice_difference": paired})


if __name__ == "__main__":
    main()
