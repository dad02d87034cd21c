"""Training the network that names structures: its loss, its optimiser, its normalisation, and runs that resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from whole_heads import GRID, write

from SpikeRegLib.anatomy.logits import voxel_logits
from SpikeRegLib.cli import main
from SpikeRegLib.errors import InputError
from SpikeRegLib.models import load_model, read_header, save_model
from SpikeRegLib.spiking.conversion import calibrate, convert
from SpikeRegLib.spiking.spec import NetworkSpec, structures_unet, velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet
from SpikeRegLib.training.structures.counting import CountingUNet
from SpikeRegLib.training.structures.heads import load_heads
from SpikeRegLib.training.structures.images import HeadGenerator, HeadOptions
from SpikeRegLib.training.structures.loop import train_structures
from SpikeRegLib.training.structures.objective import at_places, some_places, structure_loss
from SpikeRegLib.training.structures.optimiser import MuonAdam, orthogonal
from SpikeRegLib.training.structures.recipe import StructureTraining, load_recipe
from SpikeRegLib.training.structures.renormalisation import BatchRenormalisation, allow, renormalised

SHORT = StructureTraining(
    steps=4, checkpoint_every=2, log_every=1, warmup=1, renormalised_after=2, heads=HeadOptions(shape=(32, 32, 32))
)
SPIKING = structures_unet(encoder=(4, 6, 8, 8), decoder=(8, 6, 4)).spiking_layers


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> HeadGenerator:
    heads = load_heads([write(tmp_path_factory.mktemp("maps") / "a.nii.gz")], GRID)
    return HeadGenerator(heads, options=SHORT.heads, seed=1)


def two_maps(folder: Path) -> Path:
    """A folder in `folder` with label maps of two heads."""
    maps = folder / "maps"
    maps.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        write(maps / name)
    return maps


def new_network() -> AnalogUNet:
    torch.manual_seed(0)
    return AnalogUNet(structures_unet(encoder=(4, 6, 8, 8), decoder=(8, 6, 4)))


def test_a_network_of_one_image_keeps_its_spec_and_files_of_pairs_stay_as_they_are():
    spec = structures_unet()
    assert NetworkSpec.from_json(spec.to_json()) == spec and spec.channels["image"] == 1
    assert "image_channels" not in velocity_unet().to_json()
    assert spec.head.out_channels == 8 * 33 and spec.output_stride() == 2


def test_places_of_a_patch_are_the_voxels_that_its_logits_are_put_at():
    output, places = torch.randn(1, 8 * 3, 2, 3, 4), [0, 3, 5, 6]
    whole = voxel_logits(output)[0]
    parts = output[0].unflatten(0, (3, 8))
    assert whole.shape == (3, 4, 6, 8)
    for number, place in enumerate(places):
        for kind in range(3):
            assert torch.equal(at_places(whole[kind], places)[number], parts[kind, place])


def test_every_place_of_a_patch_has_its_turn():
    chosen = [some_places(2, seed) for seed in range(40)]
    assert {place for places in chosen for place in places} == set(range(8))
    assert all(len(set(places)) == 2 for places in chosen)


def test_the_loss_is_that_of_its_definition_and_leaves_out_classes_that_are_not_there():
    torch.manual_seed(1)
    logits, classes = torch.randn(2, 4, 3, 3, 3), torch.randint(0, 3, (2, 3, 3, 3))
    share = logits.softmax(1)
    overlaps = []
    for kind in range(3):
        there = classes == kind
        meet, size = share[:, kind][there].sum(), share[:, kind].sum() + there.sum()
        overlaps.append((2 * meet + 1) / (size + 1))
    entropy = torch.nn.functional.cross_entropy(logits, classes)
    loss, terms = structure_loss(logits, classes)
    assert torch.allclose(loss, entropy + 1 - torch.stack(overlaps).mean())
    assert terms["dice"] == pytest.approx(float(torch.stack(overlaps).mean()), abs=1e-4)


def test_orthogonal_updates_move_every_direction_alike():
    torch.manual_seed(2)
    for shape in ((8, 40), (40, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(*shape) @ torch.diag(torch.logspace(-1, 1, shape[1]))))
        assert float(values.min()) > 0.3 and float(values.max()) < 1.3


def test_the_rest_is_updated_as_adam_does():
    torch.manual_seed(3)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    mine = MuonAdam([{"params": [ours], "orthogonal": False, "lr": 0.01}])
    adam = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.98))
    for _ in range(5):
        gradient = torch.randn(5)
        for parameter, optimiser in ((ours, mine), (theirs, adam)):
            parameter.grad = gradient.clone()
            optimiser.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_renormalisation_is_batch_normalisation_at_first_and_the_running_statistics_at_last():
    torch.manual_seed(4)
    usual = torch.nn.BatchNorm3d(3, momentum=0.02)
    usual.running_mean.uniform_(-0.3, 0.3)
    usual.running_var.uniform_(0.5, 2)
    ours = BatchRenormalisation(3, momentum=0.02)
    ours.load_state_dict(usual.state_dict())
    x = torch.randn(1, 3, 4, 5, 6) * 1.3 + 0.2
    later = usual.eval()(x)
    assert torch.allclose(ours.train()(x), usual.train()(x), atol=1e-5)
    ours.running_mean.copy_(usual.eval().running_mean)
    ours.load_state_dict({**ours.state_dict(), "running_mean": later.new_zeros(3), "running_var": later.new_ones(3)})
    ours.most_scale, ours.most_shift = 1e9, 1e9
    assert torch.allclose(ours.train()(x), x / (1 + ours.eps) ** 0.5, atol=1e-5)


def test_a_run_that_resumes_ends_in_the_same_weights(images, tmp_path):
    whole, parted = new_network(), new_network()
    train_structures(whole, images.image, tmp_path / "whole", recipe=SHORT, show_progress=False)

    def until_three(step: int):
        if step == 3:
            raise KeyboardInterrupt
        return images.image(step)

    with pytest.raises(KeyboardInterrupt):
        train_structures(parted, until_three, tmp_path / "parted", recipe=SHORT, show_progress=False)
    resumed = new_network()
    last = train_structures(resumed, images.image, tmp_path / "parted", recipe=SHORT, resume=True, show_progress=False)
    assert last["step"] == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    changed = dataclasses.replace(SHORT, turning_rate=0.01)
    with pytest.raises(InputError, match="another run"):
        train_structures(
            new_network(), images.image, tmp_path / "parted", recipe=changed, resume=True, show_progress=False
        )


def test_training_lowers_the_loss_of_the_image_it_sees(images, tmp_path):
    recipe = dataclasses.replace(SHORT, steps=12, places=8, learning_rate=0.05, constant=1.0)
    drawn = images.image(0)
    last = train_structures(new_network(), lambda _: drawn, tmp_path, recipe=recipe, show_progress=False)
    first = json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert last["loss"] < 0.8 * first["loss"]


def test_allowing_changes_every_normalisation():
    network = renormalised(new_network())
    allow(network, 1.0)
    assert {(norm.most_scale, norm.most_shift) for norm in network.norms.values()} == {(3.0, 5.0)}


def test_the_command_trains_from_label_maps_and_its_network_registers_nothing(tmp_path, capsys):
    maps = two_maps(tmp_path)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text("steps = 1\nwarmup = 1\n[heads]\nshape = [32, 32, 32]\n", encoding="utf-8")
    command = ["train", "anatomy", "--labels", str(maps), "--out", str(tmp_path / "out"), "--recipe", str(recipe)]
    assert main([*command, "--no-progress"]) == 0
    teacher = tmp_path / "out" / "teacher.safetensors"
    network = load_model(teacher, kind="analog")
    assert network.spec == structures_unet()
    assert network(torch.rand(1, 1, 32, 32, 32)).shape == (1, 8 * 33, 16, 16, 16)
    capsys.readouterr()
    assert main(command) == 2 and "holds a run already" in capsys.readouterr().err
    image = str(maps / "a.nii.gz")
    registration = ["register", image, image, "--out", str(tmp_path / "r"), "--method", "ann", "--model", str(teacher)]
    assert main(registration) == 2
    assert "names structures" in capsys.readouterr().err


def test_what_is_trained_for_counts_is_the_network_that_fires(images):
    teacher = renormalised(new_network()).train()
    allow(teacher, 1.0)
    for step in range(3):
        teacher(images.image(step).image)
    seen = images.image(3).image
    thresholds = calibrate(teacher.eval(), [seen], (99.0,))[99.0]
    counting = renormalised(CountingUNet(teacher, thresholds)).eval()
    with torch.no_grad():
        given, fired = counting(seen), convert(counting, counting.thresholds())(seen)
        dense = teacher(seen)
    # A drive that lies on the edge between two counts may fall to either side.
    off = (given - fired).abs() > 1e-4 * given.abs().max()
    assert float(off.float().mean()) < 0.01
    assert float((dense - fired).abs().mean()) > 100 * float((given - fired).abs().mean())


def test_thresholds_learn_and_what_they_clip_has_no_gradient():
    counting = CountingUNet(new_network(), {layer.name: torch.ones(layer.out_channels) for layer in SPIKING})
    layer = SPIKING[0]
    drive = torch.full((1, layer.out_channels, 2, 2, 2), 0.4, requires_grad=True)
    counting._activation(layer, drive).sum().backward()
    assert torch.equal(drive.grad, torch.ones_like(drive))
    clipped = torch.full_like(drive, 1.5, requires_grad=True)
    (got := counting._activation(layer, clipped)).sum().backward()
    assert torch.equal(got, torch.ones_like(got)) and not clipped.grad.any()
    grown = counting.log_thresholds["enc0_down"].grad
    assert grown is not None and float(grown.min()) > 0


def test_the_command_makes_the_dense_network_spike(tmp_path, capsys):
    maps = two_maps(tmp_path)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "steps = 1\nwarmup = 1\ncalibration_images = 1\n[heads]\nshape = [32, 32, 32]\n", encoding="utf-8"
    )
    torch.manual_seed(5)
    save_model(AnalogUNet(structures_unet()), tmp_path / "dense.safetensors", {"steps": 7})
    save_model(new_network(), tmp_path / "small.safetensors", {})
    begin = ["train", "anatomy", "--labels", str(maps), "--out", str(tmp_path / "out"), "--recipe", str(recipe)]
    command = [*begin, "--no-progress", "--spiking"]
    assert main(command) == 2 and "name it with --initial" in capsys.readouterr().err
    assert main([*command, "--initial", str(tmp_path / "small.safetensors")]) == 2
    assert "made for the layers of" in capsys.readouterr().err
    assert main([*command, "--initial", str(tmp_path / "dense.safetensors")]) == 0
    network = load_model(tmp_path / "out" / "spiking.safetensors", kind="spiking")
    assert network.spec == structures_unet()
    facts = read_header(tmp_path / "out" / "spiking.safetensors").facts
    assert (
        facts["step"] == "spiking" and facts["initial_weights"] == "dense.safetensors" and facts["before"]["steps"] == 7
    )
    assert network(torch.rand(1, 1, 32, 32, 32)).shape == (1, 8 * 33, 16, 16, 16)


def test_the_shipped_recipe_is_read_and_a_wrong_field_is_named(tmp_path):
    assert load_recipe().network == "structures-2mm"
    bad = tmp_path / "bad.toml"
    bad.write_text("places = 9\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.toml.*places.*between 1 and 8"):
        load_recipe(bad)
