# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Readers of single image files: GeoTIFF, PNG, JPEG (rasterio) and NPY (NumPy)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ..errors import BandError
from .opening import open_image_array, open_raster

#: Suffixes of the files that :func:`read_image` reads, in lower case.
SUFFIXES = ('.tif', '.tiff', '.png', '.jpg', '.jpeg', '.npy')


class Header(NamedTuple):
    """Description of an image in its file, without the pixels.

    Attributes:
        descriptions: Names of the bands; None unless every band has a unique one.
        count: Number of bands.
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
) -> NDArray[np.float32]:
    """Read an image as raw values.

    Infinite values and those that the file declares as nodata (also by an internal
    mask) become NaN. A declared scale or offset is not applied. NPY files have shape
    (H, W) or (C, H, W) and are never unpickled.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.
        indexes: Positions of the bands to read, the first being 0; all if None.
        expected: Names of all bands that the file should have, in order. Their number
            is checked, and a file whose own band names are the same names in another
            order is refused.

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
        _check_values(path, array.dtype.kind == 'c', palette=False)
        check_bands(path, _describe_array(array), indexes, expected)
        return missing_to_nan(array if indexes is None else array[list(indexes)])
    with open_raster(path) as file:
        check_bands(path, describe(file), indexes, expected)
        return read_bands(file, range(file.count) if indexes is None else indexes)


def read_bands(
    file: DatasetReader | WarpedVRT,
    indexes: Sequence[int],
    window: Window | None = None,
) -> NDArray[np.float32]:
    """Read bands of an open file as raw values, as :func:`read_image` does.

    Args:
        file: The file.
        indexes: Positions of the bands to read, the first being 0.
        window: Part of the image to read. Default: all of it.

    Returns:
        float32 array of shape (C, H, W), missing pixels NaN.

    Raises:
        BandError: If values are complex or positions in a colour palette.
        RasterioError: If the file is truncated.
    """
    check_values(file, indexes)
    array = file.read([band + 1 for band in indexes], window=window)
    image = missing_to_nan(array)
    for row, band in enumerate(indexes):
        if (nodata := file.nodatavals[band]) is not None:
            image[row][array[row] == nodata] = np.nan
        elif file.mask_flag_enums[band] == [MaskFlags.per_dataset]:
            image[row][file.read_masks(band + 1, window=window) == 0] = np.nan
    return image


def check_values(file: DatasetReader | WarpedVRT, indexes: Sequence[int]) -> None:
    """Check that bands of an open file hold measured values.

    Args:
        file: The file.
        indexes: Positions of the bands, the first being 0.

    Raises:
        BandError: If values are complex or positions in a colour palette.
    """
    for band in indexes:
        palette = file.colorinterp[band] == ColorInterp.palette
        _check_values(file.name, file.dtypes[band].startswith('complex'), palette)


def read_header(path: str | Path) -> Header:
    """Read the description of an image from its file, without the pixels.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.

    Returns:
        Names of the bands (None unless complete and unique), their number, height,
        width and type.

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
        return _describe_array(open_image_array(path))
    with open_raster(path) as file:
        return describe(file)


def describe(file: DatasetReader) -> Header:
    """Return the description of an image in an open file.

    Args:
        file: The file.

    Returns:
        The same as :func:`read_header`.
    """
    names = [name for name in file.descriptions if name]
    unique = len(set(names)) == file.count == len(names)
    return Header(
        descriptions=tuple(names) if unique else None,
        count=file.count,
        height=file.height,
        width=file.width,
        dtype=np.result_type(*file.dtypes),
    )


def _describe_array(array: NDArray[Any]) -> Header:
    return Header(None, *array.shape, array.dtype)


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
    with open_raster(path) as file:
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


def missing_to_nan(array: NDArray[Any]) -> NDArray[np.float32]:
    """Copy values as float32, with infinite ones as NaN.

    Args:
        array: Numbers of any type and shape.

    Returns:
        float32 array of the same shape.

    Example:
        >>> import numpy as np
        >>> missing_to_nan(np.array([1.5, np.inf]))
        array([1.5, nan], dtype=float32)
    """
    with np.errstate(over='ignore'):
        image = np.array(array, np.float32)
    if array.dtype.kind == 'f':
        image[~np.isfinite(image)] = np.nan
    return image


def _check_values(path: str | Path, is_complex: bool, palette: bool) -> None:
    if is_complex:
        raise BandError(
            f'{path} holds complex values: detect them first (amplitude, power or dB).'
        )
    if palette:
        raise BandError(
            f'{path} holds positions in a colour palette: convert it to RGB first.'
        )


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
        names = list(header.descriptions)
        if names != list(expected) and sorted(names) == sorted(expected):
            raise BandError(
                f'{path} has its bands in the order {", ".join(names)}, not '
                f'{", ".join(expected)}: use one order in all files.'
            )
    if indexes is not None and not all(0 <= i < header.count for i in indexes):
        raise BandError(
            f'{path} has {header.count} bands, at positions 0 to {header.count - 1}, '
            f'but {list(indexes)} are requested.'
        )
