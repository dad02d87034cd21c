"""The promised Python interface, as its documentation writes it."""

from __future__ import annotations

import brains
import numpy as np
import pytest
import torch

from SpikeRegLib import SpikeRegInference, SpikeRegTrainer, SpikeRegUNet, load_config, read_image
from SpikeRegLib.errors import InputError
from SpikeRegLib.frames import Frame
from SpikeRegLib.images import Volume, write_volume
from SpikeRegLib.models import save_model
from SpikeRegLib.training.loop import LoopOptions


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
    warped = SpikeRegInference("brain-t1").apply_deformation(array, shift)
    assert np.allclose(warped.data[..., :-1].numpy(), array[..., :-1] + 0.5)


def test_arrays_that_do_not_fit_are_named(registered):
    model, result, _ = registered
    with pytest.raises(InputError, match=r"moving: an array \[4, 4, 4\] does not fit"):
        model.apply_deformation(np.zeros((4, 4, 4)), result)
    with pytest.raises(InputError, match=r"deformation_field: \[3, 5, 5, 5\] does not fit"):
        model.apply_deformation(np.zeros((4, 4, 4)), np.zeros((3, 5, 5, 5)))


def test_the_kind_of_the_weights_decides_the_method():
    assert SpikeRegInference("brain-t1").method == "spikereg"
    assert SpikeRegInference("brain-t1-teacher").method == "ann"
    with pytest.raises(InputError, match="'liver': not shipped"):
        SpikeRegInference("liver")


def test_a_network_from_a_recipe_is_trained_saved_and_used(known, tmp_path, quick):
    """SpikeRegUNet(config), SpikeRegTrainer(model, config).train(...), then registration with the new weights."""
    from dataclasses import replace

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
    with pytest.raises(ValueError, match="one pair at a time"):
        trainer.train([(torch.zeros(2, 1, 16, 16, 16), torch.zeros(2, 1, 16, 16, 16))])
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
        ("timesteps = 0", "timesteps: must be at least 1"),
        ("percentile = 101", "percentile: must be in"),
        ("steps = 3", "unknown field steps"),
        ("[teacher]\nsteps = 'many'", "field teacher.steps must be int"),
        ("timesteps = ", "mine.toml: "),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_config(file)


def test_volumes_and_files_give_the_same_registration(registered, known):
    model, result, folder = registered
    again = model.register(read_image(folder / "fixed.nii.gz"), read_image(folder / "moving.nii.gz"))
    assert torch.equal(again.displacement, result.displacement)
    assert (
        isinstance(again.fixed.frame, Frame) and brains.error_mm(again.transform, result.transform, known.points) == 0
    )
