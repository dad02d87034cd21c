"""The objective: its terms are what they are called, and passes are composed, never added."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_heads import head
from torch.nn import functional
from trainees import SPEC, new_network

from SpikeRegLib.networks.precision import Precision
from SpikeRegLib.similarity.losses import diffusion, lncc, soft_dice
from SpikeRegLib.space.fields import compose, upsample, warp
from SpikeRegLib.space.filters import gaussian
from SpikeRegLib.spiking.activity import ActivityRecorder, OperationCount
from SpikeRegLib.spiking.unet import AnalogUNet
from SpikeRegLib.training.objective import ObjectiveWeights, at_labels, echo, first_pass, importance, objective
from SpikeRegLib.training.synthetic import PairGenerator, SyntheticPair

EXACT = Precision("cpu", False)
WEIGHTS = ObjectiveWeights(window=5, smoothness=0.7, dice=0.5)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return PairGenerator([head("one"), head("two", size=0.9)], seed=2).pair(0)


def constant(*velocity: float) -> AnalogUNet:
    """A network that predicts the same velocity everywhere: twice that displacement in voxels of the pair."""
    network = new_network("analog").eval()
    assert isinstance(network, AnalogUNet)
    with torch.no_grad():
        network.weights["head"].zero_()
        network.head_bias.copy_(torch.tensor(velocity))
    return network


def earlier_pass(pair: SyntheticPair) -> torch.Tensor:
    noise = torch.randn(1, 3, *pair.fixed.shape[2:], generator=torch.Generator().manual_seed(4))
    field = gaussian(noise, 1.7)
    return 4 * field / field.abs().max()


def test_a_network_that_predicts_nothing_scores_the_pair_as_it_is(pair: SyntheticPair) -> None:
    loss, terms = objective(constant(0, 0, 0), pair, WEIGHTS, precision=EXACT)
    similarity = lncc(pair.fixed, pair.moving, window=5, mask=pair.fixed > 0.02)
    overlap = soft_dice(pair.fixed_shares, pair.moving_shares)
    assert terms["diffusion"] == 0
    assert terms["lncc"] == pytest.approx(float(similarity), abs=2e-5)
    assert terms["dice"] == pytest.approx(float(overlap), abs=2e-5)
    assert float(loss.detach()) == pytest.approx(0.5 * (1 - float(overlap)) - float(similarity), abs=1e-4)
    assert terms["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)


def test_the_second_pass_is_composed_with_the_first(pair: SyntheticPair) -> None:
    """Also where the first pass is the larger: fixed -> (second) -> (first) -> moving."""
    earlier, velocity = earlier_pass(pair), (1.0, -0.5, 0.75)
    second = torch.tensor(velocity).view(1, 3, 1, 1, 1).expand_as(earlier) * 2
    _, terms = objective(constant(*velocity), pair, WEIGHTS, precision=EXACT, earlier=earlier)

    def score(total: torch.Tensor) -> tuple[float, float]:
        similarity = lncc(pair.fixed, warp(pair.moving, total), window=5, mask=pair.fixed > 0.02)
        shares = warp(pair.moving_shares, functional.avg_pool3d(total, 2) / 2)
        return float(similarity), float(soft_dice(pair.fixed_shares, shares))

    composed = score(compose(second, earlier))
    assert (terms["lncc"], terms["dice"]) == pytest.approx(composed, abs=2e-5)
    for wrong in (second + earlier, compose(earlier, second)):
        assert abs(score(wrong)[0] - composed[0]) > 1e-3, "the test cannot tell"


def test_the_second_pass_sees_the_moving_image_warped_by_the_first(pair: SyntheticPair) -> None:
    network, seen, earlier = new_network("analog").eval(), [], earlier_pass(pair)
    network.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    objective(network, pair, WEIGHTS, precision=EXACT, earlier=earlier)
    assert torch.equal(seen[0][:, :1], pair.fixed)
    assert torch.equal(seen[0][:, 1:], warp(pair.moving, earlier))


def test_smoothness_weighs_the_velocity(pair: SyntheticPair) -> None:
    network = new_network("analog").eval()
    with torch.no_grad():
        network.weights["head"].normal_(std=0.2)  # type: ignore[attr-defined]
        output = network(torch.cat((pair.fixed, pair.moving), 1))
    losses = {}
    for weight in (0.0, 2.0):
        weights = ObjectiveWeights(window=5, smoothness=weight, dice=0.0)
        loss, terms = objective(network, pair, weights, precision=EXACT)
        losses[weight] = float(loss.detach())
        assert "dice" not in terms and "operations_share" not in terms
    roughness = float(diffusion(output, 1.0))
    assert roughness > 1e-4
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * roughness, rel=1e-3)


def test_operations_cost_only_above_their_target(pair: SyntheticPair) -> None:
    network = new_network("spiking")
    network.mode = "surrogate"  # type: ignore[attr-defined]
    shape = tuple(pair.fixed.shape[2:])
    recorder = ActivityRecorder(SPEC, shape)  # type: ignore[arg-type]
    with torch.no_grad():
        network(torch.cat((pair.fixed, pair.moving), 1), recorder=recorder)
    share = sum(e.synaptic_ops for e in recorder.layers) / sum(e.dense_macs for e in recorder.layers)
    losses = []
    for target in (0.0, share / 2, share * 2):
        weights = ObjectiveWeights(window=5, operations=10.0, operations_target=target)
        loss, terms = objective(network, pair, weights, precision=EXACT)
        assert terms["operations_share"] == pytest.approx(share, abs=1e-5)
        losses.append(float(loss.detach()))
    assert losses[0] - losses[2] == pytest.approx(10 * share, rel=1e-3)
    assert losses[1] - losses[2] == pytest.approx(5 * share, rel=1e-3)


def test_spikes_of_the_head_and_of_the_rest_count_as_in_a_whole_image(pair: SyntheticPair) -> None:
    """Half the image is head here: with a head share of one fifth, spikes in it weigh 0.4, those in the rest 1.6."""
    first = SPEC.layers[1]
    half = torch.zeros(1, 2, 32, 32, 32)
    half[..., :12] = 0.5  # and four voxels around it
    weighted = OperationCount(SPEC, (32, 32, 32), importance(half, 0.2))
    plain = OperationCount(SPEC, (32, 32, 32))
    inside, outside = torch.zeros(1, 4, 16, 16, 16), torch.zeros(1, 4, 16, 16, 16)
    inside[..., 2:6], outside[..., 10:14] = 1, 1
    counted = []
    for counts in (inside, outside):
        for counter in (weighted, plain):
            counter.total = 0.0
            counter(first, [counts], counts)
            counted.append(float(counter.total))
    assert counted[0] == pytest.approx(0.4 * counted[1]) and counted[2] == pytest.approx(1.6 * counted[3])
    assert importance(half, 0.0) is None


def test_the_distance_to_the_teacher_is_that_of_the_velocities_inside_the_head(pair: SyntheticPair) -> None:
    teacher, network = constant(0.3, 0.0, -0.4), constant(0.0, 0.0, 0.0)
    losses = []
    for weight in (0.0, 3.0):
        weights = ObjectiveWeights(window=5, dice=0.0, teacher=weight)
        loss, terms = objective(network, pair, weights, precision=EXACT, teacher=teacher)
        losses.append(float(loss.detach()))
    assert terms["teacher_distance"] == pytest.approx(0.5, abs=0.01)
    assert losses[1] - losses[0] == pytest.approx(1.5, abs=0.03)


def test_an_echo_shows_both_networks_the_pair_exchanged_mirrored_and_shifted(pair: SyntheticPair) -> None:
    seen: dict[str, list[torch.Tensor]] = {"teacher": [], "network": []}
    networks = {"teacher": constant(0.3, 0.0, -0.4), "network": constant(0.0, 0.0, 0.0)}
    for name, network in networks.items():
        network.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0]))
    weights = ObjectiveWeights(teacher=3.0)
    for seed in range(24):
        loss, terms = echo(networks["network"], pair, weights, precision=EXACT, teacher=networks["teacher"], seed=seed)
        assert terms["teacher_distance"] == pytest.approx(0.5, abs=0.01)
        assert float(loss.detach()) == pytest.approx(1.5, abs=0.03)
        assert torch.equal(seen["teacher"][-1], seen["network"][-1])
        assert seen["network"][-1].shape == (1, 2, *pair.fixed.shape[2:])
    # Shifted back, each is one of the four ways to exchange and mirror the pair; all of them occur.
    ways = {
        (swapped, mirrored): torch.cat((pair.moving, pair.fixed) if swapped else (pair.fixed, pair.moving), 1).flip(
            [4] if mirrored else []
        )
        for swapped in (False, True)
        for mirrored in (False, True)
    }
    found = set()
    for both in seen["network"]:
        spectrum = torch.fft.fftn(both, dim=(2, 3, 4))
        likeness = {}
        for way, image in ways.items():
            correlation = torch.fft.ifftn(spectrum * torch.fft.fftn(image, dim=(2, 3, 4)).conj(), dim=(2, 3, 4)).real
            likeness[way] = float(correlation.sum(1).max())
        found.add(max(likeness, key=likeness.__getitem__))
    assert found == set(ways)
    assert len({tuple(both.flatten().nonzero()[0].tolist()) for both in seen["network"]}) > 12, "shifted"


def test_the_labels_of_an_echo_lie_where_those_of_the_pair_do(pair: SyntheticPair) -> None:
    """Both overlaps are of the same labels after the same map, up to where images and labels were shifted off the grid
    and to which of the two is warped."""
    weights = ObjectiveWeights(window=5, teacher=1.0, echo_dice=2.0, dice=1.0)
    still, network = constant(0.0, 0.0, 0.0), new_network("analog", seed=3).eval()
    with torch.no_grad():
        network.weights["head"].normal_(std=0.02, generator=torch.Generator().manual_seed(5))  # type: ignore[attr-defined]
    overlap = objective(still, pair, weights, precision=EXACT)[1]["dice"]
    plain = ObjectiveWeights(window=5, teacher=1.0)
    for seed in range(8):
        loss, terms = echo(still, pair, weights, precision=EXACT, teacher=network, seed=seed)
        assert terms["dice"] == pytest.approx(overlap, abs=0.01), "the same pairs of labels, whatever is done to both"
        distance = float(loss.detach()) - 2 * (1 - terms["dice"])
        assert distance == pytest.approx(terms["teacher_distance"], abs=1e-4)
        assert "dice" not in echo(still, pair, plain, precision=EXACT, teacher=network, seed=seed)[1]


def test_the_field_of_an_echo_is_read_at_the_voxels_of_the_labels() -> None:
    field = torch.randn(1, 3, 6, 7, 8, generator=torch.Generator().manual_seed(6))
    averaged = functional.avg_pool3d(upsample(field, (12, 14, 16), 2), 2) / 2
    torch.testing.assert_close(at_labels(field), averaged)


def test_an_echo_integrates_velocities_alone(pair: SyntheticPair, monkeypatch: pytest.MonkeyPatch) -> None:
    network = new_network("analog").eval()
    with torch.no_grad():
        network.weights["head"].normal_(std=0.3, generator=torch.Generator().manual_seed(7))  # type: ignore[attr-defined]
    velocities = network.spec

    def overlap(output: str) -> float:
        network.spec = replace(velocities, output=output)
        weights = ObjectiveWeights(teacher=0.0, echo_dice=1.0)
        return echo(network, pair, weights, precision=EXACT, teacher=None, seed=1)[1]["dice"]

    integrated, displaced = overlap("velocity"), overlap("displacement")
    monkeypatch.setattr("SpikeRegLib.training.objective.exponential", lambda field: field)
    assert overlap("velocity") == displaced
    assert abs(displaced - integrated) > 1e-3


def test_an_echo_trains_labels_together(pair: SyntheticPair) -> None:
    """A network whose head alone is free learns a shift by the overlap of echoes."""
    shifted = SyntheticPair(pair.fixed, pair.fixed.roll(4, -1), pair.fixed_shares, pair.fixed_shares.roll(2, -1))
    network = constant(0.0, 0.0, 0.0)
    optimiser = torch.optim.Adam([network.head_bias], lr=0.1)  # type: ignore[list-item]
    weights = ObjectiveWeights(teacher=0.0, echo_dice=1.0)
    for _ in range(40):
        optimiser.zero_grad()
        # The order that seed 0 gives to the two images is the same every time.
        loss, terms = echo(network, shifted, weights, precision=EXACT, teacher=network, seed=0)
        loss.backward()
        optimiser.step()
    assert terms["dice"] > 0.97
    assert abs(network.head_bias[0].item()) == pytest.approx(2.0, abs=0.2)  # type: ignore[index, operator]


def test_an_echo_without_a_teacher_stays_smooth(pair: SyntheticPair) -> None:
    network = new_network("analog", seed=3).eval()
    with torch.no_grad():
        network.weights["head"].normal_(std=0.3, generator=torch.Generator().manual_seed(5))  # type: ignore[attr-defined]
    for teacher in (None, network):
        given = []
        for smoothness in (0.0, 2.0):
            weights = ObjectiveWeights(smoothness=smoothness, teacher=1.0, echo_dice=1.0)
            loss, terms = echo(network, pair, weights, precision=EXACT, teacher=teacher, seed=2)
            given.append(float(loss.detach()))
        rough = terms["diffusion"] if teacher is None else 0.0
        assert teacher is not None or rough > 1e-3
        assert given[1] - given[0] == pytest.approx(2 * rough, abs=1e-5)


def test_the_first_pass_leaves_no_trace(pair: SyntheticPair) -> None:
    network = new_network("analog").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    displacement = first_pass(network, pair, EXACT)
    assert displacement.shape == (1, 3, *pair.fixed.shape[2:]) and not displacement.requires_grad
    assert network.training
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_bfloat16_changes_the_terms_little(pair: SyntheticPair) -> None:
    network = new_network("analog").eval()
    with torch.no_grad():
        network.weights["head"].normal_(std=0.05)  # type: ignore[attr-defined]
    exact = objective(network, pair, WEIGHTS, precision=EXACT)[1]
    rough = objective(network, pair, WEIGHTS, precision=Precision("cpu", True))[1]
    assert rough != exact
    assert rough["lncc"] == pytest.approx(exact["lncc"], abs=5e-3)
    assert rough["dice"] == pytest.approx(exact["dice"], abs=5e-3)
