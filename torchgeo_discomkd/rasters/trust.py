# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Let GDAL read an image and nothing else: no other format, no other file, no host."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from rasterio.io import DatasetReader

from ..errors import CorruptFileError

#: Suffixes of the images that GDAL reads without being told to trust them.
RASTER_SUFFIXES = ('.tif', '.tiff', '.png', '.jpg', '.jpeg')

# A path that only GDAL understands: '/vsizip/...', 'https://...', 'NETCDF:...'. A
# single letter before the colon is a Windows drive.
_VIRTUAL = re.compile(r'/vsi|[A-Za-z][A-Za-z0-9+_.-]+:')

# GDAL opens these with any driver, a VRT in disguise included.
_IMAGES = ('.ovr', '.OVR', '.msk', '.MSK')

# Text next to an image that says where it lies, how to scale it and what it shows.
_TEXTS = ('.aux.xml', '.xml')

# How a file of ERDAS begins: for any other, GDAL tries all drivers.
_ERDAS = b'EHFA_HEADER_TAG\0'


def is_virtual(path: str) -> bool:
    """Return whether only GDAL understands a path: a URL, an archive, a subdataset.

    Args:
        path: The path. One that exists as a file is none, whatever it looks like.
    """
    return _VIRTUAL.match(path) is not None and not os.path.lexists(path)


def plain(path: str) -> str:
    """Return the path of a file so that GDAL takes it for nothing else.

    Args:
        path: Path of a file that exists, or is listed and may not.
    """
    # 's3:x.tif' can be a file, too
    return os.path.join(os.curdir, path) if _VIRTUAL.match(path) else path  # noqa: PTH118


def allowed_drivers(path: str) -> list[str] | None:
    """Return the drivers of GDAL that may open a path.

    What is called an image must be one: a VRT or a web service that is called '.tif'
    names other files and hosts to read.

    Args:
        path: The path.

    Returns:
        Names of drivers, one for a virtual path; None for any, for a path with another
        suffix: only the user can have given it.
    """
    suffix = _suffix(path)
    if suffix in ('.ovr', '.msk'):
        return ['GTiff']
    if suffix not in RASTER_SUFFIXES and (suffix or '://' not in path):
        return None
    if not is_virtual(path):
        return ['GTiff', 'PNG', 'JPEG']
    return [{'.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG'}.get(suffix, 'GTiff')]


def is_image_name(path: str) -> bool:
    """Return whether a path has the suffix of an image, and is not virtual.

    Args:
        path: The path.
    """
    return _suffix(path) in (*RASTER_SUFFIXES, '.npy') and not is_virtual(path)


def check_regular(path: str) -> None:
    """Refuse what is not a file: reading a FIFO or a device may never end.

    Args:
        path: Path of a file.

    Raises:
        CorruptFileError: If it is something else.
        OSError: If there is none.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        raise CorruptFileError(
            f'{path} is not a regular file but a folder, FIFO, socket or device: '
            'remove it.'
        )


def find_sidecars(path: str) -> list[str]:
    """Return the files next to an image that belong to it.

    Args:
        path: The image.

    Returns:
        Those that exist: overviews, masks, metadata and world files.
    """
    return [name for name in _sidecars(path) if os.path.exists(name)]  # noqa: PTH110


def images_among(sidecars: list[str]) -> list[str]:
    """Return the sidecars that are images themselves: overviews and masks.

    Args:
        sidecars: Files next to an image.
    """
    return [name for name in sidecars if name.endswith(_IMAGES)]


def texts_among(sidecars: list[str]) -> list[str]:
    """Return the sidecars that are texts, which may say where an image lies.

    Args:
        sidecars: Files next to an image.
    """
    return [name for name in sidecars if name.endswith(('.xml', '.tab', '.TAB'))]


def find_erdas(path: str) -> list[str]:
    """Return the files of ERDAS next to an image, and refuse what only pretends.

    Args:
        path: The image.

    Raises:
        CorruptFileError: If a file with such a name is something else.
    """
    stem = os.path.splitext(path)[0]  # noqa: PTH122
    names = [f'{s}{a}' for s in (stem, path) for a in ('.aux', '.AUX')]
    found = [name for name in names if os.path.exists(name)]  # noqa: PTH110
    for name in found:
        check_regular(name)
        with open(name, 'rb') as file:  # noqa: PTH123
            if file.read(len(_ERDAS)) != _ERDAS:
                raise CorruptFileError(
                    f'{name} is not what its name says, a file of ERDAS: remove it.'
                )
    return found


def refuse_references(file: DatasetReader, path: str | Path) -> None:
    """Refuse an image whose metadata name another file or host for its overviews.

    Args:
        file: The image.
        path: Its path, for the message.

    Raises:
        CorruptFileError: If they do.
    """
    # GDAL does not distinguish upper and lower case
    tags = {key.upper(): tag for key, tag in file.tags(ns='OVERVIEWS').items()}
    if other := tags.get('OVERVIEW_FILE'):
        raise CorruptFileError(
            f'{path} takes its overviews from another file, {other}, which is not '
            'read: copy it with "gdal_translate -co COPY_SRC_OVERVIEWS=NO", or remove '
            'OVERVIEW_FILE from the metadata.'
        )


def _suffix(path: str) -> str:
    # the query of a URL is no part of the name
    path = path.partition('?')[0] if '://' in path else path
    return PurePath(path).suffix.lower()


def _sidecars(path: str) -> Iterator[str]:
    stem, suffix = os.path.splitext(path)  # noqa: PTH122
    for added in (*_TEXTS, *_IMAGES):
        yield f'{path}{added}'
    kind = suffix[1:].lower()
    # world files: .tfw, .tifw or .wld
    for name in (f'{kind[:1]}{kind[-1:]}w', f'{kind}w', 'wld', 'tab'):
        yield f'{stem}.{name}'
        yield f'{stem}.{name.upper()}'
