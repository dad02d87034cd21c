"""What `register` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from SpikeRegLib.images.volumes import Volume
    from SpikeRegLib.neural_field.coded import CodedDeformation
    from SpikeRegLib.report.notebook import NotebookView
    from SpikeRegLib.space.transforms import Transform

SCHEMA = 1


@dataclass
class Registration:
    """A finished registration, still in memory.

    Attributes:
        fixed, moving: as read, in their own intensities.
        warped: moving resampled on the grid of fixed through `transform`.
        transform: fixed -> moving points; first the deformation, then the alignment.
        inverse: moving -> fixed points.
        displacement: [3, D, H, W] mm, LPS, the whole of `transform` on the grid of fixed.
        jacobian: determinant of `transform` on the grid of fixed.
        predicted_error: distance in mm by which `transform` is expected to be wrong, on the grid of fixed; NaN where
            nothing can be said. None where it is not predicted.
        warped_labels, fixed_labels: with segmentations; on the grid of fixed.
        coded: `transform` as the codes of a neural field, where it is one and nothing else.
        spike_maps: layer -> mean spike rate in [0, 1] over channels and passes, on the layer's grid; on request only.
        result: the content of result.json.
    """

    fixed: Volume
    moving: Volume
    warped: Volume
    transform: Transform
    inverse: Transform
    displacement: torch.Tensor
    jacobian: Volume
    predicted_error: Volume | None = None
    warped_labels: Volume | None = None
    fixed_labels: Volume | None = None
    coded: CodedDeformation | None = None
    spike_maps: dict[str, Volume] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    def view(self) -> NotebookView:
        """The report for a notebook: as the last line of a Jupyter cell it shows itself."""
        from SpikeRegLib.report import render_report
        from SpikeRegLib.report.notebook import NotebookView

        return NotebookView(render_report(self))
