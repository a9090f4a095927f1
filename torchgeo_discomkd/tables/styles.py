# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Styles for QGIS: polygons of a GeoPackage in the colours of their classes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from .colors import Color
from .text import xml_text

#: Oldest version of QGIS that must understand the styles.
QGIS_VERSION = '3.22.0'

# QGIS numbers types of geometries (Qgis::GeometryType): this is a polygon.
_POLYGON = 2

# The table in which QGIS looks for styles, in the order in which it creates it.
_LAYER_STYLES = 'layer_styles'


def new_style() -> ElementTree.Element:
    """Return the root of a style that only says how a layer is drawn."""
    return ElementTree.Element(
        'qgis', version=QGIS_VERSION, styleCategories='Symbology'
    )


def polygon_style(column: str, colors: Mapping[str, Color], rest: str | None) -> str:
    """Describe polygons that are filled by class.

    Args:
        column: Column with the names of the classes.
        colors: Colour of each class by name.
        rest: Label of rows without a class, which get an outline only; None if there
            are none.

    Returns:
        The style as XML.
    """
    root = new_style()
    renderer = ElementTree.SubElement(
        root, 'renderer-v2', type='categorizedSymbol', attr=column
    )
    categories = ElementTree.SubElement(renderer, 'categories')
    symbols = ElementTree.SubElement(renderer, 'symbols')
    names = {name: xml_text(name) for name in colors}
    rows = [(names[k], names[k], _fill(color)) for k, color in colors.items()]
    if rest is not None:
        # QGIS draws by the empty value whatever no other category matches
        rows.append(('', rest, {'style': 'no'}))
    for number, (value, label, options) in enumerate(rows):
        ElementTree.SubElement(
            categories,
            'category',
            value=value,
            label=label,
            symbol=f'{number}',
            render='true',
        )
        symbol = ElementTree.SubElement(
            symbols, 'symbol', type='fill', name=f'{number}', alpha='1'
        )
        layer = ElementTree.SubElement(symbol, 'layer', {'class': 'SimpleFill'})
        group = ElementTree.SubElement(layer, 'Option', type='Map')
        for name, value in {**options, 'outline_color': '35,35,35,255'}.items():
            ElementTree.SubElement(
                group, 'Option', type='QString', name=name, value=value
            )
    ElementTree.SubElement(root, 'layerGeometryType').text = f'{_POLYGON}'
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode')


def _fill(color: Color) -> dict[str, str]:
    return {'color': ','.join(map(str, (*color, 255))), 'style': 'solid'}


def add_layer_style(path: Path, layer: str, style: str) -> None:
    """Make a style the default of a layer, as 'Save style in database' of QGIS does.

    Args:
        path: GeoPackage without styles.
        layer: Name of its layer.
        style: The style as XML.

    Raises:
        OSError: If the file cannot be written.
    """
    import pandas as pd
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    row = {
        'f_table_catalog': '',
        'f_table_schema': '',
        'f_table_name': layer,
        # QGIS finds the style by this name, which the writer chose
        'f_geometry_column': pyogrio.read_info(path, layer=layer)['geometry_name'],
        'styleName': 'classes',
        'styleQML': style,
        'styleSLD': '',
        'useAsDefault': True,
        'description': 'Colours of the classes',
        'owner': '',
        'ui': '',
        'update_time': datetime.now(UTC),
    }
    try:
        pyogrio.write_dataframe(
            pd.DataFrame([row]), path, layer=_LAYER_STYLES, driver='GPKG'
        )
    except (DataLayerError, DataSourceError) as error:
        raise OSError(str(error)) from error
