# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classes of a map: values, names and colours, in the form that GDAL and QGIS read.

A class gets its customary colour if its name suggests one, otherwise a distinct one.
"""

import colorsys
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ...errors import SettingError
from ...tables.prediction import UNCERTAIN

#: Value of cells without enough pixels.
NODATA = 0

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

# Columns of a raster attribute table: name, type (0 integer, 2 text) and usage as GDAL
# numbers them (GDALRATFieldType, GDALRATFieldUsage).
_COLUMNS = (
    ('Value', 0, 5),
    ('Class', 2, 2),
    ('Count', 0, 1),
    ('Red', 0, 6),
    ('Green', 0, 7),
    ('Blue', 0, 8),
    ('Alpha', 0, 9),
)


@dataclass(frozen=True)
class Legend:
    """Names and colours of the values 1, 2, ... of a map; 0 is nodata.

    Attributes:
        names: Name of each value, beginning with that of 1.
        colors: Colour of each value, beginning with that of 1.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Return red, green, blue and alpha (0 to 255) by value; nodata is clear."""
        colors = {i: (*color, 255) for i, color in enumerate(self.colors, 1)}
        return {NODATA: (0, 0, 0, 0), **colors}

    def to_aux_xml(self, counts: Sequence[int]) -> bytes:
        """Describe the classes in GDAL's persistent auxiliary metadata (.aux.xml).

        A GeoTIFF has room for the colours, but not for the names. GDAL reads them from
        this file next to it. QGIS takes classes, names and colours from the raster
        attribute table (3.30 and later), before that the names from the categories and
        the colours from the GeoTIFF; either way it needs no style file.

        Args:
            counts: Number of cells of each value, beginning with that of 1.

        Returns:
            Content of the file.
        """
        root = ElementTree.Element('PAMDataset')
        band = ElementTree.SubElement(root, 'PAMRasterBand', band='1')
        categories = ElementTree.SubElement(band, 'CategoryNames')
        for name in ('nodata', *self.names):
            ElementTree.SubElement(categories, 'Category').text = name
        table = ElementTree.SubElement(
            band, 'GDALRasterAttributeTable', tableType='thematic'
        )
        for i, (name, kind, usage) in enumerate(_COLUMNS):
            field = ElementTree.SubElement(table, 'FieldDefn', index=f'{i}')
            ElementTree.SubElement(field, 'Name').text = name
            ElementTree.SubElement(field, 'Type').text = f'{kind}'
            ElementTree.SubElement(field, 'Usage').text = f'{usage}'
        rows = zip(self.names, counts, self.colors, strict=True)
        for i, (name, count, color) in enumerate(rows):
            row = ElementTree.SubElement(table, 'Row', index=f'{i}')
            for value in (i + 1, name, count, *color, 255):
                ElementTree.SubElement(row, 'F').text = f'{value}'
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding='utf-8', xml_declaration=False)


def make_legend(classes: Sequence[str], uncertain: bool) -> Legend:
    """Give each class a value and a colour.

    Args:
        classes: Names of the classifier's classes: values 1, 2, ... in order.
        uncertain: Whether low confidence has a separate value, the last one.

    Returns:
        The legend.

    Raises:
        SettingError: If there are too many classes for one byte per cell.
    """
    names, colors = tuple(classes), class_colors(classes)
    if uncertain:
        names, colors = (*names, UNCERTAIN), (*colors, UNCERTAIN_COLOR)
    if len(names) > 255:
        raise SettingError(
            f'The classifier has {len(classes)} classes, but a map can only store '
            '255: classify tiles into a table instead.'
        )
    return Legend(names, colors)


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
