"""The steps from label maps to weights: teacher (or neural field), convert, finetune."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from SpikeRegLib import __version__
from SpikeRegLib.errors import InputError
from SpikeRegLib.models import find, load_field, load_model, read_header, save_model
from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.spiking.conversion import calibrate, convert
from SpikeRegLib.spiking.spec import NetworkSpec, named_spec
from SpikeRegLib.spiking.unet import AnalogUNet, RegistrationUNet, SpikingUNet
from SpikeRegLib.training.config import TrainingConfig
from SpikeRegLib.training.crops import CropGenerator
from SpikeRegLib.training.field_objective import field_objective
from SpikeRegLib.training.loop import Loss, Trained, train
from SpikeRegLib.training.narrowing import can_narrow, narrowed_state
from SpikeRegLib.training.processes import Processes
from SpikeRegLib.training.structures.counting import CountingUNet
from SpikeRegLib.training.structures.heads import layout_of, load_heads
from SpikeRegLib.training.structures.images import HeadGenerator
from SpikeRegLib.training.structures.loop import train_structures
from SpikeRegLib.training.structures.recipe import StructureTraining
from SpikeRegLib.training.subjects import Subject, load_subjects
from SpikeRegLib.training.synthetic import PairGenerator, SyntheticPair

Validation = Callable[[Any], dict[str, float]]
# Pairs of the stream that no training step reaches, for calibration.
CALIBRATION_START = 10_000_000


def find_label_maps(folder: Path) -> list[Path]:
    """The label maps in a folder, sorted by name.

    Raises:
        InputError: fewer than two.
    """
    found = sorted(p for p in folder.glob("*") if p.name.endswith((".nii", ".nii.gz", ".nrrd", ".mha")))
    if len(found) < 2:
        raise InputError(
            f"{folder}: {len(found)} label maps found, at least two are needed; give a folder of .nii.gz files"
        )
    return found


def train_teacher(
    labels: Path,
    out: Path,
    config: TrainingConfig,
    *,
    device: str,
    resume: bool,
    validate: Validation | None,
    show_progress: bool,
) -> Path:
    """Train the dense network, from scratch or from `config.initial`; returns `teacher.safetensors` in `out`."""
    spec = named_spec(config.network)
    if spec.output == "codes":
        raise InputError(f"recipe: {spec.name} is the encoder of a neural field; train it with `spikereg train nephi`")
    torch.manual_seed(config.weights_seed)
    network = AnalogUNet(training_spec(spec, config))
    before = None
    if config.initial:
        initial = find(config.initial, "ann")
        _start_from(network, load_model(initial, kind="analog"), config)
        before = read_header(initial).facts
    pairs = pair_generator(load_subjects(find_label_maps(labels)), config, device)
    last = train(
        network, pairs.pair, out, options=config.teacher, device=device, seed=config.seed,
        resume=resume, validate=validate, show_progress=show_progress,
    )  # fmt: skip
    return _export(network, out / "teacher.safetensors", config, labels, last, step="teacher", before=before)


def train_field(
    labels: Path, out: Path, config: TrainingConfig, *, device: str, resume: bool, validate: Validation | None,
    show_progress: bool,
) -> Path:  # fmt: skip
    """Train a neural deformation field with a dense encoder; returns `field.safetensors` in `out`.

    `config.initial` may be a neural field, or a U-Net whose layers the encoder shares.

    Raises:
        InputError: the recipe's network is no encoder, or does not fit its field.
    """
    torch.manual_seed(config.weights_seed)
    try:
        network = FieldNetwork(AnalogUNet(named_spec(config.network)), config.field)
    except ValueError as error:
        raise InputError(f"recipe: {error}; train nephi needs an encoder, such as field-codes-2mm") from error
    if config.initial:
        path = find(config.initial, "ann")
        if read_header(path).kind == "field":
            network.load_state_dict(load_field(path).state_dict())
        else:
            _start_from(network.encoder, load_model(path, kind="analog"), config)
    pairs = pair_generator(load_subjects(find_label_maps(labels)), config, device)
    last = train(
        network, pairs.pair, out, options=config.teacher, device=device, seed=config.seed, resume=resume,
        validate=validate, show_progress=show_progress, loss_of=_field_loss(config),
    )  # fmt: skip
    return _export(network, out / "field.safetensors", config, labels, last, step="teacher")


def _field_loss(config: TrainingConfig) -> Loss:
    def loss(
        network: FieldNetwork, pair: SyntheticPair, step: int, precision: Precision
    ) -> tuple[torch.Tensor, dict[str, float]]:
        seed = config.seed * 1_000_003 + step
        return field_objective(network, pair, config.field_weights, precision=precision, seed=seed)

    return loss


def _start_from(network: RegistrationUNet, initial: RegistrationUNet, config: TrainingConfig) -> None:
    """Copy the tensors of an initial model; layers that have another shape there keep their new weights, unless all of
    its layers have channels to spare: then those that carry most are copied."""
    if isinstance(initial, AnalogUNet) and can_narrow(network.spec, initial.spec):
        network.load_state_dict(narrowed_state(initial, network.spec))
        return
    tensors, known = network.state_dict(), initial.state_dict()
    same = {name: known[name] for name, value in tensors.items() if name in known and known[name].shape == value.shape}
    if 2 * len(same) < len(tensors):
        raise InputError(
            f"recipe: initial model {config.initial} fits {len(same)} of {len(tensors)} tensors of {config.network}; "
            "name a model with more of its layers"
        )
    network.load_state_dict({**tensors, **same})


def train_anatomy(
    labels: Path, out: Path, recipe: StructureTraining, *, resume: bool, show_progress: bool
) -> Path:  # fmt: skip
    """Train the network that names structures; returns `teacher.safetensors` or `spiking.safetensors` in `out`.

    Raises:
        InputError: a label map or the recipe cannot be used.
    """
    spec = named_spec(recipe.network)
    if spec.output != "structures":
        raise InputError(f"recipe: {spec.name} registers two images; take structures-2mm")
    if recipe.spiking and not recipe.initial:
        raise InputError("recipe: a spiking network begins as a dense one; name it with --initial")
    torch.manual_seed(recipe.weights_seed)
    network, before = AnalogUNet(spec), None
    if recipe.initial:
        file = find(recipe.initial, "spikereg")
        dense = load_model(file, kind="analog")
        if dense.spec != spec:
            raise InputError(f"{file}: made for the layers of {dense.spec.name}, not of {spec.name}; name another")
        network.load_state_dict(dense.state_dict())
        before = read_header(file).facts
    heads = load_heads(find_label_maps(labels))
    images = HeadGenerator(heads, options=recipe.heads, seed=recipe.seed)
    if recipe.spiking:
        seen = (images.image(CALIBRATION_START + number).image for number in range(recipe.calibration_images))
        with Precision.best("cpu").autocast():
            thresholds = calibrate(network.eval(), seen, (recipe.percentile,))[recipe.percentile]
        network = CountingUNet(network, thresholds)
    last = train_structures(network, images.image, out, recipe=recipe, resume=resume, show_progress=show_progress)
    step = "spiking" if recipe.spiking else "teacher"
    facts = _facts(labels, last, kind="images", step=step, steps=recipe.steps, seed=recipe.seed)
    facts["layout"] = layout_of(heads).to_json()
    if before:
        facts |= {"initial_weights": Path(recipe.initial).name, "before": before}
    path = out / f"{step}.safetensors"
    trained = convert(network, network.thresholds()) if isinstance(network, CountingUNet) else network
    save_model(trained, path, facts)
    return path


def convert_teacher(teacher_file: Path, labels: Path, out: Path, config: TrainingConfig, *, device: str) -> Path:
    """Calibrate on training pairs and convert; returns the model file `converted.safetensors` in `out`."""
    field = load_field(teacher_file, kind="field").to(device) if read_header(teacher_file).kind == "field" else None
    teacher = load_model(teacher_file, kind="analog").to(device) if field is None else field.encoder
    assert isinstance(teacher, AnalogUNet)
    spec, teacher.spec = teacher.spec, training_spec(teacher.spec, config)
    pairs = pair_generator(load_subjects(find_label_maps(labels)), config, device)

    def images() -> Any:
        for number in range(config.calibration_pairs):
            pair = pairs.pair(CALIBRATION_START + number)
            yield torch.cat((pair.fixed, pair.moving), 1)

    with Precision.best(device).autocast():
        thresholds = calibrate(teacher, images(), (config.percentile,))[config.percentile]
    network = convert(
        teacher.cpu(), {name: value.cpu() for name, value in thresholds.items()}, timesteps=config.timesteps
    )
    network.spec = spec.with_timesteps(config.timesteps)
    if field is not None:
        field.cpu().encoder = network
    facts = {**read_header(teacher_file).facts, "step": "convert", "percentile": config.percentile}
    facts["calibration_pairs"] = config.calibration_pairs
    path = out / "converted.safetensors"
    save_model(network if field is None else field, path, facts)
    return path


def finetune(
    model_file: Path, labels: Path, out: Path, config: TrainingConfig, *, device: str, resume: bool,
    validate: Validation | None, show_progress: bool, teacher_file: Path | None = None,
) -> Path:  # fmt: skip
    """Train a converted network through its closed form; returns the model file `spiking.safetensors` in `out`.

    Args:
        teacher_file: the dense network it was converted from, which a recipe with a weight `teacher` stays near to.

    Raises:
        InputError: the recipe has that weight and no teacher is given.
    """
    network: SpikingUNet | FieldNetwork
    loss_of, timesteps = None, config.finetune.timesteps or None
    if read_header(model_file).kind == "spiking-field":
        network, loss_of = load_field(model_file, timesteps=timesteps), _field_loss(config)
    else:
        unet = load_model(model_file, kind="spiking", timesteps=timesteps)
        assert isinstance(unet, SpikingUNet)
        unet.spec = training_spec(unet.spec, config)
        network = unet
    teacher = None
    if loss_of is None and config.finetune.weights.teacher > 0:
        if teacher_file is None:
            raise InputError("--teacher: the recipe stays near the dense teacher; name its teacher.safetensors")
        teacher = load_model(teacher_file, kind="analog").to(device)
        teacher.spec = training_spec(teacher.spec, config)
    pairs = pair_generator(load_subjects(find_label_maps(labels)), config, device)
    last = train(
        network, pairs.pair, out, options=config.finetune, device=device, seed=config.seed + 1,
        resume=resume, validate=validate, show_progress=show_progress, teacher=teacher, loss_of=loss_of,
    )  # fmt: skip
    return _export(
        network,
        out / "spiking.safetensors",
        config,
        labels,
        last,
        step="finetune",
        before=read_header(model_file).facts,
    )


def pair_generator(anatomies: list[Subject], config: TrainingConfig, device: str) -> PairGenerator | CropGenerator:
    """What draws the pairs of a recipe: whole heads, or crops after the coarse pass."""
    if config.coarse:
        coarse = load_model(find(config.coarse, "spikereg"))
        return CropGenerator(anatomies, coarse, options=config.synthetic, seed=config.seed, device=device)
    return PairGenerator(anatomies, options=config.synthetic, seed=config.seed, device=device)


def training_spec(spec: NetworkSpec, config: TrainingConfig) -> NetworkSpec:
    """The spec to train with: crops are standardised when they are drawn, with the statistics of the whole head."""
    return replace(spec, standardise=False) if config.coarse else spec


def _export(
    network: Trained, path: Path, config: TrainingConfig, labels: Path, last: dict[str, Any], *, step: str,
    before: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    steps = getattr(config, step).steps if step in ("teacher", "finetune") else 0
    facts = _facts(labels, last, kind="pairs", step=step, steps=steps, seed=config.seed)
    if before:
        facts["before"] = before
    if config.coarse and not isinstance(network, FieldNetwork):
        network.spec = replace(network.spec, standardise=True)
        facts["coarse_pass"] = Path(config.coarse).name
    if config.initial:
        facts["initial_weights"] = Path(config.initial).name
    facts["processes"] = Processes.joined().count
    if Processes.joined().first:
        save_model(network, path, json.loads(json.dumps(facts)))
    return path


def _facts(labels: Path, last: dict[str, Any], *, kind: str, step: str, steps: int, seed: int) -> dict[str, Any]:
    """What every model file says of its training."""
    return {
        "step": step,
        "training_data": f"synthetic {kind} drawn from {len(find_label_maps(labels))} label maps",
        "steps": steps,
        "seconds": last.get("seconds"),
        "last_log_entry": last,
        "seed": seed,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"spikereg": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
    }
