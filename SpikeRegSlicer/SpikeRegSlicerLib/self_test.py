"""What the module's self-test asserts, on a real run; the same cases run under pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from SpikeRegLib.anatomy.names import STRUCTURES
from SpikeRegSlicerLib.display.compare import Comparison
from SpikeRegSlicerLib.registration import RegistrationError
from SpikeRegSlicerLib.sample import loadSample, loadSampleLabels
from SpikeRegSlicerLib.scene.labelmaps import segmentsOf
from SpikeRegSlicerLib.scene.results import runs
from SpikeRegSlicerLib.scene.structures import TABLE
from SpikeRegSlicerLib.segmentation import SegmentationError

if TYPE_CHECKING:
    from unittest import TestCase as _Assertions
else:
    _Assertions = object

PRESET = "fast-preview"
LEGENDS = {
    "checkerboard": ["fixed", "warped"],
    "jacobian": ["folds", "1/4", "1/2", "1", "2", "4"],
    "glyph": ["0 mm"],
    "surface": ["0 mm"],
    "error": ["0", "1", "white 2", "3.5", "black 5", "≥ 8"],
}  # in English; the first texts of each
LARGE = (10, 53)  # FreeSurfer's numbers of a left and a right structure that no good look misses


class Cases(_Assertions):
    """Cases of the logic, mixed into a unittest.TestCase; each is called with the logic on an empty scene."""

    @classmethod
    def cases(cls) -> list[str]:
        """Names of the cases, in the order to run."""
        return [name for name in vars(Cases) if name.startswith("case") and name != "cases"]

    @classmethod
    def registeringNothing(cls) -> list[str]:
        """Those of them that register nothing."""
        return ["caseSaysWhatIsMissing"]

    def caseRegistersTheSamplePair(self, logic: Any) -> None:
        """A run gives what it promises, in numbers; removing it leaves nothing.

        The transform, asked point by point, takes from the moving volume what the warped volume shows.
        """
        fixed, moving = loadSample()
        fixedLabels, movingLabels = loadSampleLabels()
        before = nodeCount()
        labels = {"fixed_labels": fixedLabels, "moving_labels": movingLabels}
        run = logic.register(fixed, moving, PRESET, **labels, spike_maps=True, threads=1)
        self.assertEqual(run.result["deformation"]["folding_percent"], 0)
        self.assertGreater(run.result["similarity"]["lncc_after"], 0.8)
        self.assertGreater(run.result["dice"]["after_mean"], 0.55)
        self.assertEqual(run.warped.GetImageData().GetDimensions(), fixed.GetImageData().GetDimensions())
        self.assertGreater(correlation(run.warped, fixed), 0.9)
        self.assertGreater(len(run.spikes), 10)
        for volume in run.spikes:
            low, high = volume.GetImageData().GetScalarRange()
            self.assertGreaterEqual(low, 0)
            self.assertLessEqual(high, 1)
        self.assertLess(largestDifference(run, fixed, moving), 0.01)
        self.assertEqual([each.name for each in runs(slicer.mrmlScene)], [run.name])
        self.checkOverlays(run, fixed)
        run.remove()
        self.assertEqual(nodeCount(), before)

    def checkOverlays(self, run: Any, fixed: Any) -> None:
        """Every way to compare says what its colours mean, draws nothing outside the head, and leaves nothing."""
        comparison = Comparison(slicer.mrmlScene, fixed, run.warped, run.jacobian, run.transform, run.errors())
        before, volumes = nodeCount(), slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        outside = slicer.util.arrayFromVolume(fixed)[0, 0, 0]
        for mode in comparison.modes():
            comparison.show(mode)
            if mode in LEGENDS:
                self.assertEqual(legendTexts()[: len(LEGENDS[mode])], LEGENDS[mode])
            if mode in ("jacobian", "error"):
                now = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
                (overlay,) = [volume for volume in now if volume not in volumes]
                shown = slicer.util.arrayFromVolume(overlay) >= overlay.GetDisplayNode().GetLowerThreshold()
                self.assertLess(shown[slicer.util.arrayFromVolume(fixed) == outside].mean(), 0.05)
                self.assertGreater(shown.mean(), 0.05)
        comparison.hide()
        self.assertEqual(legendTexts(), [])
        self.assertEqual(nodeCount(), before)

    def caseNamesTheStructuresOfTheSample(self, logic: Any) -> None:
        """The segments lie where the sample's own label map has them, and are as large as the table says."""
        fixed, _moving = loadSample()
        labels, _movingLabels = loadSampleLabels()
        parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Parent")
        fixed.SetAndObserveTransformNodeID(parent.GetID())
        node = logic.segment(fixed, threads=1)
        self.assertIs(node.GetParentTransformNode(), parent)
        names = [segment.GetName() for segment in segmentsOf(node).values()]
        self.assertGreater(len(names), 30)
        table = node.GetNodeReference(TABLE).GetTable()
        millilitres = {table.GetValue(row, 0).ToString(): table.GetValue(row, 1).ToDouble() for row in range(33)}
        truth = slicer.util.arrayFromVolume(labels)
        for label in LARGE:
            name = STRUCTURES[label].name
            segment = node.GetSegmentation().GetSegmentIdBySegmentName(name)
            found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, fixed) > 0
            overlap = 2 * (found & (truth == label)).sum() / (found.sum() + (truth == label).sum())
            self.assertGreater(overlap, 0.6)
            self.assertAlmostEqual(millilitres[name], found.sum() * np.prod(fixed.GetSpacing()) / 1000, delta=0.02)

    def caseSaysWhatIsMissing(self, logic: Any) -> None:
        """What cannot be registered is refused before anything is started."""
        fixed, _moving = loadSample()
        with self.assertRaisesRegex(RegistrationError, "both fixed and moving"):
            logic.register(fixed, fixed, PRESET)
        with self.assertRaisesRegex(RegistrationError, "No moving volume"):
            logic.register(fixed, None, PRESET)
        with self.assertRaisesRegex(SegmentationError, "No volume"):
            logic.segment(None)
        self.assertEqual(logic.jobs, [])


def nodeCount() -> int:
    """Nodes in the scene that a person sees or that hold data; colour tables and the like are made once and stay."""
    found = slicer.util.getNodesByClass("vtkMRMLDisplayableNode") + slicer.util.getNodesByClass("vtkMRMLTableNode")
    found += slicer.util.getNodesByClass("vtkMRMLTextNode") + slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    return len(found)


def legendTexts() -> list[str]:
    """Of the legend that is shown, from below."""
    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    tables = [legend.GetPrimaryDisplayNode().GetColorNode() for legend in legends]
    return [table.GetColorName(n) for table in tables for n in range(table.GetNumberOfColors())]


def correlation(one: Any, other: Any) -> float:
    """Pearson correlation of two volumes on one grid."""
    return float(np.corrcoef(*(slicer.util.arrayFromVolume(volume).ravel() for volume in (one, other)))[0, 1])


def largestDifference(run: Any, fixed: Any, moving: Any) -> float:
    """Between the warped volume and the moving one at the transformed points, as a share of the range; some points."""
    toMoving = run.transform.GetTransformFromParent()
    warped, source = slicer.util.arrayFromVolume(run.warped), slicer.util.arrayFromVolume(moving)
    errors = [
        abs(
            sampled(source, toIndex(moving, toMoving.TransformPoint(toRas(fixed, index)))) - float(warped[tuple(index)])
        )
        for index in np.argwhere(warped > 0.5 * warped.max())[::2000]
    ]
    return max(errors) / float(np.ptp(warped))


def toRas(volume: Any, index: Any) -> list[float]:
    """RAS mm of a [K, J, I] index."""
    matrix = slicer.util.arrayFromVTKMatrix(ijkToRas(volume))
    return list((matrix @ [*(float(n) for n in index[::-1]), 1.0])[:3])


def toIndex(volume: Any, ras: Any) -> np.ndarray:
    """Continuous [K, J, I] index of a point, RAS mm."""
    matrix = slicer.util.arrayFromVTKMatrix(ijkToRas(volume))
    return (np.linalg.inv(matrix) @ [*ras, 1.0])[2::-1]


def ijkToRas(volume: Any) -> Any:
    """4x4 matrix of a volume's own grid."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def sampled(array: np.ndarray, index: np.ndarray) -> float:
    """Trilinear interpolation of [K, J, I] at a continuous index; 0 outside."""
    low = np.floor(index).astype(int)
    if (low < 0).any() or (low + 1 >= array.shape).any():
        return 0.0
    block = array[tuple(slice(n, n + 2) for n in low)].astype(float)
    for share in index - low:
        block = block[0] * (1 - share) + block[1] * share
    return float(block)
