# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find compressed blocks of a GeoTIFF that GDAL decodes although they end early."""

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, product
from lzma import LZMADecompressor, LZMAError
from math import ceil

from rasterio.io import DatasetReader

from ..errors import CorruptFileError

# Compressions whose data end in a checksum, which is hardly ever 0, and which GDAL
# does not read.
_DECOMPRESSORS = {'DEFLATE': zlib.decompressobj, 'LZMA': LZMADecompressor}

# Number of blocks of a band that are looked at, from the last one: a file of which only
# the first part arrived, at its full length, ends in zeros.
_MOST_BLOCKS = 64

# Number of zeros at the end of a block that make it suspicious.
_ZEROS = 4

# Bytes of the largest type of values, complex128: more is not unpacked.
_LARGEST = 16


def check_blocks(file: DatasetReader) -> None:
    """Check that the compressed data of a GeoTIFF do not end early in zeros.

    GDAL decodes such zeros to pixels, and stops when it has enough of them.

    Args:
        file: The image. One of another format, in another compression, or not in a file
            of its own is not checked.

    Raises:
        CorruptFileError: If a block of compressed data ends before its end.
    """
    structure = file.tags(ns='IMAGE_STRUCTURE')
    decompressor = _DECOMPRESSORS.get(structure.get('COMPRESSION', ''))
    if file.driver != 'GTiff' or decompressor is None or not os.path.isfile(file.name):  # noqa: PTH113
        return
    by_pixel = structure.get('INTERLEAVE') == 'PIXEL'
    rows, columns = file.block_shapes[0]
    most = rows * columns * (file.count if by_pixel else 1) * _LARGEST
    bands = 1 if by_pixel else file.count
    with open(file.name, 'rb') as content:  # noqa: PTH123
        for offset, size in _blocks(file, bands):
            content.seek(offset + max(size - _ZEROS, 0))
            if any(content.read(_ZEROS)):
                continue
            content.seek(offset)
            stream = decompressor()
            # one more than there can be: the checksum follows the last of them
            with suppress(zlib.error, LZMAError):
                stream.decompress(content.read(size), most + 1)
            if not stream.eof:
                raise CorruptFileError(
                    f'{file.name} has {structure["COMPRESSION"]} data that end early '
                    'in zeros: fetch the file again or remove it.'
                )


def _blocks(file: DatasetReader, bands: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of the blocks that are in the file, from the last one."""
    rows, columns = file.block_shapes[0]
    numbers = product(
        range(ceil(file.height / rows) - 1, -1, -1),
        range(ceil(file.width / columns) - 1, -1, -1),
    )
    for row, column in islice(numbers, _MOST_BLOCKS):
        for band in range(1, bands + 1):
            offset, size = (
                file.get_tag_item(f'BLOCK_{key}_{column}_{row}', 'TIFF', bidx=band)
                for key in ('OFFSET', 'SIZE')
            )
            if offset and size:
                yield int(offset), int(size)
