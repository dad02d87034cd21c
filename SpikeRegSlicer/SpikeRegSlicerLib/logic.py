"""Registrations: from nodes to the worker and back into the scene. No widget needed, and none known here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import slicer
from slicer.i18n import tr as _

from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.presets.preset import parse_preset
from SpikeRegLib.text.toml_text import toml_text
from SpikeRegSlicerLib.background import BackgroundJobs, checkNames
from SpikeRegSlicerLib.library import torchIsInstalled
from SpikeRegSlicerLib.process import WorkerProcess
from SpikeRegSlicerLib.products import replaceRun, warpAgain
from SpikeRegSlicerLib.registration import Registration, RegistrationError
from SpikeRegSlicerLib.run_names import runName
from SpikeRegSlicerLib.scene import files
from SpikeRegSlicerLib.scene.export import exportInputs
from SpikeRegSlicerLib.scene.inputs import Inputs
from SpikeRegSlicerLib.scene.problems import problems
from SpikeRegSlicerLib.scene.results import FILES, Outputs, Run
from SpikeRegSlicerLib.scene.undo import History

PRESET_FILE = "preset.toml"  # whatever the preset is called: a name in a scene may be any text


class Registrations(BackgroundJobs):
    """Runs registrations of nodes of the scene in the background, one after another; arguments of `BackgroundJobs`."""

    def __init__(self, process: WorkerProcess | None = None, temporaryFolder: str | None = None) -> None:
        super().__init__(process, temporaryFolder)
        self.history = History()

    # --- asking -----------------------------------------------------------------------------------------------------

    def register(
        self,
        fixed: Any,
        moving: Any,
        preset: str = "brain",
        wait: bool = True,
        *,
        transform: Any = None,
        warped: Any = None,
        onProgress: Callable[[str, float, str], None] | None = None,
        onDone: Callable[[Registration], None] | None = None,
        **options: Any,
    ) -> Run | Registration:
        """Register two volumes of the scene.

        Args:
            fixed, moving: volume nodes; the result is made on the grid of the fixed one.
            preset: name, or path of a TOML file.
            wait: return when it is done; Slicer stays alive meanwhile.
            transform, warped: nodes to fill instead of new ones.
            onProgress, onDone: see `Registration`.
            options: every other keyword of `SpikeRegLib.register` by its name there, with a node of the scene for each
                file (`fixed_mask`, `moving_labels`, `initial_transform`, `fixed_points`...). Only `align` is True if
                not given, as a parent transform is where the alignment starts.

        Returns:
            What was made, or with `wait=False` the registration, whose `run` that is in the end.

        Raises:
            RegistrationError: it cannot be started, or (with `wait`) gave no result.
        """
        nodes = {item.name: options.pop(item.name) for item in fields(Inputs) if item.name in options}
        checkNames(options, OPTIONS, RegistrationError)
        job = self.start(
            Inputs(**{"fixed": fixed, "moving": moving, **nodes}),
            {"preset": preset, **options},
            Outputs(transform, warped),
            onProgress=onProgress,
            onDone=onDone,
        )
        return self.wait(job) if wait else job

    def start(
        self,
        inputs: Inputs,
        options: dict[str, Any],
        outputs: Outputs | None = None,
        *,
        onProgress: Callable[[str, float, str], None] | None = None,
        onDone: Callable[[Registration], None] | None = None,
    ) -> Registration:
        """Put a registration in the queue and return at once.

        Args:
            inputs, outputs, onProgress, onDone: see `Registration`.
            options: of the worker, and `preset_text`, the TOML text of a preset that is in no file.

        Raises:
            RegistrationError: something is missing or does not fit; the message names all of it.
        """
        found = self.problems(inputs)
        if found:
            raise RegistrationError("\n".join(found))
        name = runName(inputs.moving.GetName(), inputs.fixed.GetName(), str(options.get("preset", "")))
        job = Registration(
            inputs=inputs,
            options={key: value for key, value in options.items() if key != "preset_text"},
            presetText=options.get("preset_text", ""),
            outputs=outputs or Outputs(),
            name=name,
            folder=self.newFolder(RegistrationError),
            reads=inputs.nodes,
            prepare=self._prepare,
            load=self._load,
            onEnd=self.endJob,
        )
        self.submit(job, onProgress, onDone)
        return job

    def problems(self, inputs: Inputs) -> list[str]:
        """Every reason why these nodes cannot be registered, each a sentence that says what to do."""
        found = problems(inputs)
        if not torchIsInstalled():
            found.append(_("PyTorch is not installed: install it with the button below."))
        return found

    # --- a job's way ------------------------------------------------------------------------------------------------

    def _prepare(self, job: Registration) -> dict[str, Any]:
        """Write the nodes as they are now; the worker's request.

        Raises:
            RegistrationError: the nodes no longer fit, or cannot be written.
            InputError: the text of the preset is none.
        """
        found = problems(job.inputs)
        if found:
            raise RegistrationError("\n".join(found))
        try:
            inputsFolder = self.exchange.inputsFolder()
            os.makedirs(job.folder, exist_ok=True)
            keys: dict[str, Any] = {**job.options, **exportInputs(job.inputs, inputsFolder)}
            if job.presetText:
                path = os.path.join(inputsFolder, PRESET_FILE)
                files.writeText(path, toml_text(parse_preset(job.presetText, keys["preset"])))
                keys["preset"] = path
        except OSError as error:
            raise RegistrationError(self.exchange.explain(error)) from error
        align = job.options.get("align", True) and not keys.get("skip_affine")
        if "initial_transform" in keys:  # then `align` alone says it
            keys.pop("skip_affine", None)
            keys["align"] = align
        else:
            keys.pop("align", None)
        keys["out"], keys["outputs"] = os.path.join(job.folder, "out"), list(FILES)
        return keys

    def _load(self, job: Registration) -> None:
        scene = slicer.mrmlScene
        for attribute in ("transform", "warped"):
            node = getattr(job.outputs, attribute)
            if node is not None and not scene.IsNodePresent(node):
                setattr(job.outputs, attribute, None)  # removed meanwhile: a new one takes its place
        if job.outputs.transform is not None:
            self.history.remember(job.outputs.transform)
        job.run = replaceRun(os.path.dirname(job.path), job.inputs, job.outputs, job.name, job.options)

    def undo(self, run: Run) -> bool:
        """Put back the transform from before the last run into its node, and the warped volume with it.

        The figures, the Jacobian map and the spike maps stay those of the last run. False where there is nothing to
        undo.
        """
        if run.transform is None or not self.history.undo(run.transform):
            return False
        warpAgain(run)
        return True
