"""What a run reads from the scene."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from . import transforms


@dataclass
class Inputs:
    """The nodes a run reads, by the names that `SpikeRegLib.register` has for them; None where not given.

    A run maps fixed points in the world (linear parents of the fixed side applied) to the moving volume's own
    coordinates, in which the moving volume stays when it is put under the result instead of its present parent.
    Linear parents of the moving volume are where the alignment starts, unless there is an initial transform. The result
    of an earlier run of the same pair above a node is no part of the input.
    """

    fixed: Any = None  # vtkMRMLScalarVolumeNode
    moving: Any = None
    fixed_mask: Any = None  # vtkMRMLSegmentationNode or vtkMRMLLabelMapVolumeNode
    moving_mask: Any = None
    fixed_leave_out: Any = None  # what of a volume does not count; kinds of node as for masks
    moving_leave_out: Any = None
    fixed_labels: Any = None
    moving_labels: Any = None
    initial_transform: Any = None  # vtkMRMLTransformNode
    fixed_points: Any = None  # vtkMRMLMarkupsFiducialNode
    moving_points: Any = None
    region: Any = None  # vtkMRMLMarkupsROINode

    @property
    def pair(self) -> tuple[Any, Any]:
        return self.fixed, self.moving

    @property
    def nodes(self) -> tuple[Any, ...]:
        """Those that are given, each once."""
        given = (getattr(self, field.name) for field in fields(self))
        return tuple(dict.fromkeys(node for node in given if node is not None))

    def standing(self, node: Any) -> np.ndarray | None:
        """4x4 from the own coordinates of one of these nodes to the world; see `transforms.standing`."""
        drawn = (self.fixed_mask, self.fixed_leave_out, self.fixed_labels, self.fixed_points)
        onFixed = (self.fixed, *drawn, self.region)
        return transforms.standing(node, self.pair, "fixed" if node in onFixed else "moving")
