"""Neurons: the closed form fires as the event simulation does, to the last spike, and both as snntorch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from SpikeRegLib.spiking import neurons
from SpikeRegLib.spiking.neurons import (
    NeuronDynamics,
    NotMonotonic,
    SpikingNeuron,
    closed_form_counts,
    count_edges,
    initial_state,
    simulate_counts,
    step,
    surrogate_counts,
)

SUBNORMAL = float(np.float32(1e-45))
LARGEST = float(np.finfo(np.float32).max)

any_dynamics = st.builds(
    NeuronDynamics,
    timesteps=st.integers(1, 16),
    leak=st.sampled_from((1.0, 0.99, 0.9, 0.75, 0.5, 0.1)),
    reset=st.sampled_from(("soft", "hard")),
    reset_potential=st.sampled_from((0.0, -0.5, 0.3, 0.9)),
    initial_potential=st.sampled_from((0.5, 0.0, 0.25, 0.9)),
    refractory=st.sampled_from((0, 0, 1, 3)),
)
any_drive = st.lists(
    st.one_of(
        st.floats(-4, 40, width=32),
        st.floats(allow_nan=False, allow_infinity=False, width=32),
        st.integers(-4, 40).map(lambda n: n / 2),  # half-integers: the ties of rounding
        st.sampled_from((0.0, -0.0, SUBNORMAL, -SUBNORMAL, LARGEST, -LARGEST, 0.5 - 2**-25, 0.5 + 2**-24)),
    ),
    min_size=1,
    max_size=40,
)


def neighbours(values: torch.Tensor) -> torch.Tensor:
    """The values with the next smaller and the next larger float32."""
    infinity = torch.tensor(torch.inf)
    return torch.cat((torch.nextafter(values, -infinity), values, torch.nextafter(values, infinity)))


@settings(max_examples=200, deadline=None)
@given(any_drive, any_dynamics)
@example([0.5, 1.5, 2.5, 3.5, 15.5], NeuronDynamics(timesteps=16))
def test_the_closed_form_equals_the_event_simulation(drive: list[float], dynamics: NeuronDynamics) -> None:
    drives = neighbours(torch.tensor(drive))
    drives = drives[drives.isfinite()]
    assert torch.equal(closed_form_counts(drives, dynamics), simulate_counts(drives, dynamics))


@settings(max_examples=60, deadline=None)
@given(any_dynamics)
def test_edges_are_the_smallest_drives_that_reach_their_count(dynamics: NeuronDynamics) -> None:
    edges = count_edges(dynamics)
    wanted = torch.arange(1.0, len(edges) + 1)
    below = torch.nextafter(edges, torch.tensor(-torch.inf))
    assert (simulate_counts(edges, dynamics) >= wanted).all()
    assert (simulate_counts(below, dynamics) < wanted).all()


@pytest.mark.parametrize("timesteps", range(1, 17))
def test_integrate_and_fire_rounds_half_up(timesteps: int) -> None:
    drive = torch.arange(-3, 2 * timesteps + 6) / 2
    expected = (drive + 0.5).floor().clamp(0, timesteps)
    dynamics = NeuronDynamics(timesteps=timesteps)
    assert torch.equal(closed_form_counts(drive, dynamics), expected)
    assert torch.equal(simulate_counts(drive, dynamics), expected)
    # The table of edges, made from the simulation alone, is the rounding rule.
    assert torch.equal(count_edges(dynamics), torch.arange(timesteps) + 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("leak", [1.0, 0.8])
def test_low_precision_drives_agree_too(dtype: torch.dtype, leak: float) -> None:
    drive = (torch.rand(4000, generator=torch.Generator().manual_seed(3)) * 14 - 3).to(dtype)
    dynamics = NeuronDynamics(timesteps=8, leak=leak)
    counts = closed_form_counts(drive, dynamics)
    assert counts.dtype == dtype
    assert torch.equal(counts, simulate_counts(drive, dynamics))


def test_a_count_that_falls_with_the_current_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the dynamics here falls (see the next test); a neuron that tires under strong currents does."""

    def tiring(drive, state, dynamics):
        spikes, following = step(drive, state, dynamics)
        fresh = state.potential == dynamics.initial_potential * dynamics.timesteps
        return spikes & (fresh | (drive < 1.5 * dynamics.timesteps)), following

    dynamics = NeuronDynamics(timesteps=5, leak=0.9)
    monkeypatch.setattr(neurons, "step", tiring)
    with pytest.raises(NotMonotonic, match="not monotonic"):
        count_edges.__wrapped__(dynamics)


@settings(max_examples=40, deadline=None)
@given(any_dynamics, st.integers(0, 2**31))
def test_stronger_currents_never_fire_less(dynamics: NeuronDynamics, seed: int) -> None:
    drive = torch.rand(2000, generator=torch.Generator().manual_seed(seed)) * 6 * dynamics.timesteps
    assert (simulate_counts(drive.sort().values, dynamics).diff() >= 0).all()


@pytest.mark.parametrize(
    ("field", "value"), [("timesteps", 0), ("leak", 0.0), ("leak", 1.1), ("reset", "none"), ("refractory", -1)]
)
def test_impossible_dynamics_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}:? must be"):
        NeuronDynamics(**{field: value})  # type: ignore[arg-type]


def trains(current: torch.Tensor, dynamics: NeuronDynamics) -> torch.Tensor:
    """[T, ...] spikes of the event simulation, for a current in units of the threshold."""
    state, spikes = initial_state(current * dynamics.timesteps, dynamics), []
    for _ in range(dynamics.timesteps):
        fired, state = step(current * dynamics.timesteps, state, dynamics)
        spikes.append(fired)
    return torch.stack(spikes)


def snntorch_trains(
    current: torch.Tensor, dynamics: NeuronDynamics, mechanism: str, *, reset_delay: bool
) -> torch.Tensor:
    snntorch = pytest.importorskip("snntorch")
    leaky = snntorch.Leaky(beta=dynamics.leak, threshold=1.0, reset_mechanism=mechanism, reset_delay=reset_delay)
    membrane, spikes = torch.full_like(current, dynamics.initial_potential), []
    for _ in range(dynamics.timesteps):
        fired, membrane = leaky(current, membrane)
        spikes.append(fired > 0)
    return torch.stack(spikes)


# snntorch's `Leaky` (0.9) fires where mem > threshold; ours where v >= threshold: random currents meet no tie.
# - reset_delay=True, its default: the reset of a spike is applied one step later, after the leak. "zero" clears the
#   membrane before it integrates again, so the spikes are those of an immediate reset. "subtract" computes
#   beta * v + I - threshold where the equation of the paper gives beta * (v - threshold) + I: the same only for beta 1.
# - reset_delay=False: subtracted at once, as here, but a membrane that is still above the threshold after its reset
#   is reset again at the next step without a spike being due, so that currents above the threshold differ.
# Leaks are dyadic because snntorch stores them in single precision.
@pytest.mark.parametrize("timesteps", [1, 4, 16])
@pytest.mark.parametrize("leak", [1.0, 0.875, 0.5])
def test_spike_trains_equal_snntorch(timesteps: int, leak: float) -> None:
    current = torch.rand(5000, generator=torch.Generator().manual_seed(timesteps), dtype=torch.float64) * 1.4 - 0.4
    strong = torch.rand(1000, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 4
    soft = NeuronDynamics(timesteps=timesteps, leak=leak)
    assert torch.equal(trains(current, soft), snntorch_trains(current, soft, "subtract", reset_delay=False))
    if leak == 1:
        assert torch.equal(trains(current, soft), snntorch_trains(current, soft, "subtract", reset_delay=True))
    hard = NeuronDynamics(timesteps=timesteps, leak=leak, reset="hard")
    for delay in (True, False):
        expected = snntorch_trains(torch.cat((current, strong)), hard, "zero", reset_delay=delay)
        assert torch.equal(trains(torch.cat((current, strong)), hard), expected)


def test_a_refractory_neuron_pauses_between_spikes() -> None:
    dynamics = NeuronDynamics(timesteps=16, refractory=2, reset="hard")
    fired = trains(torch.tensor([3.0]), dynamics)[:, 0].nonzero()[:, 0]
    assert fired.tolist() == [0, 3, 6, 9, 12, 15]


def test_straight_through_gradient_is_one_where_the_count_can_change() -> None:
    dynamics = NeuronDynamics(timesteps=4)
    drive = torch.tensor([-2.0, -0.5, -0.4, 0.2, 2.5, 4.4, 4.5, 9.0], requires_grad=True)
    counts = surrogate_counts(drive, dynamics)
    assert torch.equal(counts, closed_form_counts(drive.detach(), dynamics))
    weight = torch.arange(1.0, 9.0)
    (counts * weight).sum().backward()
    assert drive.grad is not None
    assert drive.grad.tolist() == [0, 0, 3, 4, 5, 6, 0, 0]


@pytest.mark.parametrize(
    "dynamics",
    [
        NeuronDynamics(timesteps=8),
        NeuronDynamics(timesteps=8, leak=0.9),
        NeuronDynamics(timesteps=5, leak=0.8, reset="hard", reset_potential=-0.25, initial_potential=0.0),
        NeuronDynamics(timesteps=12, refractory=2),
    ],
)
def test_the_learnable_neuron_starts_as_the_closed_form(dynamics: NeuronDynamics) -> None:
    threshold = 0.5
    current = torch.rand(3, 4, 500, generator=torch.Generator().manual_seed(1)) * 0.9 - 0.2
    neuron = SpikingNeuron(4, dynamics, threshold=threshold)
    drive = current * (dynamics.timesteps / threshold)
    expected = threshold * closed_form_counts(drive, dynamics) / dynamics.timesteps
    # Single-precision simulation: where the current lies within rounding of an edge, the count may differ by one.
    clear = ((drive[..., None] - count_edges(dynamics)).abs() > 1e-4).all(-1)
    assert clear.float().mean() > 0.99
    torch.testing.assert_close(neuron(current)[clear], expected[clear], rtol=1e-6, atol=0)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_threshold_and_leak_learn_and_stay_constrained(reset: str) -> None:
    neuron = SpikingNeuron(3, NeuronDynamics(timesteps=6, leak=0.9, reset=reset), threshold=0.7)
    current = torch.rand(2, 3, 200, generator=torch.Generator().manual_seed(2)).requires_grad_()
    target = torch.rand(2, 3, 200, generator=torch.Generator().manual_seed(4))
    optimiser = torch.optim.Adam(neuron.parameters(), lr=1.0)  # far too fast: constraints must hold all the same
    for number in range(12):
        optimiser.zero_grad()
        loss = ((neuron(current) - target) ** 2).mean()
        loss.backward()
        if number == 0:
            assert current.grad is not None and current.grad.abs().sum() > 0
            for parameter in neuron.parameters():
                assert parameter.grad is not None and (parameter.grad.abs() > 0).all()
        optimiser.step()
        assert (neuron.threshold > 0).all() and neuron.threshold.isfinite().all()
        assert (neuron.leak > 0).all() and (neuron.leak <= 1).all()
        if number == 0:
            assert (neuron.threshold - 0.7).abs().min() > 0.1
            assert (neuron.leak - 0.9).abs().min() > 0.01


def test_a_neuron_without_leak_keeps_its_leak_at_one() -> None:
    neuron = SpikingNeuron(2, NeuronDynamics(leak=1.0))
    assert torch.equal(neuron.leak, torch.ones(2))
    assert [name for name, _ in neuron.named_parameters()] == ["log_threshold"]


def test_floats_are_numbered_in_their_order_and_found_by_their_number() -> None:
    numbers = torch.tensor([torch.finfo(torch.float32).min, -2.5, -1e-45, 0.0, 1e-45, 0.5, 1.0]).numpy()
    order = neurons._ordered(numbers)
    assert (neurons._from_ordered(order) == numbers).all() and (order[1:] > order[:-1]).all()
    assert order[2:5].tolist() == [-1, 0, 1]
    above = torch.nextafter(torch.from_numpy(numbers), torch.tensor(torch.inf)).numpy()
    assert (neurons._ordered(above) - order == 1).all()


def test_the_straight_through_gradient_ends_where_a_count_can_no_longer_change():
    """One count below the first and one above the last."""
    shifted = torch.tensor([-0.5, 0.0, 0.5, 2.0, 4.9, 5.0, 5.5], requires_grad=True)
    neurons.surrogate_floor(shifted, 4).sum().backward()
    assert shifted.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]
