# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Readers of single image files: GeoTIFF, PNG, JPEG (rasterio) and NPY (NumPy)."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.io import DatasetReader

from ..errors import BandError
from .band_names import canonical, clean_names, contradict, polarization
from .blocks import check_blocks
from .decoding import alpha_bands, missing_to_nan, read_bands, refuse_complex, scaling
from .opening import open_image_array, open_raster, reading
from .trust import RASTER_SUFFIXES

#: Suffixes of the files that :func:`read_image` reads, in lower case.
SUFFIXES = (*RASTER_SUFFIXES, '.npy')


class Header(NamedTuple):
    """Description of an image in its file, without the pixels.

    Attributes:
        descriptions: Names of the bands, empty for bands without one; None if the file
            names none. The band of a file with a single one may be in the file's own
            name, 's1_VH.tif'.
        count: Number of bands; the alpha band of a PNG file is not counted.
        height: Number of rows.
        width: Number of columns.
        dtype: Type of the values; if bands differ in type, one that holds them all.

    Example:
        >>> import numpy as np
        >>> header = Header(('VV', 'VH'), 2, 64, 64, np.dtype('float32'))
        >>> header.descriptions, header.count
        (('VV', 'VH'), 2)
    """

    descriptions: tuple[str, ...] | None
    count: int
    height: int
    width: int
    dtype: np.dtype[Any]


def read_image(
    path: str | Path,
    indexes: Sequence[int] | None = None,
    expected: Sequence[str] | None = None,
    nodata: float | None = None,
) -> NDArray[np.float32]:
    """Read an image as measured values; see :func:`~.decoding.read_bands`.

    NPY files have shape (H, W) or (C, H, W) and are never unpickled.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.
        indexes: Positions of the bands to read, the first being 0; all if None.
        expected: Names of all bands that the file should have, in order. Their number
            is checked, and a file whose own names contradict them is refused.
        nodata: A number in the file that stands for missing pixels although the file
            does not say so.

    Returns:
        float32 array of shape (C, H, W), missing pixels NaN.

    Raises:
        BandError: If the bands are not those expected, *indexes* are out of range, or
            values are complex or positions in a colour palette.
        CorruptFileError: If the file is truncated or not an image.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/sar.npy', [[[-10.0, np.inf]], [[-17.0, -18.0]]])
        ...     image = read_image(f'{folder}/sar.npy', [1, 0], expected=('VV', 'VH'))
        >>> image
        array([[[-17., -18.]],
        <BLANKLINE>
               [[-10.,  nan]]], dtype=float32)
    """
    if Path(path).suffix.lower() == '.npy':
        array = open_image_array(path)
        refuse_complex(str(path), array.dtype.kind == 'c')
        check_bands(path, describe_array(path, array), indexes, expected)
        chosen = array if indexes is None else array[list(indexes)]
        return missing_to_nan(chosen, nodata)
    with open_raster(path) as file, reading(path):
        header = describe(file)
        check_bands(path, header, indexes, expected)
        check_blocks(file)
        bands = range(header.count) if indexes is None else indexes
        return read_bands(file, bands, nodata=nodata)


def read_header(path: str | Path) -> Header:
    """Read the description of an image from its file, without the pixels.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.

    Returns:
        Names of the bands, their number, height, width and type.

    Raises:
        CorruptFileError: If the file is truncated or not an image.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/sar.npy', np.zeros((2, 64, 48), np.float32))
        ...     header = read_header(f'{folder}/sar.npy')
        >>> header.count, header.height, header.width, header.dtype
        (2, 64, 48, dtype('float32'))
    """
    if Path(path).suffix.lower() == '.npy':
        return describe_array(path, open_image_array(path))
    with open_raster(path) as file, reading(path):
        return describe(file)


def describe(file: DatasetReader) -> Header:
    """Return the description of an image in an open file.

    Args:
        file: The file.

    Returns:
        The same as :func:`read_header`.
    """
    # PNG has no other use for alpha; elsewhere any fourth band is often called that
    count = file.count - (len(alpha_bands(file)) if file.driver == 'PNG' else 0)
    scaled = any(scaling(file, band) is not None for band in range(count))
    return Header(
        descriptions=_names(file.name, file.descriptions[:count]),
        count=count,
        height=file.height,
        width=file.width,
        dtype=np.dtype('float32') if scaled else np.result_type(*file.dtypes),
    )


def describe_array(path: str | Path, array: NDArray[Any]) -> Header:
    """Return the description of an image in an array.

    Args:
        path: Its file.
        array: The image, (C, H, W).

    Returns:
        The same as :func:`read_header`.
    """
    names = _names(path, [None] * len(array))
    count, height, width = array.shape
    return Header(names, count, height, width, array.dtype)


def _names(
    path: str | Path, descriptions: Sequence[str | None]
) -> tuple[str, ...] | None:
    names = clean_names(descriptions)
    if names is None and len(descriptions) == 1:
        stated = polarization(PurePath(path).stem)
        return None if stated is None else (stated,)
    return names


def read_georeference(path: str | Path) -> tuple[CRS, Affine] | None:
    """Read where on the Earth an image lies.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.

    Returns:
        Coordinate reference system and transform from pixel (column, row) to its
        coordinates; None if the file lacks either.

    Raises:
        CorruptFileError: If the file is truncated or not an image.

    Example:
        >>> import tempfile
        >>> import rasterio
        >>> from affine import Affine
        >>> shape = {'count': 2, 'height': 8, 'width': 8, 'dtype': 'float32'}
        >>> place = {'crs': 'EPSG:32631', 'transform': Affine(10, 0, 5e5, 0, -10, 5e6)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f'{folder}/sar.tif'
        ...     rasterio.open(path, 'w', 'GTiff', **shape, **place).close()
        ...     crs, transform = read_georeference(path)
        >>> crs.to_string(), transform.a, transform.c, transform.f
        ('EPSG:32631', 10.0, 500000.0, 5000000.0)
    """
    if Path(path).suffix.lower() == '.npy':
        return None
    with open_raster(path) as file, reading(path):
        return locate(file)


def locate(file: DatasetReader) -> tuple[CRS, Affine] | None:
    """Return where on the Earth the image of an open file lies.

    Args:
        file: The file.

    Returns:
        The same as :func:`read_georeference`.
    """
    # what GDAL and others write if there is no transform
    nowhere = Affine.identity(), Affine.scale(1, -1)
    if file.crs is None or file.transform in nowhere:
        return None
    return file.crs, file.transform


def check_bands(
    path: str | Path,
    header: Header,
    indexes: Sequence[int] | None,
    expected: Sequence[str] | None,
) -> None:
    """Check the bands of an image.

    Args:
        path: The image, for the message.
        header: Its description.
        indexes: Positions of the bands to read, the first being 0; all if None.
        expected: Names of all bands that it should have, in order; None for any.

    Raises:
        BandError: If the bands are not those expected or *indexes* are out of range.

    Example:
        >>> import numpy as np
        >>> from torchgeo_discomkd.errors import BandError
        >>> header = Header(('VH', 'VV'), 2, 64, 64, np.dtype('float32'))
        >>> check_bands('a.tif', header, indexes=None, expected=('VH', 'VV'))
        >>> try:
        ...     check_bands('a.tif', header, indexes=None, expected=('VV', 'VH'))
        ... except BandError as error:
        ...     print(error)
        a.tif has its bands in the order VH, VV, not VV, VH: use one order in all files.
    """
    if expected is not None and header.count != len(expected):
        raise BandError(
            f'{path} has {header.count} bands, but {len(expected)} are expected '
            f'({", ".join(expected)}): fix the file or give the names of its bands.'
        )
    if expected is not None and header.descriptions is not None:
        _refuse_other_names(path, header.descriptions, expected)
    if indexes is not None and not all(0 <= i < header.count for i in indexes):
        raise BandError(
            f'{path} has {header.count} bands, at positions 0 to {header.count - 1}, '
            f'but {list(indexes)} are requested.'
        )


def _refuse_other_names(
    path: str | Path, names: Sequence[str], expected: Sequence[str]
) -> None:
    listed, right = ', '.join(n or 'unnamed' for n in names), ', '.join(expected)
    found, wanted = (list(map(canonical, n)) for n in (names, expected))
    if found != wanted and sorted(found) == sorted(wanted):
        raise BandError(
            f'{path} has its bands in the order {listed}, not {right}: use one order '
            'in all files.'
        )
    if contradict(names, expected):
        raise BandError(
            f'{path} names its bands {listed}, not {right}: use the same bands in all '
            'files, or correct band_names.'
        )
