"""Segmentations: from a volume node to the worker, and back into the scene as named structures. No widget needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import slicer
from slicer.i18n import tr as _

from SpikeRegSlicerLib import progress
from SpikeRegSlicerLib.background import BackgroundJobs, checkNames
from SpikeRegSlicerLib.display.structures_table import fillStructuresTable
from SpikeRegSlicerLib.jobs import Job, JobError
from SpikeRegSlicerLib.library import torchIsInstalled
from SpikeRegSlicerLib.scene import grids, hierarchy
from SpikeRegSlicerLib.scene.export import exportVolume
from SpikeRegSlicerLib.scene.structure_figures import readFigures
from SpikeRegSlicerLib.scene.structures import TABLE, loadStructures
from SpikeRegSlicerLib.scene.volume_problems import isGrey, sheared, volumeProblems

OPTIONS = ("threads", "allow_few_values", "allow_nonfinite")  # of the worker's request


class SegmentationError(JobError):
    """A segmentation that gave no result; the message says why, and what to do."""


@dataclass(kw_only=True, eq=False)
class Segmentation(Job):
    """One search for structures that was asked for.

    Attributes:
        volume: node; it is read when its turn comes.
        options: of the worker, by the library's names.
        node: vtkMRMLSegmentationNode that it made or brought up to date, once finished.
    """

    error: ClassVar[type[JobError]] = SegmentationError
    shares: ClassVar[dict[str, float]] = progress.SEGMENTATION

    volume: Any
    options: dict[str, Any]
    node: Any = None

    @property
    def made(self) -> Any:
        return self.node


class Segmentations(BackgroundJobs):
    """Names the structures of volumes of the scene in the background, one after another."""

    def segment(
        self,
        volume: Any,
        wait: bool = True,
        *,
        onProgress: Callable[[str, float, str], None] | None = None,
        onDone: Callable[[Segmentation], None] | None = None,
        **options: Any,
    ) -> Any:
        """Name the structures of a head or a skull-stripped brain of any contrast.

        Args:
            volume: node; its own grid is that of the segments, its parent transform theirs.
            wait: return when it is done; Slicer stays alive meanwhile.
            onProgress, onDone: see `Job`.
            options: threads, allow_few_values, allow_nonfinite, as of `SpikeRegLib.segment`.

        Returns:
            The segmentation node: new, or that of an earlier segmentation of this volume. With `wait=False` the
            segmentation, whose `node` that is in the end.

        Raises:
            SegmentationError: it cannot be started, or (with `wait`) gave no result.
        """
        checkNames(options, OPTIONS, SegmentationError)
        found = self.segmentationProblems(volume)
        if found:
            raise SegmentationError("\n".join(found))
        job = Segmentation(
            volume=volume,
            options=options,
            folder=self.newFolder(SegmentationError),
            reads=(volume,),
            prepare=self._prepareSegmentation,
            load=_loadSegmentation,
            onEnd=self._onSegmentationEnd,
        )
        self.submit(job, onProgress, onDone)
        return self.wait(job) if wait else job

    def segmentationProblems(self, volume: Any) -> list[str]:
        """Every reason why a volume cannot be segmented, each a sentence that says what to do."""
        if volume is None:
            return [_("No volume is chosen; choose the image of a head.")]
        found = list(volumeProblems(volume))
        if isGrey(volume) and not grids.ownGrid(volume).isRectangular():
            found.append(sheared(volume.GetName()))
        if not torchIsInstalled():
            found.append(_("PyTorch is not installed: install it with the button above Run."))
        return found

    def _prepareSegmentation(self, job: Segmentation) -> dict[str, Any]:
        """Write the volume as it is now; the worker's request.

        Raises:
            SegmentationError: the volume no longer fits, or cannot be written.
            InputError: the same.
        """
        found = self.segmentationProblems(job.volume)
        if found:
            raise SegmentationError("\n".join(found))
        try:
            path = exportVolume(job.volume, self.exchange.inputsFolder())
            os.makedirs(job.folder, exist_ok=True)
        except OSError as error:
            raise SegmentationError(self.exchange.explain(error)) from error
        return {**job.options, "segment": path, "out": os.path.join(job.folder, "out")}

    def _onSegmentationEnd(self, job: Segmentation) -> None:
        job.message = _worded(job, job.message)
        self.endJob(job)


def _loadSegmentation(job: Segmentation) -> None:
    figures = readFigures(job.path, lambda line: _worded(job, line))
    job.node = node = loadStructures(os.path.dirname(job.path), job.volume, figures)
    table = node.GetNodeReference(TABLE)
    if table is None:
        name = _("{segmentation} table").format(segmentation=node.GetName())
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
        node.SetNodeReferenceID(TABLE, table.GetID())
        hierarchy.placeBeside(table, job.volume)
    fillStructuresTable(table, figures)


def _worded(job: Segmentation, line: str) -> str:
    """What the library said, with the volume's name in place of the file that was written for it."""
    where, colon, rest = line.partition(": ")
    isFile = colon and os.path.basename(where).startswith("volume.")
    return f'"{job.volume.GetName()}": {rest}' if isFile else line
