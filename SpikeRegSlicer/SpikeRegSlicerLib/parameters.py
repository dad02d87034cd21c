"""Everything a person chooses in the panel, kept in the scene's parameter node, and what the worker is asked for it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any, Union

from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from SpikeRegLib.options.options import OPTIONS
from SpikeRegLib.presets.preset import METHODS, preset_for
from SpikeRegSlicerLib.display.compare import MODES
from SpikeRegSlicerLib.scene.inputs import Inputs

# typing.Union and None, because Slicer's wrapper knows a union in no other spelling.
Labels = Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007

COMPARE_VALUES = {
    "blend": "blendOpacity",
    "flicker": "flickerRate",
    "checkerboard": "checkerSize",
    "difference": "differenceWindow",
    "jacobian": "jacobianOpacity",
    "grid": "gridSpacing",
    "glyph": "glyphSpacing",
    "contour": "contourStep",
    "error": "errorOpacity",
    "surface": "surfaceOpacity",
    "errorSurface": "errorSurfaceOpacity",
}
"""Mode of comparison -> the parameter that its slider sets."""


def _range(mode: str) -> WithinRange:
    return WithinRange(MODES[mode].minimum, MODES[mode].maximum)


class _Methods(enum.Enum):
    def label(self) -> str:
        known = {
            "": _("as the preset"),
            "spikereg": _("Spiking network"),
            "ann": _("Its dense twin"),
            "nephi": _("Neural field"),
            "spiking-nephi": _("Spiking neural field"),
            "optimize": _("Optimisation only"),
        }
        return known.get(self.value, self.value)


if TYPE_CHECKING:

    class Method(_Methods):  # a type checker cannot see the other names, which METHODS gives
        PRESET = ""
        SPIKEREG = "spikereg"

else:
    Method = _Methods("Method", {"PRESET": "", **{name.upper().replace("-", "_"): name for name in METHODS}})
"""Who finds the deformation: every method of the library by its name there, and the preset's own, which is empty."""


class TransformType(enum.Enum):
    """What may be done to the moving volume; the value is its name in the library."""

    DEFORMABLE = "deformable"
    AFFINE = "affine"
    RIGID = "rigid"

    def label(self) -> str:
        return {
            TransformType.DEFORMABLE: _("Deformable"),
            TransformType.AFFINE: _("Affine only"),
            TransformType.RIGID: _("Rigid only"),
        }[self]


class Device(enum.Enum):
    """Where the library computes; the value is its name there."""

    AUTOMATIC = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    METAL = "mps"

    def label(self) -> str:
        return {
            Device.AUTOMATIC: _("automatic"),
            Device.CPU: _("Processor (CPU)"),
            Device.CUDA: _("NVIDIA card (CUDA)"),
            Device.METAL: _("Apple chip (Metal)"),
        }[self]


@parameterNodeWrapper
class Parameters:
    """The panel's parameter node.

    Attributes:
        fixed, moving: the pair.
        transformType: whether the moving volume may be deformed, or only aligned.
        preset: name of a preset; `customPreset` holds the TOML text of one that does not ship with the library.
        outputTransform, outputVolume: nodes that the next run fills; None: it makes new ones and chooses them.
        method: instead of the preset's.
        timesteps: of the spiking network; 0 as trained.
        refineIterations: at each level; -1 as the preset.
        regularisation: factor on the smoothing of the refinement.
        initialTransform: brings the moving volume near the fixed one.
        align: align rigidly and affinely, from the initial transform if there is one.
        fixedMask, movingMask: where the volumes count.
        fixedLeaveOut, movingLeaveOut: what of them does not count.
        region: where refinement may change the deformation.
        fixedSegmentation, movingSegmentation: the same structures in both, to measure the overlap.
        fixedLandmarks, movingLandmarks: the same points in both, in the same order.
        landmarkWeight: how much of the similarity 1 mm between landmarks outweighs; 0 only measures them.
        liveUpdate: preview again after each move of a landmark.
        device, threads, seed: of the computation; 0 threads for all cores.
        spikeMaps: make a volume of every layer's spike rate.
        allowFewValues: take volumes of few grey values for images, instead of for label maps.
        useStructures: let structures found in the volumes, where the preset finds them, start, mask, guide and judge.
        setBackground: fill the warped volume where the moving one does not reach with `background`, instead of with the
            moving volume's own background.
        structuresVolume: whose structures are named; None: the fixed one.
        result: transform of the run that is looked at.
        compareMode: the comparison that is shown, empty for none; the next ones are its sliders.
        blendOpacity, jacobianOpacity, errorOpacity, surfaceOpacity, errorSurfaceOpacity: 0..1.
        flickerRate: Hz.
        checkerSize, gridSpacing, glyphSpacing, contourStep: mm.
        differenceWindow: share of the fixed volume's intensity window.
        showSpikes, spikeLayer, spikeOpacity: the overlay of spike rates; layers count from 0 at the first.
        ownSpikeScale: colour each layer by its own highest rate, instead of all by one.
        reviewer: who decides.
        applyInverse, applyHarden: how the transform is applied to other nodes.
    """

    fixed: vtkMRMLScalarVolumeNode
    moving: vtkMRMLScalarVolumeNode
    transformType: TransformType = TransformType.DEFORMABLE
    preset: str = preset_for(None)
    customPreset: str = ""
    outputTransform: vtkMRMLTransformNode
    outputVolume: vtkMRMLScalarVolumeNode

    method: Method = Method.PRESET
    timesteps: Annotated[int, WithinRange(0, 64)] = 0
    refineIterations: Annotated[int, WithinRange(-1, 200)] = -1
    regularisation: Annotated[float, WithinRange(0.25, 4.0)] = 1.0
    initialTransform: vtkMRMLTransformNode
    align: bool = True
    fixedMask: Labels
    movingMask: Labels
    fixedLeaveOut: Labels
    movingLeaveOut: Labels
    region: vtkMRMLMarkupsROINode
    fixedSegmentation: Labels
    movingSegmentation: Labels
    fixedLandmarks: vtkMRMLMarkupsFiducialNode
    movingLandmarks: vtkMRMLMarkupsFiducialNode
    landmarkWeight: Annotated[float, WithinRange(0.0, 1.0)] = 0.1
    liveUpdate: bool = False
    device: Device = Device.AUTOMATIC
    threads: Annotated[int, WithinRange(0, 256)] = 0
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    spikeMaps: bool = True
    allowFewValues: bool = False
    useStructures: bool = True
    setBackground: bool = False
    background: Annotated[float, WithinRange(*OPTIONS["background"].limits)] = 0.0

    structuresVolume: vtkMRMLScalarVolumeNode

    result: vtkMRMLTransformNode
    compareMode: Annotated[str, Choice(("", *COMPARE_VALUES))] = ""
    blendOpacity: Annotated[float, _range("blend")] = MODES["blend"].default
    flickerRate: Annotated[float, _range("flicker")] = MODES["flicker"].default
    checkerSize: Annotated[float, _range("checkerboard")] = MODES["checkerboard"].default
    differenceWindow: Annotated[float, _range("difference")] = MODES["difference"].default
    jacobianOpacity: Annotated[float, _range("jacobian")] = MODES["jacobian"].default
    gridSpacing: Annotated[float, _range("grid")] = MODES["grid"].default
    glyphSpacing: Annotated[float, _range("glyph")] = MODES["glyph"].default
    contourStep: Annotated[float, _range("contour")] = MODES["contour"].default
    errorOpacity: Annotated[float, _range("error")] = MODES["error"].default
    surfaceOpacity: Annotated[float, _range("surface")] = MODES["surface"].default
    errorSurfaceOpacity: Annotated[float, _range("errorSurface")] = MODES["errorSurface"].default
    showSpikes: bool = False
    spikeLayer: Annotated[int, WithinRange(0, 999)] = 0
    spikeOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.6
    ownSpikeScale: bool = False
    reviewer: str = ""
    applyInverse: bool = False
    applyHarden: bool = False

    if TYPE_CHECKING:  # what the wrapper adds

        def default(self, name: str) -> Any: ...


ADVANCED = (
    "method",
    "timesteps",
    "refineIterations",
    "regularisation",
    "initialTransform",
    "align",
    "fixedMask",
    "movingMask",
    "fixedLeaveOut",
    "movingLeaveOut",
    "region",
    "fixedSegmentation",
    "movingSegmentation",
    "fixedLandmarks",
    "movingLandmarks",
    "landmarkWeight",
    "liveUpdate",
    "device",
    "threads",
    "seed",
    "spikeMaps",
    "allowFewValues",
    "useStructures",
    "setBackground",
    "background",
)
"""What "Restore defaults" sets back."""


def restoreDefaults(parameters: Parameters) -> None:
    """Set everything under Advanced back to what a new scene has."""
    for name in ADVANCED:
        setattr(parameters, name, parameters.default(name).value)


def isDeformable(parameters: Parameters) -> bool:
    """Whether a deformation is looked for; where none is, what concerns one alone is not sent to the worker."""
    return parameters.transformType is TransformType.DEFORMABLE


def inputsOf(parameters: Parameters) -> Inputs:
    """The nodes that a run reads."""
    return Inputs(
        fixed=parameters.fixed,
        moving=parameters.moving,
        fixed_mask=parameters.fixedMask,
        moving_mask=parameters.movingMask,
        fixed_leave_out=parameters.fixedLeaveOut,
        moving_leave_out=parameters.movingLeaveOut,
        fixed_labels=parameters.fixedSegmentation,
        moving_labels=parameters.movingSegmentation,
        initial_transform=parameters.initialTransform,
        fixed_points=parameters.fixedLandmarks,
        moving_points=parameters.movingLandmarks,
        region=parameters.region if isDeformable(parameters) else None,
    )


def optionsOf(parameters: Parameters) -> dict[str, Any]:
    """The worker's options besides the nodes; one that is left to the preset or the library is not named.

    `preset` is a name here even where the scene holds the preset's text: see `presets.presetOf`.
    """
    options: dict[str, Any] = {
        "preset": parameters.preset,
        "align": parameters.align,
        "device": parameters.device.value,
        "seed": parameters.seed,
        "spike_maps": parameters.spikeMaps,
    }
    if isDeformable(parameters):
        options["regularisation"] = parameters.regularisation
    if not parameters.align:
        options["skip_affine"] = True
    if not isDeformable(parameters):
        options["transform_type"] = parameters.transformType.value
    elif parameters.method is not Method.PRESET:
        options["method"] = parameters.method.value
    if parameters.timesteps and isDeformable(parameters):
        options["timesteps"] = parameters.timesteps
    if parameters.refineIterations >= 0 and isDeformable(parameters):
        options["refine_iterations"] = parameters.refineIterations
    if parameters.fixedLandmarks and parameters.movingLandmarks and isDeformable(parameters):
        options["landmark_weight"] = parameters.landmarkWeight
    if parameters.threads:
        options["threads"] = parameters.threads
    if parameters.allowFewValues:
        options["allow_few_values"] = True
    if not parameters.useStructures:
        options["structures"] = "none"
    if parameters.setBackground:
        options["background"] = parameters.background
    return options
