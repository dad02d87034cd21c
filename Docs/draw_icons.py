"""Draw the module's icon and the thumbnail of its sample data: `python Docs/draw_icons.py`.

The icon is a grid that a deformation bends, and an action potential across it. It is written as Docs/icon.svg, and as
the 128 x 128 PNG that Slicer and the extensions catalog show. The thumbnail has a coronal slice of either bundled head.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ICONS = ROOT / "SpikeRegSlicer" / "Resources" / "Icons"
SIZE = 128  # px, as the extensions index asks
LINES = 5
MARGIN = 14.0  # px around the grid
SWIRL = 0.5  # radians, in the middle
BACKGROUND, GRID, SPIKE = "#14304f", "#7fb2e5", "#ffb52e"
SPIKE_POINTS = ((4, 76), (34, 76), (41, 68), (49, 80), (60, 15), (71, 112), (82, 72), (90, 76), (124, 76))


def bent(x: float, y: float) -> tuple[float, float]:
    """Where a point of the straight grid goes: a swirl around the middle that leaves the edge where it was."""
    across, down = (x - SIZE / 2) / (SIZE / 2 - MARGIN), (y - SIZE / 2) / (SIZE / 2 - MARGIN)
    angle = SWIRL * max(0.0, 1 - across**2) * max(0.0, 1 - down**2)
    cosine, sine = math.cos(angle), math.sin(angle)
    reach = SIZE / 2 - MARGIN
    return SIZE / 2 + reach * (cosine * across - sine * down), SIZE / 2 + reach * (sine * across + cosine * down)


def polyline(points: list[tuple[float, float]], colour: str, width: float, extra: str = "") -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'  <polyline points="{text}" fill="none" stroke="{colour}" stroke-width="{width:g}"{extra}/>'


def icon() -> str:
    """The icon as SVG."""
    places = np.linspace(MARGIN, SIZE - MARGIN, LINES)
    steps = np.linspace(MARGIN, SIZE - MARGIN, 41)
    lines = [[bent(x, y) for y in steps] for x in places] + [[bent(x, y) for x in steps] for y in places]
    joined = ' stroke-linejoin="round" stroke-linecap="round"'
    spike = [(float(x), float(y)) for x, y in SPIKE_POINTS]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}">',
            f'  <rect width="{SIZE}" height="{SIZE}" rx="22" fill="{BACKGROUND}"/>',
            *(polyline(line, GRID, 4, joined) for line in lines),
            polyline(spike, BACKGROUND, 17, joined),  # keeps the spike apart from the grid, down to 16 px
            polyline(spike, SPIKE, 9, joined),
            "</svg>",
            "",
        ]
    )


def coronal(path: Path) -> np.ndarray:
    """[H, W] bytes: the middle coronal slice of a head, upright, the brightest hundredth white."""
    import SimpleITK

    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    volume = SimpleITK.GetArrayFromImage(image)
    plane = volume[::-1, volume.shape[1] // 2].astype(float)
    return np.clip(plane / np.percentile(plane, 99) * 255, 0, 255).astype(np.uint8)


def main() -> None:
    from PySide6.QtCore import QRectF, Qt
    from PySide6.QtGui import QGuiApplication, QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    application = QGuiApplication.instance() or QGuiApplication(["draw_icons", "-platform", "offscreen"])
    (ROOT / "Docs" / "icon.svg").write_text(icon(), encoding="utf-8")
    picture = QImage(SIZE, SIZE, QImage.Format.Format_ARGB32)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    QSvgRenderer(icon().encode()).render(painter)
    painter.end()
    picture.save(str(ICONS / "SpikeRegSlicer.png"))

    thumbnail = QImage(2 * SIZE, SIZE, QImage.Format.Format_RGB32)
    thumbnail.fill(Qt.GlobalColor.black)
    painter = QPainter(thumbnail)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    for column, name in enumerate(("fixed", "moving")):
        plane = np.ascontiguousarray(coronal(ROOT / "SpikeRegLib" / "sample" / f"{name}.nii.gz"))
        height, width = plane.shape
        slice_picture = QImage(plane.data, width, height, width, QImage.Format.Format_Grayscale8)
        scale = (SIZE - 8) / max(height, width)
        left = SIZE * (column + 0.5) - width * scale / 2
        painter.drawImage(QRectF(left, (SIZE - height * scale) / 2, width * scale, height * scale), slice_picture)
    painter.end()
    thumbnail.save(str(ICONS / "SpikeRegSample.png"))
    del application


if __name__ == "__main__":
    main()
