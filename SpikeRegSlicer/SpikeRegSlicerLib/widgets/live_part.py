"""A quick preview after every move of a landmark, while the person asks for it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib import presets
from SpikeRegSlicerLib.parameters import isDeformable, optionsOf
from SpikeRegSlicerLib.scene.results import Outputs
from SpikeRegSlicerLib.widgets.part import Part

DELAY_MS = 300
PREVIEW_ITERATIONS = 5


def previewOptions(parameters: Any) -> dict[str, Any]:
    """The worker's options of a preview: the preset fast-preview where its network fits the pair, else a few steps.

    It fits where the chosen preset compares images as fast-preview does and takes its network from the library. The
    steps are those of the chosen preset's refinement, or of any-anatomy's where that has none and compares alike.
    Landmarks, region, start and device are those of the panel. Spike maps are left out, but for those of a network that
    names structures: without them the worker would read both volumes anew.

    Raises:
        InputError: what the scene has is no preset.
    """
    options = {**optionsOf(parameters), "spike_maps": False, "preset_text": ""}
    options.pop("refine_iterations", None)
    preset = presets.presetOf(parameters)
    isAlike = preset.similarity == presets.load_preset(presets.PREVIEW).similarity
    if isAlike and preset.model and not presets.filesOf(preset) and parameters.method.value != "optimize":
        options.pop("method", None)
        return {**options, "preset": presets.PREVIEW}
    if isAlike and not preset.refine.levels:
        for name in ("method", "timesteps"):
            options.pop(name, None)
        return {**options, "preset": presets.PREVIEW_WITHOUT_NETWORK, "refine_iterations": PREVIEW_ITERATIONS}
    if preset.refine.levels:
        options["refine_iterations"] = PREVIEW_ITERATIONS
    if preset.structures:
        options["spike_maps"] = presets.wantsSpikeMaps(parameters)
    return {**options, "preset_text": parameters.customPreset}


class LivePart(Part):
    """Watches the landmarks and asks for previews; a newer one replaces one that still runs."""

    def setUp(self) -> None:
        self._job: Any = None
        self._watched: list[Any] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self.preview)

    def update(self) -> None:
        """Watch the landmarks that the parameter node names, while it says so."""
        parameters = self.parameters
        wanted = [parameters.fixedLandmarks, parameters.movingLandmarks] if parameters.liveUpdate else []
        wanted = [node for node in wanted if node is not None]
        if wanted == self._watched:
            return
        self.cleanUp()
        events = slicer.vtkMRMLMarkupsNode
        for node in wanted:
            for event in (
                events.PointEndInteractionEvent,
                events.PointPositionDefinedEvent,
                events.PointRemovedEvent,
            ):
                self.addObserver(node, event, self._onMoved)
        self._watched = wanted

    def cleanUp(self) -> None:
        """Watch nothing."""
        super().cleanUp()
        self._timer.stop()
        self._watched = []

    def _onMoved(self, _caller: Any, _event: Any) -> None:
        self._timer.start()

    def preview(self) -> None:
        """Run a preview into the nodes of the run that is looked at, so that it can be undone."""
        parameters = self.panel.parameters
        if parameters is None:
            return
        found = list(self.panel.problems())
        try:
            options = previewOptions(parameters)
            if not isDeformable(parameters):
                found.insert(0, _("landmarks pull a deformation; choose Deformable as the transform."))
            if presets.filesToAccept(parameters):
                found.append(_("the preset came with the scene; press Run to be asked whether it may read its files."))
        except presets.InputError as error:
            found.append(str(error))
        if found:
            self.panel.say(_("No preview: {why}").format(why=found[0]), "check")
            return
        if self._job is not None and self._job.isPending:
            self.panel.logic.cancel(self._job, keepWarm=True)
        run = self.panel.run
        outputs = Outputs(
            parameters.outputTransform or (run.transform if run else None),
            parameters.outputVolume or (run.warped if run else None),
        )
        self._job = self.panel.startPreview(options, outputs)
