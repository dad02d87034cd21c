"""What all stages of one registration share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from SpikeRegLib.neural_field.settings import FieldSettings
from SpikeRegLib.pipeline.inputs import Side
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.presets.preset import Preset
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.refinement.guidance import RefinementOptions


@dataclass
class Run:
    """What the stages hand on: inputs, settings, and the figures gathered on the way."""

    fixed: Side
    moving: Side
    preset: Preset
    device: str
    threads: int
    seed: int
    listener: Listener
    options: RefinementOptions = field(default_factory=RefinementOptions)
    memory: Memory = field(default_factory=Memory)
    field_settings: FieldSettings | None = None
    background: float = 0.0  # of the moving image, beyond its edges
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report the start and the end of a stage and keep its wall and CPU seconds."""
        self.listener(Progress(name, 0.0))
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - wall
        self.cpu_seconds[name] = time.process_time() - cpu
        self.listener(Progress(name, 1.0))
