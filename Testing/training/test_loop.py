"""The training loop: it learns, its log says what happened, and an interrupted run ends as an uninterrupted one."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_heads import head
from trainees import SPEC, new_network

from SpikeRegLib.errors import InputError
from SpikeRegLib.spiking.unet import RegistrationUNet, SpikingUNet
from SpikeRegLib.training.loop import LoopOptions, make_optimiser, train
from SpikeRegLib.training.objective import ObjectiveWeights
from SpikeRegLib.training.synthetic import PairGenerator, SyntheticPair

QUICK = ObjectiveWeights(window=5, operations=0.0)
SIX = LoopOptions(
    steps=6, warmup=2, learning_rate=1e-2, second_pass=0.5, second_pass_from=0.0, freeze_normalisation_from=0.6,
    checkpoint_every=3, log_every=1, threshold_learning_rate=0.5, weights=QUICK,
)  # fmt: skip


@pytest.fixture(scope="module")
def generator() -> PairGenerator:
    return PairGenerator([head("one"), head("two", size=0.9)], seed=3)


def run(network: RegistrationUNet, pairs, folder: Path, **options) -> dict:
    return train(network, pairs, folder, show_progress=False, seed=2, **options)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["analog", "spiking"])
@pytest.mark.parametrize("interrupted_at", [3, 5])
@pytest.mark.parametrize("echoes", [0, 1])
def test_a_resumed_run_ends_in_the_same_bits(
    kind: str, interrupted_at: int, echoes: int, tmp_path: Path, generator: PairGenerator
) -> None:
    through = new_network(kind)
    settings = {"options": replace(SIX, echoes=echoes, weights=replace(QUICK, teacher=float(echoes)))}
    settings["teacher"] = new_network("analog", seed=5).eval() if echoes else None
    entry = run(through, generator.pair, tmp_path / "through", **settings)

    def until(step: int) -> SyntheticPair:
        if step == interrupted_at:
            raise KeyboardInterrupt
        return generator.pair(step)

    with pytest.raises(KeyboardInterrupt):
        run(new_network(kind), until, tmp_path / "resumed", **settings)
    resumed = new_network(kind, seed=77)  # everything has to come from the checkpoint
    torch.rand(3)
    last = run(resumed, generator.pair, tmp_path / "resumed", resume=True, **settings)
    for name, value in through.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert {**last, "seconds": 0} == {**entry, "seconds": 0}
    passes = [entry["pass"] for entry in log(tmp_path / "through")]
    assert set(passes) == {1, 2}, "both kinds of steps are resumed"
    untrained = new_network(kind).state_dict()
    assert not torch.equal(through.state_dict()["weights.enc1_conv"], untrained["weights.enc1_conv"])


@pytest.mark.parametrize("kind", ["analog", "spiking"])
def test_one_pair_is_learned(kind: str, tmp_path: Path, generator: PairGenerator) -> None:
    pair = generator.pair(2)
    options = LoopOptions(
        steps=16, warmup=1, learning_rate=3e-3, second_pass=0.0, freeze_normalisation_from=1.0, log_every=1,
        weights=ObjectiveWeights(window=5, smoothness=0.1, dice=0.5),
    )  # fmt: skip
    run(new_network(kind, image=torch.cat((pair.fixed, pair.moving), 1)), lambda step: pair, tmp_path, options=options)
    entries = log(tmp_path)
    assert [entry["step"] for entry in entries] == list(range(1, 17))
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.15
    assert entries[-1]["lncc"] > entries[0]["lncc"] + 0.1
    assert entries[-1]["dice"] > entries[0]["dice"] + 0.1


def test_the_operations_term_makes_a_network_quieter(tmp_path: Path, generator: PairGenerator) -> None:
    pair = generator.pair(1)
    shares = {}
    for weight in (0.0, 20.0):
        options = LoopOptions(
            steps=10, warmup=1, learning_rate=1e-2, second_pass=0.0, log_every=1,
            weights=ObjectiveWeights(window=5, operations=weight or 1e-9),
        )  # fmt: skip
        run(new_network("spiking"), lambda step: pair, tmp_path / str(weight), options=options)
        shares[weight] = log(tmp_path / str(weight))[-1]["operations_share"]
    assert shares[20.0] < 0.8 * shares[0.0]


def test_echoes_bring_a_network_nearer_to_its_teacher(tmp_path: Path, generator: PairGenerator) -> None:
    weights = ObjectiveWeights(window=5, dice=0.0, teacher=2.0)
    teacher, distance = new_network("analog").eval(), {}
    with torch.no_grad():
        teacher.weights["head"].mul_(30)  # type: ignore[index, union-attr]
    for echoes in (0, 4):
        options = LoopOptions(
            steps=6, warmup=1, learning_rate=1e-2, second_pass=0.0, log_every=1, weights=weights, echoes=echoes
        )
        folder = tmp_path / str(echoes)
        run(new_network("spiking"), generator.pair, folder, options=options, teacher=teacher)
        distance[echoes] = [entry["teacher_distance"] for entry in log(folder)]
        assert ("echo_distance" in log(folder)[0]) == (echoes > 0)
    assert distance[4][0] == distance[0][0]
    assert distance[4][-1] < 0.8 * distance[0][-1]


def test_echoes_need_a_teacher_or_labels(tmp_path: Path, generator: PairGenerator) -> None:
    options = replace(SIX, echoes=1)
    with pytest.raises(InputError, match=r"echoes need a weight on the distance to the teacher or on labels"):
        run(new_network("spiking"), generator.pair, tmp_path / "alone", options=options)
    ends = {}
    for weight in (0.5, 5.0):
        network = new_network("spiking")
        labelled = replace(options, weights=replace(options.weights, echo_dice=weight))
        run(network, generator.pair, tmp_path / str(weight), options=labelled)
        assert "echo_distance" not in log(tmp_path / str(weight))[0]
        ends[weight] = torch.cat([value.flatten() for value in network.state_dict().values()])
    assert not torch.equal(ends[0.5], ends[5.0]), "the overlap of echoes trains"


def test_the_log_and_the_validation_follow_the_options(tmp_path: Path, generator: PairGenerator) -> None:
    calls = []

    def validate(network: RegistrationUNet) -> dict[str, float]:
        assert not network.training
        calls.append(1)
        return {"dice": 0.25}

    options = LoopOptions(
        steps=5, log_every=2, checkpoint_every=3, second_pass=0.0, weights=ObjectiveWeights(window=5, dice=0.0)
    )
    network = new_network("analog").train()
    last = run(network, generator.pair, tmp_path, options=options, validate=validate)
    entries = log(tmp_path)
    assert [entry["step"] for entry in entries if "lncc" in entry] == [2, 4, 5]
    assert [entry["step"] for entry in entries if "validation" in entry] == [3, 5] and len(calls) == 2
    assert last == entries[-2] and not network.training
    assert all(entry["pass"] == 1 and entry["gradient_norm"] > 0 for entry in entries if "lncc" in entry)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors", "log.jsonl"]


def test_normalisation_is_frozen_when_the_options_say_so(tmp_path: Path, generator: PairGenerator) -> None:
    tracked = []

    def pairs(step: int) -> SyntheticPair:
        tracked.append(int(network.state_dict()["norms.enc0_down.num_batches_tracked"]))
        return generator.pair(step)

    network = new_network("analog")
    options = LoopOptions(steps=4, freeze_normalisation_from=0.5, second_pass=1.0, second_pass_from=0.0, weights=QUICK)
    run(network, pairs, tmp_path, options=options)
    assert tracked == [0, 1, 2, 2]  # one update a step, none by the first pass, none once frozen


@pytest.mark.parametrize("kind", ["analog", "spiking"])
def test_a_pair_that_is_not_finite_moves_nothing(kind: str, tmp_path: Path, generator: PairGenerator) -> None:
    good = generator.pair(0)
    bad = SyntheticPair(good.fixed * torch.nan, good.moving, good.fixed_shares, good.moving_shares)
    network, before = new_network(kind), new_network(kind)
    options = LoopOptions(steps=1, weights=QUICK)
    run(network, lambda step: bad, tmp_path, options=options)
    assert log(tmp_path)[-1]["skipped"] == 1 and log(tmp_path)[-1]["gradient_norm"] is None
    for name, value in before.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    options = LoopOptions(steps=100, warmup=10, learning_rate=1.0)
    rates = [options.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] and rates[9] > 0.95
    assert all(after < before for before, after in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.001


def test_thresholds_learn_at_a_rate_of_their_own() -> None:
    network = SpikingUNet(SPEC)
    others, thresholds = make_optimiser(network, LoopOptions(threshold_learning_rate=0.25)).param_groups
    assert {id(p) for p in thresholds["params"]} == {id(p) for p in network.log_thresholds.values()}
    assert (others["factor"], thresholds["factor"]) == (1.0, 0.25)
    assert len(others["params"]) + len(thresholds["params"]) == len(list(network.parameters()))


def test_resuming_a_finished_run_returns_its_last_entry_and_changes_nothing(
    tmp_path: Path, generator: PairGenerator
) -> None:
    first = new_network("analog")
    entry = run(first, generator.pair, tmp_path, options=SIX)
    again = new_network("analog", seed=5)
    assert run(again, generator.pair, tmp_path, options=SIX, resume=True) == entry
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_resumed_log_says_every_step_once(tmp_path: Path, generator: PairGenerator) -> None:
    def until(step: int) -> SyntheticPair:
        if step == 5:
            raise KeyboardInterrupt
        return generator.pair(step)

    with pytest.raises(KeyboardInterrupt):
        run(new_network("analog"), until, tmp_path, options=SIX)
    run(new_network("analog"), generator.pair, tmp_path, options=SIX, resume=True)
    assert [entry["step"] for entry in log(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_resuming_with_other_options_is_refused_by_name(tmp_path: Path, generator: PairGenerator) -> None:
    run(new_network("analog"), generator.pair, tmp_path, options=SIX)
    with pytest.raises(InputError, match="different options"):
        run(new_network("analog"), generator.pair, tmp_path, options=replace(SIX, learning_rate=1e-3), resume=True)


def test_resuming_with_other_neurons_is_refused_by_name(tmp_path: Path, generator: PairGenerator) -> None:
    run(new_network("spiking"), generator.pair, tmp_path, options=replace(SIX, steps=2))
    other = SpikingUNet(SPEC, input_coding="poisson", seed=1)
    with pytest.raises(InputError, match="different neurons"):
        run(other, generator.pair, tmp_path, options=replace(SIX, steps=2), resume=True)
