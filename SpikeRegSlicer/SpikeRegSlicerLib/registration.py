"""A registration of nodes of the scene: a run with what it reads, what it fills, and what it made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from SpikeRegSlicerLib import progress
from SpikeRegSlicerLib.jobs import Job, JobError
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.results import Outputs, Run


class RegistrationError(JobError):
    """A registration that gave no result; the message says why, and what to do."""


@dataclass(kw_only=True, eq=False)
class Registration(Job):
    """One registration that was asked for.

    Attributes:
        inputs: nodes; they are read when its turn comes.
        options: of the worker, by the library's names.
        presetText: TOML text of the preset, where that is in no file.
        outputs: nodes to fill.
        name: of the run's folder in the subject hierarchy.
        run: what it made, once finished.
    """

    error: ClassVar[type[JobError]] = RegistrationError
    shares: ClassVar[dict[str, float]] = progress.REGISTRATION

    inputs: Inputs
    options: dict[str, Any]
    outputs: Outputs
    name: str
    presetText: str = ""
    run: Run | None = None

    @property
    def made(self) -> Run | None:
        return self.run
