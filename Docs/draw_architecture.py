"""Draw which room imports which: `python Docs/draw_architecture.py` writes Docs/architecture.svg from the source.

A room is a folder of SpikeRegLib or of SpikeRegSlicerLib, or a file that lies beside the folders of SpikeRegLib; the
files beside those of SpikeRegSlicerLib are one room. Imports for type checkers alone do not count. Rooms that import
each other share a box. An arrow that follows from others is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[1]
PICTURE = Path(__file__).resolve().parent / "architecture.svg"
PACKAGES = {
    "SpikeRegLib": ROOT / "SpikeRegLib",
    "SpikeRegSlicerLib": ROOT / "SpikeRegSlicer" / "SpikeRegSlicerLib",
}
SLICER = "SpikeRegSlicerLib"  # its rooms are written with it in front, the files beside them are the room itself
CALLED = (SLICER, "commands")  # no import: the panel starts `spikereg worker`
WIDTH, BOX, GAP, ROW = 980, 30, 14, 72  # px: picture, height of a box, between boxes, from row to row
LETTER = 7.0  # px, of the font below
FILLS = {SLICER: "#dcebd5", "": "#dbe7f5"}

Graph = dict[str, set[str]]


def statements(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every node below, but not what only a type checker sees."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            yield from statements(getattr(statement, field, []))


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` gives a.b."""
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(dotted: str) -> str | None:
    """The room in which an imported name lies; None for other packages and for the names of a package itself."""
    package, _, rest = dotted.partition(".")
    if package not in PACKAGES or not rest:
        return None
    name = rest.split(".")[0]
    is_folder = (PACKAGES[package] / name).is_dir()
    if not is_folder and not (PACKAGES[package] / f"{name}.py").is_file():
        return None
    if package == SLICER:
        return f"{SLICER}/{name}" if is_folder else SLICER
    return name


def graph() -> Graph:
    """Room -> the rooms it imports, itself left out."""
    found: Graph = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] in ("__init__", "__main__") and len(parts) == 1:
                continue
            room = room_of(".".join((package, *parts)))
            assert room is not None, path
            found.setdefault(room, set()).update(filter(None, map(room_of, imported(path))))
    return {room: others - {room} for room, others in found.items()}


def reachable(rooms: Graph, start: str) -> set[str]:
    """Rooms that `start` needs, directly or not."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for other in rooms[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def boxes(rooms: Graph) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Rooms that import each other together, and the arrows between boxes that follow from no others."""
    needs = {room: reachable(rooms, room) for room in rooms}
    box = {room: tuple(sorted({room} | {o for o in needs[room] if room in needs[o]})) for room in rooms}
    direct = {box[room]: set() for room in rooms}
    for room, others in rooms.items():
        direct[box[room]] |= {box[other] for other in others} - {box[room]}
    return {
        one: {o for o in others if not any(o[0] in needs[via[0]] and via != o for via in others)}
        for one, others in direct.items()
    }


def rows(arrows: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[list[tuple[str, ...]]]:
    """Boxes by the longest way down to a box that imports nothing; the first row is the lowest."""
    height: dict[tuple[str, ...], int] = {}

    def climb(box: tuple[str, ...]) -> int:
        if box not in height:
            height[box] = 1 + max(map(climb, arrows[box]), default=-1)
        return height[box]

    found = [[] for _ in range(1 + max(map(climb, arrows)))]  # type: list[list[tuple[str, ...]]]
    for box in sorted(arrows):
        found[height[box]].append(box)
    return found


def width(box: tuple[str, ...]) -> float:
    return 18 + LETTER * len(" + ".join(box))


def places(arrows: dict[tuple[str, ...], set[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[float, float]]:
    """Middle of the upper edge of every box, px: each row in the order of what its boxes import."""
    layers = rows(arrows)
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    for number, layer in enumerate(layers):
        layer = sorted(layer, key=lambda box: (fmean([found[o][0] for o in arrows[box]] or [WIDTH / 2]), box))
        free = (WIDTH - sum(map(width, layer))) / (len(layer) + 1)
        x, y = free, GAP + ROW * (len(layers) - 1 - number)
        for box in layer:
            found[box] = (x + width(box) / 2, y)
            x += width(box) + free
    return found


def curve(start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    """From the lower edge of one box to the upper edge of another."""
    (x, y), (to_x, to_y) = (start[0], start[1] + BOX), end
    middle = (y + to_y) / 2
    return f'  <path d="M{x:.0f} {y}C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y}" {style}/>'


def picture() -> str:
    """The picture as SVG."""
    arrows = boxes(graph())
    where = places(arrows)
    bottom = max(y for _, y in where.values()) + BOX + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" height="{bottom}">',
        '  <defs><marker id="end" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L6 3L0 6z" fill="#777"/></marker></defs>',
        '  <rect width="100%" height="100%" fill="#fff"/>',
    ]
    solid = 'fill="none" stroke="#999" stroke-width="1.1" marker-end="url(#end)"'
    for box in sorted(arrows):
        lines += [curve(where[box], where[other], solid) for other in sorted(arrows[box])]
    caller, called = (next(box for box in arrows if room in box) for room in CALLED)
    (x, y), (to_x, to_y) = where[caller], where[called]  # from side to side: they may lie in one row
    path = f"M{x + width(caller) / 2:.0f} {y + BOX / 2:.0f}L{to_x - width(called) / 2:.0f} {to_y + BOX / 2:.0f}"
    lines.append(f'  <path d="{path}" {solid.replace("#999", "#c60")} stroke-dasharray="6 4"/>')
    for box, (x, y) in sorted(where.items()):
        fill = FILLS[SLICER if box[0].startswith(SLICER) else ""]
        text = " + ".join(box)
        size, font = f'width="{width(box):.0f}" height="{BOX}" rx="5"', 'font-family="sans-serif" font-size="13"'
        lines += [
            f'  <rect x="{x - width(box) / 2:.0f}" y="{y}" {size} fill="{fill}" stroke="#456"/>',
            f'  <text x="{x:.0f}" y="{y + 20}" text-anchor="middle" {font}>{text}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
