# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read the styles of a GeoPackage as QGIS does."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from torchgeo_discomkd.tables.colors import Color


def read_styles(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the table of styles by column."""
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        return [dict(row) for row in file.execute('SELECT * FROM layer_styles')]


def polygon_colors(style: str, column: str) -> dict[str | None, Color | None]:
    """Return the fill of each value of a column, in the order of the legend."""
    renderer = ElementTree.fromstring(style).find('renderer-v2')
    assert renderer is not None
    assert renderer.attrib == {'type': 'categorizedSymbol', 'attr': column}
    fills = {}
    for symbol in renderer.iterfind('symbols/symbol'):
        options = {
            option.attrib['name']: option.attrib['value']
            for option in symbol.iterfind('layer/Option/Option')
        }
        red, green, blue, _ = map(int, options.get('color', '0,0,0,0').split(','))
        solid = options['style'] == 'solid'
        fills[symbol.attrib['name']] = (red, green, blue) if solid else None
    categories = renderer.iterfind('categories/category')
    return {c.attrib['value']: fills[c.attrib['symbol']] for c in categories}
