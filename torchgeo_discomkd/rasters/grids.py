# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Refuse coordinate reference systems that name files, before GDAL opens those.

A system can name a file of shifts between datums by its path. PROJ opens it as soon as
anything asks for the system, and GDAL asks when it opens the image.
"""

import html
import re
import struct
from pathlib import Path

from ..errors import CorruptFileError
from .trust import check_regular

# Ways to name a file in WKT, in PROJ strings and in PROJJSON.
_NAMED = re.compile(
    r'(?:PROJ4_GRIDS"\s*,\s*"|PARAMETERFILE\s*\[\s*"[^"]*"\s*,\s*"|'
    r'(?:grids|file|model|init)\s*=\s*|"value"\s*:\s*")([^"\s]*[/\\~][^"\s]*)',
    re.IGNORECASE,
)

# Tag of a GeoTIFF that may hold a system as text.
_GEO_ASCII = 34737

# What begins such a text; GDAL writes it like this, too.
_SYSTEM = b'ESRI PE String'

# Longest such text, and most tags, that are read.
_MOST_TEXT, _MOST_TAGS = 2**20, 2**12


def grid_path(text: str) -> str | None:
    """Return the path of a file that a coordinate reference system names.

    Args:
        text: The system, as WKT, PROJ string or JSON, or any text that has one.

    Returns:
        The path; None if there is none. Names without a folder are none: PROJ looks for
        them among its own data.

    Example:
        >>> grid_path('+proj=merc +nadgrids=@null'), grid_path('EPSG:32633')
        (None, None)
        >>> grid_path('+proj=longlat +nadgrids=/home/me/a.gsb')
        '/home/me/a.gsb'
    """
    found = _NAMED.search(text)
    return found[1] if found else None


def refuse_grids(path: str, texts: list[str]) -> None:
    """Refuse an image whose coordinate reference system names a file.

    Args:
        path: The image.
        texts: Files of text next to it that may hold its system.

    Raises:
        CorruptFileError: If it does.
        OSError: If a file cannot be read.
    """
    found = [(path, _geo_ascii(path))]
    for name in texts:
        check_regular(name)
        found.append((name, Path(name).read_bytes()))
    for name, content in found:
        # a name may be written with entities of XML
        text = html.unescape(content.decode('latin-1'))
        if (grid := grid_path(text)) is not None:
            raise CorruptFileError(
                f'{name} has a coordinate reference system that names another file, '
                f'{grid}, which is not read: convert the image to a system without '
                'one, for example with "gdalwarp -t_srs EPSG:4326".'
            )


def _geo_ascii(path: str) -> bytes:
    """Return the texts of the georeference of a TIFF file; empty if it has none."""
    with open(path, 'rb') as file:  # noqa: PTH123
        head = file.read(16)
        order = {b'II': '<', b'MM': '>'}.get(head[:2])
        if order is None or len(head) < 16:
            return b''
        big = head[2:4] in (b'+\0', b'\0+')
        word, form = ('Q', 'HHQ8s') if big else ('I', 'HHI4s')
        first = head[8:16] if big else head[4:8]
        try:
            file.seek(struct.unpack(order + word, first)[0])
            form, number = order + form, order + ('Q' if big else 'H')
            count = struct.unpack(number, file.read(struct.calcsize(number)))[0]
            size = struct.calcsize(form)
            entries = file.read(min(count, _MOST_TAGS) * size)
            for start in range(0, len(entries) - size + 1, size):
                tag, _, length, value = struct.unpack_from(form, entries, start)
                if tag == _GEO_ASCII:
                    file.seek(struct.unpack(order + word, value)[0])
                    # all else are names, one of which may quote a PROJ string
                    return file.read(min(length, _MOST_TEXT)).partition(_SYSTEM)[2]
        except (OSError, OverflowError, struct.error, ValueError):
            # GDAL says what is wrong with it
            return b''
    return b''
