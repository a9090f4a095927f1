# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Styles of a map for QGIS, which reads them from .qml files next to the rasters."""

from collections.abc import Mapping
from xml.etree import ElementTree

from ...tables.colors import Color
from ...tables.styles import new_style
from ...tables.text import xml_text
from .legend import Legend

# Matplotlib's viridis at equal steps from 0 to 1, as in the preview.
_VIRIDIS: tuple[Color, ...] = (
    (68, 1, 84),
    (59, 82, 139),
    (33, 145, 140),
    (94, 201, 98),
    (253, 231, 37),
)


def class_style(legend: Legend) -> bytes:
    """Describe how to draw the classes: without a style, QGIS lists all 256 values.

    Args:
        legend: Classes of the map.

    Returns:
        Content of the .qml file.
    """
    root, renderer = _new_style({'type': 'paletted'})
    palette = ElementTree.SubElement(renderer, 'colorPalette')
    rows = zip(legend.names, legend.colors, strict=True)
    for value, (name, color) in enumerate(rows, 1):
        _add_color(palette, 'paletteEntry', f'{value}', xml_text(name), color)
    return _to_bytes(root)


def confidence_style() -> bytes:
    """Describe how to draw the confidence: in the colours of the preview, 0 to 1.

    Returns:
        Content of the .qml file.
    """
    kind = {'type': 'singlebandpseudocolor'}
    root, renderer = _new_style(
        kind | {'classificationMin': '0', 'classificationMax': '1'}
    )
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, 'rastershader'),
        'colorrampshader',
        # mode 1 is continuous
        {'colorRampType': 'INTERPOLATED', 'classificationMode': '1', 'clip': '0'},
        minimumValue='0',
        maximumValue='1',
    )
    for i, color in enumerate(_VIRIDIS):
        value = f'{i / (len(_VIRIDIS) - 1):g}'
        _add_color(shader, 'item', value, value, color)
    return _to_bytes(root)


def _new_style(
    attributes: Mapping[str, str],
) -> tuple[ElementTree.Element, ElementTree.Element]:
    """Return the root of a style of the first band, and its renderer."""
    root = new_style()
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, 'pipe'),
        'rasterrenderer',
        dict(attributes),
        band='1',
        opacity='1',
        alphaBand='-1',
    )
    return root, renderer


def _add_color(
    parent: ElementTree.Element, tag: str, value: str, label: str, color: Color
) -> None:
    code = '#{:02x}{:02x}{:02x}'.format(*color)
    ElementTree.SubElement(
        parent, tag, value=value, label=label, color=code, alpha='255'
    )


def _to_bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='utf-8', xml_declaration=True)
