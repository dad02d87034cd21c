"""What the benchmarks share: the development brains, the choice of pairs, the scorer's figures, results on disk.

Everything that does not depend on the network (affine maps, prepared images) is kept in a cache folder outside the
repository, so that a benchmark interrupted or run again with other weights repeats only what changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dev_pairs import listed_pairs
from meaning import meaning

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from SpikeRegLib.affine import align
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, read_labels
from SpikeRegLib.pipeline.inputs import Side, load_side, on_working_frame, working_frame
from SpikeRegLib.presets.preset import read_toml
from SpikeRegLib.quality import metrics
from SpikeRegLib.similarity.contrast import compare_by
from SpikeRegLib.similarity.pair import Pair
from SpikeRegLib.space.filters import FOREGROUND
from SpikeRegLib.space.transforms import AffineTransform, DisplacementTransform, warp_image
from SpikeRegLib.system.allocator import keep_freed_memory
from SpikeRegLib.system.atomic_files import atomic_output

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SPIKEREG_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "Benchmarks" / "results"
COHORT_SIZE, COHORT_SEED = 40, 0
# Code that decides prepared images; a change there makes the cached ones unusable.
PREPARING = ("frames", "filters", "images", "inputs", "sampling", "transforms")

PairNames = tuple[str, str]


def add_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """The options every benchmark has."""
    parser.add_argument("--model", help="spiking weights, by name or file; default: the preset's")
    parser.add_argument("--teacher", help="dense twin of the model, by name or file; default: the preset's")
    parser.add_argument("--preset", default="brain-t1", help="name or TOML file of the preset")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "spikereg-benchmarks")
    parser.add_argument("--out", type=Path, default=RESULTS / out)


def subject_image(subject: str) -> Path:
    return DATA / "dev" / f"oasis_{subject}_t1brain.nii.gz"


def dev_pairs() -> list[PairNames]:
    """The eight pairs (fixed, moving) of every other benchmark."""
    return listed_pairs()


def subjects() -> list[str]:
    return sorted(path.name.split("_")[1] for path in (DATA / "dev").glob("oasis_*_t1brain.nii.gz"))


def balanced_pairs(names: list[str], start: Iterable[PairNames], count: int, seed: int) -> list[PairNames]:
    """`start` and more ordered pairs, every subject as equally often fixed, and moving, as that allows.

    The remaining pairs are gone through in an order shuffled by `seed`; each time the one is taken whose two subjects
    were used least in their roles so far. No pair is taken together with its reverse.
    """
    chosen = list(start)
    rest = [(a, b) for a in names for b in names if a != b and (a, b) not in chosen]
    random.Random(seed).shuffle(rest)
    while len(chosen) < count:
        fixed, moving = Counter(a for a, _ in chosen), Counter(b for _, b in chosen)
        free = [pair for pair in rest if pair not in chosen and pair[::-1] not in chosen]
        chosen.append(min(free, key=lambda p: (max(fixed[p[0]], moving[p[1]]), fixed[p[0]] + moving[p[1]])))
    return chosen


def cohort_pairs() -> list[PairNames]:
    """The 40 of the 156 ordered pairs that the statistics use: the eight dev pairs first."""
    return balanced_pairs(subjects(), dev_pairs(), COHORT_SIZE, COHORT_SEED)


@lru_cache(maxsize=4)
def side(subject: str) -> Side:
    return load_side(subject_image(subject))


@lru_cache(maxsize=13)
def grouped_labels(subject: str) -> Volume:
    """Manual labels merged to the 33 groups; 0 is background."""
    groups = json.loads((DATA / "dev" / "label_groups.json").read_text())["map"]
    labels = read_labels(DATA / "dev" / f"oasis_{subject}_seg.nii.gz")
    table = torch.zeros(max(int(labels.data.max()) + 1, 1 + max(map(int, groups))), dtype=torch.uint8)
    for label, group in groups.items():
        table[int(label)] = int(group)
    return Volume(table[labels.data.long().clamp_min(0)], labels.frame, labels.name)


def overlap(total: torch.Tensor, fixed: Volume, moving: Volume) -> float:
    """Mean Dice of the labels both maps have, moving labels resampled by the nearest voxel, as the scorer does it.

    Args:
        total: [3, D, H, W] mm, the whole map fixed -> moving on the grid of `fixed`.
        fixed, moving: label maps.
    """
    warped = warp_image(moving, DisplacementTransform(total, fixed.frame), fixed.frame, interpolation="nearest")
    present = set(torch.unique(moving.data).tolist())
    values = [value for label, value in metrics.dice(fixed, warped).items() if label in present]
    return float(np.mean(values))


def regularity(total: torch.Tensor, frame: Frame, mask: torch.Tensor) -> dict[str, float]:
    """Folds in patient space and as ITK's filter (and so the scorer) reads them, without direction cosines."""
    there = metrics.deformation_summary(total, frame, mask)
    read = metrics.deformation_summary(total, Frame(frame.shape, frame.origin, frame.spacing))
    return {
        "folding_percent": read["folding_percent"],
        "true_folding_percent": there["folding_percent"],
        "sdlogj": there["sdlogj"],
    }


def scored(total: torch.Tensor, pair: PairNames) -> dict[str, float]:
    """The figures of one map between two subjects, see `overlap` and `regularity`."""
    fixed, moving = (grouped_labels(name) for name in pair)
    return {"dice": overlap(total, fixed, moving), **regularity(total, fixed.frame, fixed.data > 0)}


def affine_file(pair: PairNames, cache: Path) -> Path:
    """Where the affine map of a pair is kept: the same for every method, whatever becomes of the search."""
    return cache / "affines" / f"{pair[0]}_{pair[1]}.json"


def affine_of(pair: PairNames, cache: Path) -> tuple[AffineTransform, float]:
    """The affine map fixed -> moving and the CPU seconds its search took, searched once for the pair."""
    path = affine_file(pair, cache)
    if not path.exists():
        images = [side(name).image for name in pair]
        before = time.process_time()
        matrix = align(*images).transform.matrix
        write_json(path, {"matrix": matrix.tolist(), "cpu_s": time.process_time() - before})
    stored = json.loads(path.read_text())
    return AffineTransform(np.array(stored["matrix"])), stored["cpu_s"]


def working_pair(fixed: Side, moving: Side, base: AffineTransform, spacing_mm: float, similarity: str) -> Pair:
    """The pair on the working grid, as `register` prepares it."""
    frame = working_frame(fixed, spacing_mm)
    images = on_working_frame(fixed, frame, None), on_working_frame(moving, frame, base)
    mask = images[0] > FOREGROUND
    return Pair(frame, *images, mask, compare_by(similarity, *images, mask))


def seen_by_network(pair: PairNames, cache: Path, *, working_mm: float, network_mm: float) -> Pair:
    """What a network of `network_mm` sees of the pair, from the cache where it is there."""
    name = f"{pair[0]}_{pair[1]}_{working_mm:g}_{network_mm:g}.pt"
    path = cache / f"prepared-{code_stamp(PREPARING)}" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        base, _ = affine_of(pair, cache)
        seen = working_pair(side(pair[0]), side(pair[1]), base, working_mm, "lncc").coarser(network_mm)
        torch.save((seen.frame.__dict__, seen.fixed, seen.moving, seen.mask), path)
    frame, fixed, moving, mask = torch.load(path, weights_only=True)
    return Pair(Frame(**frame), fixed, moving, mask, compare_by("lncc", fixed, moving, mask))


@lru_cache
def code_stamp(modules: tuple[str, ...]) -> str:
    """Changes whenever what one of these modules of the library does changes, see `meaning`."""
    return _stamp(ROOT / "SpikeRegLib" / f"{module}.py" for module in modules)


def _stamp(files: Iterable[Path]) -> str:
    text = "\0".join(meaning(path.read_text(encoding="utf-8")) for path in files)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@lru_cache
def library_stamp(*, network: bool) -> str:
    """Changes whenever what the code does that decides a registration changes, see `meaning`; without `network`, one by
    instance optimisation alone."""
    aside = {"report", "commands", "training", "studies"} | (set() if network else {"spiking"})
    folder = ROOT / "SpikeRegLib"
    files = [path for path in sorted(folder.rglob("*.py")) if path.relative_to(folder).parts[0] not in aside]
    if not network:
        files = [path for path in files if path.stem not in ("predict", "models", "inference")]
    return _stamp(files)


def digest(*parts: Any) -> str:
    """A short key of settings and files that decide a result; of a preset, its values without its description."""
    texts = [_content(part) if isinstance(part, Path) else json.dumps(part).encode() for part in parts]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]


def _content(path: Path) -> bytes:
    if path.suffix != ".toml":
        return path.read_bytes()
    return json.dumps({name: value for name, value in read_toml(path).items() if name != "description"}).encode()


@lru_cache
def machine() -> str:
    """Names this machine since it was started, in eight digits that say nothing else: seconds of two of them are not to
    be divided by each other."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text() if boot.exists() else f"{time.time() - time.monotonic():.0f}"
    return hashlib.sha256(f"{platform.node()} {started}".encode()).hexdigest()[:8]


def write_json(path: Path, value: Any) -> None:
    """Write at once or not at all, so that an interrupted benchmark leaves whole files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def one_thread() -> None:
    """Every time is that of one thread, in a process that keeps its memory as the command's does."""
    keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    torch.set_num_threads(1)
