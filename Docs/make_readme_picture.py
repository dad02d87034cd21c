"""Put the README's picture together: `python Docs/make_readme_picture.py` writes Docs/screenshots/in-slicer.png.

The panel beside three rows of slice views, all from the tutorial's pictures; run it after `make_panel_pictures.py` and
`make_screenshots.py`. Needs Pillow, which comes with matplotlib.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

SCREENSHOTS = Path(__file__).resolve().parent / "screenshots"
PICTURE = SCREENSHOTS / "in-slicer.png"
ROWS = ("checkerboard", "grid", "spikes-early")


def compose() -> Image.Image:
    """The picture: slice views at two thirds of their size, the panel at the height of them all."""
    views = [Image.open(SCREENSHOTS / f"{name}.png").convert("RGB") for name in ROWS]
    views = [view.resize((view.width * 2 // 3, view.height * 2 // 3), Image.Resampling.LANCZOS) for view in views]
    height = sum(view.height for view in views)
    panel = Image.open(SCREENSHOTS / "panel-after.png").convert("RGB")
    panel = panel.resize((panel.width * height // panel.height, height), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (panel.width + views[0].width, height), "white")
    picture.paste(panel, (0, 0))
    for number, view in enumerate(views):
        picture.paste(view, (panel.width, number * view.height))
    return picture.quantize(256, dither=Image.Dither.NONE)


def main() -> None:
    compose().save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(SCREENSHOTS.parents[1])}  {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
