# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classes of a map: values, names and colours, in the form that GDAL reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ...errors import SettingError
from ...tables.colors import UNCERTAIN_COLOR, Color, class_colors
from ...tables.prediction import UNCERTAIN
from ...tables.text import xml_text

#: Value of cells without enough pixels.
NODATA = 0

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
        this file next to it; for QGIS there is a style, see :func:`.class_style`.

        Args:
            counts: Number of cells of each value, beginning with that of 1.

        Returns:
            Content of the file.
        """
        root = ElementTree.Element('PAMDataset')
        band = ElementTree.SubElement(root, 'PAMRasterBand', band='1')
        categories = ElementTree.SubElement(band, 'CategoryNames')
        for name in ('nodata', *map(xml_text, self.names)):
            ElementTree.SubElement(categories, 'Category').text = name
        table = ElementTree.SubElement(
            band, 'GDALRasterAttributeTable', tableType='thematic'
        )
        for i, (name, kind, usage) in enumerate(_COLUMNS):
            field = ElementTree.SubElement(table, 'FieldDefn', index=f'{i}')
            ElementTree.SubElement(field, 'Name').text = name
            ElementTree.SubElement(field, 'Type').text = f'{kind}'
            ElementTree.SubElement(field, 'Usage').text = f'{usage}'
        rows = zip(map(xml_text, self.names), counts, self.colors, strict=True)
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
