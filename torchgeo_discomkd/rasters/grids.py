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

# Longest such text, and most tags, that are read: GDAL takes no more tags, and systems
# have a few thousand characters.
_MOST_TEXT, _MOST_TAGS = 2**20, 2**12

# Largest file next to an image that is read for its system.
_MOST_BYTES = 2**26


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
        CorruptFileError: If it does, or is too long to be searched.
        OSError: If a file cannot be read.
    """
    found = [(path, _geo_ascii(path))]
    for name in texts:
        check_regular(name)
        if Path(name).stat().st_size > _MOST_BYTES:
            raise CorruptFileError(
                f'{name} has more than {_MOST_BYTES >> 20} MiB: it cannot be searched '
                'for files that it names. Remove it.'
            )
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
            _check_length(path, 'tags', count, _MOST_TAGS)
            entries = file.read(count * size)
            for start in range(0, len(entries) - size + 1, size):
                tag, _, length, value = struct.unpack_from(form, entries, start)
                if tag == _GEO_ASCII:
                    file.seek(struct.unpack(order + word, value)[0])
                    # all else are names, one of which may quote a PROJ string
                    _check_length(path, 'bytes of georeference', length, _MOST_TEXT)
                    return file.read(length).partition(_SYSTEM)[2]
        except CorruptFileError:
            raise
        except (OSError, OverflowError, struct.error, ValueError):
            # GDAL says what is wrong with it
            return b''
    return b''


def _check_length(path: str, what: str, count: int, most: int) -> None:
    if count > most:
        raise CorruptFileError(
            f'{path} has {count} {what}, more than the {most} that an image can need: '
            'fetch the file again or remove it.'
        )
