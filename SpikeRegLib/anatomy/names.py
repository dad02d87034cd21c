"""FreeSurfer's names and colours of the structures, as its table FreeSurferColorLUT.txt has them."""

from __future__ import annotations

from typing import NamedTuple

from SpikeRegLib.anatomy.structures import MIRRORED


class Structure(NamedTuple):
    """What a label is called and how it is drawn.

    Attributes:
        name: in words, with the side first: "left hippocampus".
        colour: red, green and blue, 0 to 255.
    """

    name: str
    colour: tuple[int, int, int]


# Of the left side; the right one has the same name and, but for these, the same colour.
_LEFT = {
    2: ("cerebral white matter", (245, 245, 245)),
    3: ("cerebral cortex", (205, 62, 78)),
    4: ("lateral ventricle", (120, 18, 134)),
    5: ("inferior lateral ventricle", (196, 58, 250)),
    7: ("cerebellum white matter", (220, 248, 164)),
    8: ("cerebellum cortex", (230, 148, 34)),
    10: ("thalamus", (0, 118, 14)),
    11: ("caudate", (122, 186, 220)),
    12: ("putamen", (236, 13, 176)),
    13: ("pallidum", (12, 48, 255)),
    17: ("hippocampus", (220, 216, 20)),
    18: ("amygdala", (103, 255, 255)),
    26: ("accumbens area", (255, 165, 0)),
    28: ("ventral diencephalon", (165, 42, 42)),
}
_COLOURS_OF_THE_RIGHT = {41: (0, 225, 0), 52: (13, 48, 255)}
_MIDDLE = {
    14: Structure("third ventricle", (204, 182, 142)),
    15: Structure("fourth ventricle", (42, 204, 164)),
    16: Structure("brain stem", (119, 159, 176)),
    24: Structure("cerebrospinal fluid", (60, 60, 60)),
}

# By FreeSurfer's number, see `structures.LABELS`.
STRUCTURES: dict[int, Structure] = dict(
    sorted(
        {
            **_MIDDLE,
            **{label: Structure(f"left {name}", colour) for label, (name, colour) in _LEFT.items()},
            **{
                MIRRORED[label]: Structure(f"right {name}", _COLOURS_OF_THE_RIGHT.get(MIRRORED[label], colour))
                for label, (name, colour) in _LEFT.items()
            },
        }.items()
    )
)
