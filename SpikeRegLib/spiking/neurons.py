"""The spiking neuron: event simulation, its closed form under constant current, and the surrogate gradient.

    v_t = leak * v_{t-1} + I,   s_t = [v_t >= threshold],
    soft reset: v_t <- v_t - threshold * s_t,   hard reset: v_t <- reset_potential where s_t = 1,
    then `refractory` steps without integration after a spike.

A layer's current is constant over its T steps (direct input coding), so the spike count is a step function of the
current. Everything here works on the drive y = T * I / threshold and the potential in units of threshold / T: adding y
once a step, firing at T. Without a leak, this arithmetic on single-precision drives is exact in double precision
wherever a spike depends on it; with one, the closed form is a table made from the simulation itself. That is why closed
form and event simulation agree to the last spike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from SpikeRegLib.text.ranges import check_numbers


@dataclass(frozen=True)
class NeuronDynamics:
    """How the membrane of one layer behaves (thresholds are per channel and live in the layer).

    Attributes:
        timesteps: T, the number of simulated steps.
        leak: factor on the potential per step, in (0, 1]; 1 is integrate-and-fire.
        reset: "soft" subtracts the threshold, "hard" sets the potential to `reset_potential`.
        reset_potential: after a hard reset, as a fraction of the threshold, at most 1.
        initial_potential: v_0 as a fraction of the threshold, at most 1; 1/2 makes the count round to nearest.
        refractory: steps after a spike in which the neuron neither integrates nor fires.
    """

    timesteps: int = 4
    leak: float = 1.0
    reset: str = "soft"
    reset_potential: float = 0.0
    initial_potential: float = 0.5
    refractory: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.reset not in ("soft", "hard"):
            raise ValueError(f"reset must be 'soft' or 'hard', got {self.reset!r}")

    @property
    def rounds(self) -> bool:
        """Whether the count is clip(floor(y + 1/2), 0, T): integrate-and-fire, soft reset, start at threshold / 2."""
        return self.leak == 1 and self.reset == "soft" and self.refractory == 0 and self.initial_potential == 0.5


@dataclass(frozen=True)
class MembraneState:
    """Potential in units of threshold / T (float64) and remaining refractory steps."""

    potential: torch.Tensor
    refractory: torch.Tensor | None = None


def initial_state(drive: torch.Tensor, dynamics: NeuronDynamics) -> MembraneState:
    """The state before the first step, shaped like `drive`."""
    potential = torch.full_like(drive, dynamics.initial_potential * dynamics.timesteps, dtype=torch.float64)
    waiting = torch.zeros_like(drive, dtype=torch.int32) if dynamics.refractory else None
    return MembraneState(potential, waiting)


def step(drive: torch.Tensor, state: MembraneState, dynamics: NeuronDynamics) -> tuple[torch.Tensor, MembraneState]:
    """One time step: returns the spikes (bool, shaped like `drive`) and the next state."""
    threshold = float(dynamics.timesteps)
    potential = state.potential * dynamics.leak + drive.double()
    if state.refractory is not None:
        active = state.refractory == 0
        potential = torch.where(active, potential, state.potential)
        spikes = (potential >= threshold) & active
    else:
        spikes = potential >= threshold
    if dynamics.reset == "soft":
        potential = potential - threshold * spikes
    else:
        potential = potential.masked_fill(spikes, dynamics.reset_potential * threshold)
    if state.refractory is None:
        return spikes, MembraneState(potential)
    waiting = (state.refractory - 1).clamp_min(0).masked_fill(spikes, dynamics.refractory)
    return spikes, MembraneState(potential, waiting)


def simulate_counts(drive: torch.Tensor, dynamics: NeuronDynamics) -> torch.Tensor:
    """Spike counts by event simulation: T steps of `step` with the constant `drive` y. Shape and dtype of `drive`."""
    state = initial_state(drive, dynamics)
    counts = torch.zeros_like(drive)
    for _ in range(dynamics.timesteps):
        spikes, state = step(drive, state, dynamics)
        counts = counts + spikes
    return counts


def simulate_varying(drives: Iterable[torch.Tensor], dynamics: NeuronDynamics) -> torch.Tensor:
    """Spike counts where the drive changes from step to step: one tensor for each of the T steps."""
    state: MembraneState | None = None
    counts: torch.Tensor | None = None
    for drive in drives:
        state = initial_state(drive, dynamics) if state is None else state
        spikes, state = step(drive, state, dynamics)
        counts = spikes.to(drive.dtype) if counts is None else counts + spikes
    if counts is None:
        raise ValueError("no time steps: give one drive for each step")
    return counts


def _ordered(values: np.ndarray) -> np.ndarray:
    """Map float32 to int64 so that the order of integers is the order of floats, neighbours differing by one."""
    bits = values.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits + 2**31), bits)


def _from_ordered(order: np.ndarray) -> np.ndarray:
    bits = np.where(order < 0, -order - 2**31, order).astype(np.int32)
    return bits.view(np.float32)


class NotMonotonic(ValueError):
    """The spike count does not grow with the current, so it has no table of edges; simulate the events instead."""


def _spike_trains(order: np.ndarray, dynamics: NeuronDynamics) -> np.ndarray:
    """[T, drives] bool, the event simulation at drives given by their place in the order of float32 numbers."""
    drive = torch.from_numpy(_from_ordered(order))
    state = initial_state(drive, dynamics)
    train = []
    for _ in range(dynamics.timesteps):
        spikes, state = step(drive, state, dynamics)
        train.append(spikes.numpy())
    return np.stack(train)


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)  # kept beyond this call
def count_edges(dynamics: NeuronDynamics) -> torch.Tensor:
    """The drives at which the count steps: edge n (n = 1..reachable) is the smallest float32 y with count >= n.

    Exact over all finite float32 numbers: as long as two drives give the same spikes, the potential grows with the
    drive, also in rounded arithmetic; so drives between two that have the same spike train have that train too, and
    bisecting every interval whose ends differ finds every drive at which anything changes.

    Raises:
        NotMonotonic: the count falls somewhere as the current grows.
    """
    largest = _ordered(np.array([np.finfo(np.float32).max]))
    low, high = -largest, largest
    changes = []
    while low.size:
        touching = high - low == 1
        changes.append(high[touching])
        low, high = low[~touching], high[~touching]
        middle = (low + high) // 2
        low, high = np.concatenate((low, middle)), np.concatenate((middle, high))
        differ = (_spike_trains(low, dynamics) != _spike_trains(high, dynamics)).any(0)
        low, high = low[differ], high[differ]
    steps = np.sort(np.concatenate((-largest, *changes)))
    counts = _spike_trains(steps, dynamics).sum(0)
    if (np.diff(counts) < 0).any():
        raise NotMonotonic(f"spike counts of {dynamics} are not monotonic in the current")
    edges = steps[np.searchsorted(counts, np.arange(1, counts[-1] + 1))]
    return torch.from_numpy(_from_ordered(edges))


def closed_form_counts(drive: torch.Tensor, dynamics: NeuronDynamics) -> torch.Tensor:
    """Spike counts without simulating: equal to `simulate_counts` for every float32 drive. Shape and dtype of `drive`.

    Integrate-and-fire with soft reset and v_0 = threshold / 2 rounds: clip(floor(y + 1/2), 0, T). Anything else looks
    up the table of edges. Drives of lower precision (bfloat16) are float32 numbers too; double ones are not.

    Raises:
        NotMonotonic: see `count_edges`.
    """
    if dynamics.rounds:
        # floor(y + 1/2) would round the sum before the floor; y - 1/2 is exact wherever it can reach the next integer.
        return (drive - 0.5).floor_().add_(1).clamp_(0, dynamics.timesteps)
    edges = count_edges(dynamics)
    return torch.bucketize(drive.float(), edges.to(drive.device), right=True).to(drive.dtype)


class _StraightThrough(torch.autograd.Function):
    """Forward: the given counts. Backward: slope 1 in the drive where `inside`, 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, drive: torch.Tensor, counts: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inside)
        return counts

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


def surrogate_counts(drive: torch.Tensor, dynamics: NeuronDynamics) -> torch.Tensor:
    """`closed_form_counts` with a straight-through gradient where the count can still change, for training."""
    inside = (drive > -0.5) & (drive < dynamics.timesteps + 0.5)
    return _StraightThrough.apply(drive, closed_form_counts(drive.detach(), dynamics), inside)


def surrogate_floor(shifted: torch.Tensor, timesteps: int) -> torch.Tensor:
    """The same for a drive that already holds the half threshold, shifted = y + 1/2: clip(floor(shifted), 0, T)."""
    inside = (shifted > 0) & (shifted < timesteps + 1)
    return _StraightThrough.apply(shifted, torch.floor(shifted.detach()).clamp_(0, timesteps), inside)


def surrogate_varying(drives: Sequence[torch.Tensor], dynamics: NeuronDynamics) -> torch.Tensor:
    """`simulate_varying` with the straight-through gradient of the mean drive, for training."""
    mean = torch.stack(tuple(drives)).mean(0)
    inside = (mean > -0.5) & (mean < dynamics.timesteps + 0.5)
    counts = simulate_varying((drive.detach() for drive in drives), dynamics)
    return _StraightThrough.apply(mean, counts, inside)


class _SurrogateSpike(torch.autograd.Function):
    """Heaviside step with the fast-sigmoid surrogate derivative 1 / (1 + k |v - 1|)^2 (Zenke & Ganguli 2018)."""

    @staticmethod
    def forward(ctx: Any, excess: torch.Tensor, slope: float) -> torch.Tensor:
        ctx.save_for_backward(excess)
        ctx.slope = slope
        return (excess >= 0).to(excess.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (excess,) = ctx.saved_tensors
        return gradient / (1 + ctx.slope * excess.abs()) ** 2, None


class SpikingNeuron(nn.Module):
    """A neuron with learnable, constrained threshold and leak, simulated event by event with surrogate gradients.

    The threshold is kept positive by an exponential, the leak in (0, 1) by a sigmoid. This is the trainable oracle;
    networks whose neurons do not leak run on the closed form instead.

    Args:
        channels: one threshold and one leak for each channel of [B, C, ...].
        dynamics: starting values; a leak of 1 stays fixed at 1.
        threshold: starting value, in units of the current.
        slope: steepness of the surrogate derivative.
    """

    def __init__(self, channels: int, dynamics: NeuronDynamics, *, threshold: float = 1.0, slope: float = 5.0) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.slope = slope
        self.log_threshold = nn.Parameter(torch.full((channels,), float(np.log(threshold))))
        self.leak_logit: nn.Parameter | None = None
        if dynamics.leak < 1:
            self.leak_logit = nn.Parameter(torch.full((channels,), float(np.log(dynamics.leak / (1 - dynamics.leak)))))

    @property
    def threshold(self) -> torch.Tensor:
        """Per channel, positive."""
        return self.log_threshold.exp()

    @property
    def leak(self) -> torch.Tensor:
        """Per channel, in (0, 1], or exactly 1."""
        return torch.ones_like(self.log_threshold) if self.leak_logit is None else torch.sigmoid(self.leak_logit)

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """The activation threshold * n / T for a constant input current [B, C, ...]."""
        shape = (1, -1) + (1,) * (current.ndim - 2)
        threshold, leak = self.threshold.view(shape), self.leak.view(shape)
        dynamics = self.dynamics
        potential = dynamics.initial_potential * torch.ones_like(current)
        waiting = torch.zeros_like(current)
        count = torch.zeros_like(current)
        for _ in range(dynamics.timesteps):
            active = waiting <= 0
            potential = torch.where(active, leak * potential + current / threshold, potential)
            spikes = _SurrogateSpike.apply(potential - 1, self.slope) * active
            if dynamics.reset == "soft":
                potential = potential - spikes
            else:
                potential = torch.where(spikes > 0, torch.full_like(potential, dynamics.reset_potential), potential)
            waiting = torch.where(spikes > 0, torch.full_like(waiting, dynamics.refractory), (waiting - 1).clamp_min(0))
            count = count + spikes
        return threshold * count / dynamics.timesteps
