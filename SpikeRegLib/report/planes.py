"""Three anatomical planes through the anatomy, as frames to resample on: so every image of the report shares one scale.

The planes are the patient's, not the array's: oblique and anisotropic volumes are shown upright and in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.images.volumes import Volume, foreground_mask
from SpikeRegLib.space.transforms import AffineTransform, CompositeTransform, Transform, compose, warp_image

PIXELS = 256  # along the longer side of every plane
_MARGIN = 0.06

# Columns and rows as seen on screen, in LPS: x grows to the patient's left, y to the back, z to the head. Radiological
# convention: the patient's right is on the left of the picture.
_AXES = {
    "axial": ((1, 0, 0), (0, 1, 0), "RLAP"),
    "coronal": ((1, 0, 0), (0, 0, -1), "RLSI"),
    "sagittal": ((0, 1, 0), (0, 0, -1), "APSI"),
}


@dataclass(frozen=True)
class Plane:
    """One slice to draw.

    Attributes:
        name: axial, coronal or sagittal.
        frame: one voxel thick, square pixels; index i runs to the right of the screen, j down.
        letters: what lies at the left, right, top and bottom edge.
    """

    name: str
    frame: Frame
    letters: str

    @property
    def columns(self) -> np.ndarray:
        """LPS direction of the screen's right."""
        return np.reshape(self.frame.direction, (3, 3))[:, 0]

    @property
    def rows(self) -> np.ndarray:
        """LPS direction of the screen's bottom."""
        return np.reshape(self.frame.direction, (3, 3))[:, 1]


def planes_through(volume: Volume) -> list[Plane]:
    """Axial, coronal and sagittal planes through the centre of the anatomy in `volume`.

    All have one width and one pixel size, so that pictures below and beside each other share their scale.
    """
    low, high = _anatomy_box(volume)
    extent = (high - low) * (1 + 2 * _MARGIN)
    width = max(extent[0], extent[1])
    pixel = max(width, extent[2]) / PIXELS
    heights = {"axial": extent[1], "coronal": extent[2], "sagittal": extent[2]}
    return [
        _plane(name, (low + high) / 2, (max(16, round(width / pixel)), max(16, round(height / pixel))), pixel)
        for name, height in heights.items()
    ]


def _plane(name: str, centre: np.ndarray, size: tuple[int, int], pixel: float) -> Plane:
    columns, rows, letters = np.array(_AXES[name][0]), np.array(_AXES[name][1]), _AXES[name][2]
    origin = centre - pixel * ((size[0] - 1) / 2 * columns + (size[1] - 1) / 2 * rows)
    direction = np.stack([columns, rows, np.cross(columns, rows)], 1).astype(float)
    frame = Frame(
        shape=(1, size[1], size[0]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        spacing=(pixel, pixel, pixel),
        direction=tuple(direction.ravel().tolist()),
    )
    return Plane(name, frame, letters)


def _anatomy_box(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """LPS mm bounds of the foreground, found on every n-th voxel: a picture needs no more."""
    steps = [max(1, n // 64) for n in volume.frame.shape]
    data = volume.data[:: steps[0], :: steps[1], :: steps[2]].float()
    spacing = volume.frame.spacing
    coarse = replace(
        volume.frame,
        shape=(data.shape[0], data.shape[1], data.shape[2]),
        spacing=(spacing[0] * steps[2], spacing[1] * steps[1], spacing[2] * steps[0]),
    )
    index = foreground_mask(Volume(data, coarse)).nonzero().double().numpy()[:, ::-1]  # (i, j, k)
    points = coarse.to_mm(index)
    return points.min(0), points.max(0)


def slice_of(
    volume: Volume,
    plane: Plane,
    transform: Transform | None = None,
    *,
    nearest: bool = False,
    outside: float = 0.0,
) -> np.ndarray:
    """[H, W] values of `volume` at the pixels of `plane`, seen through `transform` (fixed -> moving) when given."""
    through = transform or Transform.identity()
    interpolation = "nearest" if nearest else "linear"
    return warp_image(volume, through, plane.frame, interpolation=interpolation, outside=outside).data[0].numpy()


def affine_part(transform: Transform) -> AffineTransform:
    """The linear elements of a transform alone, composed."""
    parts = transform.transforms if isinstance(transform, CompositeTransform) else (transform,)
    composed = compose(*(part for part in parts if isinstance(part, AffineTransform)))
    assert isinstance(composed, AffineTransform)
    return composed


def deformed_coordinates(transform: Transform, plane: Plane) -> np.ndarray:
    """[2, H, W] mm: in-plane coordinates (columns, rows) of each pixel after the deformable part of `transform`."""
    height, width = plane.frame.shape[1:]
    j, i = np.mgrid[:height, :width]
    matrix = plane.frame.matrix
    points = np.stack([i, j], -1) @ matrix[:3, :2].T + matrix[:3, 3]
    moved = points + np.moveaxis(transform.displacement_on(plane.frame)[:, 0].numpy(), 0, -1)
    undo = np.linalg.inv(affine_part(transform).matrix)
    deformed = moved @ undo[:3, :3].T + undo[:3, 3] - matrix[:3, 3]
    return np.stack([deformed @ plane.columns, deformed @ plane.rows])
