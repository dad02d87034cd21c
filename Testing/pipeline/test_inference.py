"""The promised Python interface, as its documentation writes it."""

from __future__ import annotations

from dataclasses import replace

import brains
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from SpikeRegLib import SpikeRegInference, SpikeRegTrainer, SpikeRegUNet, load_config, read_image
from SpikeRegLib.errors import InputError
from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.models import load_model, read_header, save_model
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.training.config import TrainingConfig
from SpikeRegLib.training.loop import LoopOptions
from SpikeRegLib.training.trainer import as_pair


@pytest.fixture(scope="module")
def registered(known, tmp_path_factory):
    """A pair of files registered with one call."""
    folder = tmp_path_factory.mktemp("pair")
    write_volume(known.fixed, folder / "fixed.nii.gz")
    write_volume(known.moving, folder / "moving.nii.gz")
    start = known.truth.transforms[1]
    model = SpikeRegInference("brain-t1", preset="fast-preview", threads=1, device="cpu", initial_transform=start)
    return model, model.register(folder / "fixed.nii.gz", folder / "moving.nii.gz"), folder


def test_a_registered_pair_and_its_deformation(registered, known):
    model, result, folder = registered
    assert result.result["method"] == "spikereg" and result.result["preset"] == "fast-preview"
    assert result.result["similarity"]["lncc_after"] > result.result["similarity"]["lncc_before"]
    scale = float(result.warped.data.max())
    ways = {
        "file, registration": model.apply_deformation(folder / "moving.nii.gz", result),
        "volume, transform": model.apply_deformation(known.moving, result.transform, frame=known.fixed.frame),
        "array, registration": model.apply_deformation(known.moving.data.numpy(), result),
        "volume, vectors": model.apply_deformation(known.moving, result.displacement, frame=known.fixed.frame),
        "volume, array": model.apply_deformation(known.moving, result.displacement.numpy(), frame=known.fixed.frame),
    }
    for way, warped in ways.items():
        assert warped.frame.shape == known.fixed.frame.shape, way
        assert float((warped.data - result.warped.data).abs().max()) < 1e-3 * scale, way


def test_labels_keep_their_values(registered, known, tmp_path):
    model, result, _ = registered
    labels = Volume((known.moving.data > 60).to(torch.int16) * 7, known.moving.frame)
    write_volume(labels, tmp_path / "seg.nii.gz")
    expected = model.apply_deformation(labels, result, labels=True)
    assert set(expected.data.unique().tolist()) == {0, 7}
    for given in (tmp_path / "seg.nii.gz", labels.data.numpy()):
        assert torch.equal(model.apply_deformation(given, result, labels=True).data, expected.data)


def test_a_bare_array_of_whole_numbers_is_an_image():
    array = np.arange(16**3, dtype=np.int16).reshape(16, 16, 16)
    shift = torch.zeros(3, 16, 16, 16)
    shift[0] = 0.5
    with pytest.warns(UserWarning, match="moving: a bare array, taken as voxels of 1 mm"):
        warped = SpikeRegInference("brain-t1").apply_deformation(array, shift)
    assert np.allclose(warped.data[..., :-1].numpy(), array[..., :-1] + 0.5)


def test_arrays_that_do_not_fit_are_named(registered):
    model, result, _ = registered
    with pytest.raises(InputError, match=r"moving: an array \[4, 4, 4\] does not fit"):
        model.apply_deformation(np.zeros((4, 4, 4)), result)
    with pytest.raises(InputError, match=r"deformation_field: \[3, 5, 5, 5\] does not fit"):
        model.apply_deformation(np.zeros((4, 4, 4)), np.zeros((3, 5, 5, 5)), spacing=1.0)


def test_the_kind_of_the_weights_decides_the_method():
    assert SpikeRegInference("brain-t1").method == "spikereg"
    assert SpikeRegInference("brain-t1-teacher").method == "ann"
    with pytest.raises(InputError, match="'liver': not shipped"):
        SpikeRegInference("liver")


def test_a_network_from_a_recipe_is_trained_saved_and_used(known, tmp_path, quick):
    """SpikeRegUNet(config), SpikeRegTrainer(model, config).train(...), then registration with the new weights."""
    config = replace(load_config("brain-t1"), finetune=LoopOptions(learning_rate=1e-3, warmup=1))
    torch.manual_seed(0)
    model = SpikeRegUNet(config)
    assert model.spec.timesteps == config.timesteps
    noise = torch.rand(2, 48, 48, 48, generator=torch.Generator().manual_seed(1))
    pairs = [{"fixed": noise[0], "moving": noise[1]}, (noise[1], noise[0])]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = SpikeRegTrainer(model, config).train(pairs, pairs[:1], num_epochs=1, folder=tmp_path / "run")
    assert history["step"] == 2 and 0 <= history["validation"]["lncc"] <= 1
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    save_model(model, tmp_path / "mine.safetensors", {"seed": 0})
    found = SpikeRegInference(tmp_path / "mine.safetensors", preset="fast-preview").register(
        known.fixed, known.moving, skip_affine=True, threads=1, device="cpu"
    )
    assert found.result["model"]["name"] == "mine"
    after, start = (found.result["similarity"][key] for key in ("lncc_after", "lncc_aligned"))
    assert after >= start or found.result["warnings"]


def test_the_trainer_names_what_it_cannot_use():
    config = load_config("brain-t1")
    trainer = SpikeRegTrainer(SpikeRegUNet(config), config)
    with pytest.raises(InputError, match="train_loader: empty"):
        trainer.train([])
    with pytest.raises(ValueError, match="with one channel"):
        trainer.train([(torch.zeros(1, 2, 16, 16, 16), torch.zeros(1, 2, 16, 16, 16))])
    with pytest.raises(InputError, match="num_epochs: must be at least 1"):
        trainer.train([(torch.zeros(16, 16, 16), torch.zeros(16, 16, 16))], num_epochs=0)
    with pytest.raises(InputError, match="val_loader: empty"):
        trainer.similarity([])
    with pytest.raises(InputError, match=r"best.pth: weights are written as .safetensors"):
        trainer.save("best.pth")
    with pytest.raises(InputError, match="config: unknown field netwrok"):
        SpikeRegTrainer(trainer.model, {"netwrok": "paper"})
    with pytest.raises(InputError, match="network: unknown network spec 'papper'"):
        SpikeRegUNet({"network": "papper"})
    with pytest.raises(ValueError, match="differ in shape"):
        trainer.train([(torch.zeros(16, 16, 16), torch.zeros(16, 16, 17))])
    config = load_config("brain-t1-labels")  # echoes by labels, which these pairs have not
    with pytest.raises(InputError, match="echoes need a weight on the distance to the teacher or on labels"):
        SpikeRegTrainer(SpikeRegUNet(config), config).train([(torch.zeros(16, 16, 16), torch.zeros(16, 16, 16))])


def test_recipes_are_checked(tmp_path):
    with pytest.raises(
        InputError, match=r"recipe 'liver': unknown; choose one of .*brain-t1, brain-t1-cortex, brain-t1-fine"
    ):
        load_config("liver")
    file = tmp_path / "mine.toml"
    for text, message in (
        ("timesteps = 0", "timesteps: must be between 1 and"),
        ("percentile = 101", "percentile: must be between 0.001 and 100"),
        ("steps = 3", "unknown field steps"),
        ("[teacher]\nsteps = 'many'", "field teacher.steps must be int"),
        ("timesteps = ", "mine.toml: "),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_config(file)


PAIRS = torch.rand(4, 2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))


def trained(loader, *, echoes: int = 0, epochs: int = 1) -> SpikeRegUNet:
    """A small network after some steps."""
    options = LoopOptions(learning_rate=1e-3, warmup=1, second_pass=1.0, second_pass_from=0.0, echoes=echoes)
    weights = replace(options.weights, operations=0.5, operations_target=0.0, window=5)
    torch.manual_seed(0)
    model = SpikeRegUNet(velocity_unet("tiny", encoder=(4, 6), decoder=(4,)))
    SpikeRegTrainer(model, TrainingConfig(finetune=replace(options, weights=weights))).train(loader, num_epochs=epochs)
    return model


def test_a_step_follows_the_mean_gradient_of_its_batch(monkeypatch):
    """The same pair twice is that pair once; of two pairs, the order does not matter and both count."""
    stack = DataLoader([(fixed, moving) for fixed, moving in PAIRS[:2]], batch_size=2)
    turned = DataLoader([(fixed, moving) for fixed, moving in PAIRS[:2].flip(0)], batch_size=2)
    alone = DataLoader([(fixed, moving) for fixed, moving in PAIRS[:1]])
    twice = DataLoader([(fixed, moving) for fixed, moving in PAIRS[[0, 0]]], batch_size=2)
    gradients = {}
    for name, loader in (("stack", stack), ("turned", turned), ("alone", alone), ("twice", twice)):
        kept = []
        real = torch.nn.utils.clip_grad_norm_

        def keep(parameters, most, kept=kept, real=real):
            parameters = list(parameters)
            kept.append(torch.cat([p.grad.flatten() for p in parameters]))
            return real(parameters, most)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
        trained(loader)
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", real)
        assert len(kept) == 1, "one step"
        gradients[name] = kept[0]
    scale = gradients["alone"].norm()
    assert (gradients["twice"] - gradients["alone"]).norm() < 1e-3 * scale
    assert (gradients["stack"] - gradients["turned"]).norm() < 1e-3 * scale
    assert (gradients["stack"] - gradients["alone"]).norm() > 0.05 * scale


def test_a_batch_is_read_in_every_form_a_loader_gives_it():
    wanted = as_pair((PAIRS[:3, 0], PAIRS[:3, 1]))
    assert wanted.fixed.shape == (3, 1, 16, 16, 16) and len(wanted.members()) == 3
    plain = PAIRS[:, :, 0]  # [D, H, W] each
    for loader in (
        DataLoader([{"fixed": f, "moving": m} for f, m in PAIRS[:3]], batch_size=3),
        DataLoader([(f, m) for f, m in plain[:3]], batch_size=3),
        DataLoader([(f[None], m[None]) for f, m in PAIRS[:3]], batch_size=3),
    ):
        (item,) = list(loader)
        pair = as_pair(item)
        assert torch.equal(pair.fixed, wanted.fixed) and torch.equal(pair.moving, wanted.moving)
        for number, member in enumerate(pair.members()):
            assert torch.equal(member.fixed[0], PAIRS[number, 0])
    trainer = SpikeRegTrainer(SpikeRegUNet(velocity_unet("tiny", encoder=(4, 6), decoder=(4,))), TrainingConfig())
    one_by_one = trainer.similarity([(f, m) for f, m in PAIRS])
    assert trainer.similarity(DataLoader([(f, m) for f, m in PAIRS], batch_size=3)) == pytest.approx(one_by_one)


def test_poisson_input_trains_the_first_layer(tmp_path):
    """Its spikes are drawn, yet the weights that read them get a gradient; and the saved network draws the same."""
    torch.manual_seed(0)
    spec = velocity_unet("tiny", encoder=(4, 6), decoder=(4,))
    model = SpikeRegUNet(spec, input_coding="poisson", seed=5)
    before = model.weights["enc0_down"].detach().clone()
    trainer = SpikeRegTrainer(model, TrainingConfig(finetune=LoopOptions(learning_rate=1e-2, warmup=1)))
    trainer.train([(f, m) for f, m in PAIRS[:2]], num_epochs=1)
    assert not torch.equal(model.weights["enc0_down"].detach(), before)
    image = PAIRS[:1, :, 0]
    for bits in (16, 8):
        loaded = load_model(trainer.save(tmp_path / f"{bits}.safetensors", weight_bits=bits))
        assert (loaded.input_coding, loaded.seed) == ("poisson", 5)
        with torch.no_grad():
            wanted, got = model(image), loaded(image)
        assert (got - wanted).norm() < 0.5 * wanted.norm() or float(wanted.norm()) == 0
    assert read_header(tmp_path / "8.safetensors").facts["steps"] == 2
    assert (tmp_path / "8.safetensors").stat().st_size < (tmp_path / "16.safetensors").stat().st_size


def test_volumes_and_files_give_the_same_registration(registered, known):
    model, result, folder = registered
    again = model.register(read_image(folder / "fixed.nii.gz"), read_image(folder / "moving.nii.gz"))
    assert torch.equal(again.displacement, result.displacement)
    assert (
        isinstance(again.fixed.frame, Frame) and brains.error_mm(again.transform, result.transform, known.points) == 0
    )
