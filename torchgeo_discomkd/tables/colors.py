# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Colours of classes: the same in maps, polygons and tables.

A class gets its customary colour if its name suggests one, otherwise a distinct one.
"""

import colorsys
import re
from collections.abc import Iterable, Sequence

#: Red, green and blue, 0 to 255.
Color = tuple[int, int, int]

#: Colour of cells whose confidence is too low.
UNCERTAIN_COLOR: Color = (189, 189, 189)

# Beginnings of words in class names and the colour that maps customarily give them.
_CUSTOMARY: tuple[tuple[tuple[str, ...], Color], ...] = (
    (('sea', 'ocean'), (8, 48, 107)),
    (('river', 'stream'), (78, 179, 211)),
    (('water', 'lake', 'flood'), (33, 113, 181)),
    (('wetland', 'marsh'), (65, 182, 166)),
    (('forest', 'tree', 'wood'), (0, 90, 45)),
    (('pasture', 'grass', 'meadow'), (166, 217, 106)),
    (('permanent', 'orchard', 'vine'), (191, 129, 45)),
    (('annual', 'crop', 'agri', 'field', 'farm'), (246, 224, 120)),
    (('herb', 'shrub', 'veget'), (90, 174, 97)),
    (('highway', 'road'), (77, 77, 77)),
    (('industr',), (152, 78, 163)),
    (('resident', 'urban', 'built', 'settle', 'city'), (215, 48, 31)),
    (('bare', 'sand', 'soil', 'sparse', 'dry', 'rock', 'land'), (205, 170, 125)),
    (('snow', 'ice'), (224, 243, 255)),
)

# Okabe and Ito (2008), colours that colour-blind people can distinguish, without black.
_DISTINCT: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

# Hues a golden section apart stay distinct whatever their number.
_GOLDEN_SECTION = 0.618034


def class_colors(names: Sequence[str]) -> tuple[Color, ...]:
    """Choose a colour for each class.

    Args:
        names: Names of the classes.

    Returns:
        One colour per class; different classes have different colours.
    """
    colors: list[Color | None] = [None] * len(names)
    for i, name in enumerate(names):
        colors[i] = _first_unused(_customary(name), colors)
    for i, color in enumerate(colors):
        if color is None:
            colors[i] = _first_unused(_DISTINCT, colors) or _hue(i, colors)
    return tuple(color for color in colors if color is not None)


def _customary(name: str) -> Iterable[Color]:
    words = [w.lower() for w in re.findall(r'[A-Z]?[a-z]+|[A-Z]+', name)]
    for beginnings, color in _CUSTOMARY:
        if any(word.startswith(beginnings) for word in words):
            yield color


def _first_unused(
    choice: Iterable[Color], used: Sequence[Color | None]
) -> Color | None:
    return next((color for color in choice if color not in used), None)


def _hue(position: int, used: Sequence[Color | None]) -> Color:
    while True:
        red, green, blue = colorsys.hsv_to_rgb(
            position * _GOLDEN_SECTION % 1, 0.65, 0.85
        )
        color = (round(255 * red), round(255 * green), round(255 * blue))
        if color not in used:
            return color
        position += 1
