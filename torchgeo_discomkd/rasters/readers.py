# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Readers of single image files: GeoTIFF, PNG, JPEG (rasterio) and NPY (NumPy)."""

import os
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from ..errors import BandError, CorruptFileError

#: Suffixes of the files that :func:`read_image` reads, in lower case.
SUFFIXES = ('.tif', '.tiff', '.png', '.jpg', '.jpeg', '.npy')

# Listing the folder at every open is slow where it holds thousands of tiles. A JPEG
# that ends early is only a warning to GDAL, which fills the rest with grey, and its own
# PNG decoder (the optimisation) fills the rest with whatever the memory holds.
_GDAL_OPTIONS = {
    'GDAL_DISABLE_READDIR_ON_OPEN': 'TRUE',
    'GDAL_ERROR_ON_LIBJPEG_WARNING': 'TRUE',
    'GDAL_PNG_WHOLE_IMAGE_OPTIM': 'NO',
}

# The filters of the warnings module are global: one thread at a time may change them,
# and a process forked meanwhile must not inherit a lock that nobody will release.
_FILTERS = threading.RLock()
if hasattr(os, 'register_at_fork'):  # pragma: no branch (absent on Windows)
    os.register_at_fork(
        before=_FILTERS.acquire,
        after_in_parent=_FILTERS.release,
        after_in_child=_FILTERS.release,
    )


class Header(NamedTuple):
    """What a file says about its image, without the pixels."""

    #: Names of the bands, None unless every band has one of its own.
    descriptions: tuple[str, ...] | None

    #: Number of bands.
    count: int

    #: Rows.
    height: int

    #: Columns.
    width: int


def read_image(
    path: str | Path,
    indexes: Sequence[int] | None = None,
    expected: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Read an image as raw values.

    Values that the file declares as nodata (also by an internal mask) and infinite
    ones become NaN. A declared scale or offset is not applied. NPY files are (H, W) or
    (C, H, W) and are never unpickled.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.
        indexes: Positions of the bands to read, the first being 0; all if None.
        expected: Names of all bands that the file should have, in order: their number
            is checked, and so are the names where the file has some itself that are
            the same ones in another order.

    Returns:
        float32 array of shape (C, H, W), missing pixels NaN.

    Raises:
        BandError: If the bands are not the expected ones, *indexes* are out of range,
            or values are complex or positions in a colour palette.
        CorruptFileError: If the file is truncated or not an image.
    """
    if Path(path).suffix.lower() == '.npy':
        array = _open_array(path)
        _check_values(path, array.dtype.kind == 'c', palette=False)
        _check_bands(path, Header(None, *array.shape), indexes, expected)
        return missing_to_nan(array if indexes is None else array[list(indexes)])
    with _open_raster(path) as file:
        palette = file.colorinterp[0] == ColorInterp.palette
        _check_values(path, file.dtypes[0].startswith('complex'), palette)
        _check_bands(path, _header(file), indexes, expected)
        bands = range(file.count) if indexes is None else indexes
        array = file.read([band + 1 for band in bands])
        image = missing_to_nan(array)
        for row, band in enumerate(bands):
            if (nodata := file.nodatavals[band]) is not None:
                image[row][array[row] == nodata] = np.nan
            elif file.mask_flag_enums[band] == [MaskFlags.per_dataset]:
                image[row][file.read_masks(band + 1) == 0] = np.nan
    return image


def read_header(path: str | Path) -> Header:
    """Read names and number of bands and the size of an image, not its pixels.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.

    Returns:
        Names of the bands (None unless complete and unique), number of bands, height
        and width.

    Raises:
        CorruptFileError: If the file is truncated or not an image.
    """
    if Path(path).suffix.lower() == '.npy':
        return Header(None, *_open_array(path).shape)
    with _open_raster(path) as file:
        return _header(file)


def read_georeference(path: str | Path) -> tuple[CRS, Affine] | None:
    """Read where on the Earth an image lies.

    Args:
        path: GeoTIFF, PNG, JPEG or NPY file.

    Returns:
        Coordinate reference system and transform from pixel (column, row) to its
        coordinates; None if the file lacks either.

    Raises:
        CorruptFileError: If the file is truncated or not an image.
    """
    if Path(path).suffix.lower() == '.npy':
        return None
    with _open_raster(path) as file:
        if file.crs is None or file.transform == Affine.identity():
            return None
        return file.crs, file.transform


def open_array(path: str | Path) -> NDArray[Any]:
    """Map an array into memory, so that only what is used is read.

    Args:
        path: NPY file.

    Returns:
        Read-only array.

    Raises:
        CorruptFileError: If the file is truncated, not an array or needs unpickling.
    """
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CorruptFileError(
            f'{path} cannot be read as an array ({error}): fetch the file again or '
            'remove it.'
        ) from error


def missing_to_nan(array: NDArray[Any]) -> NDArray[np.float32]:
    """Copy values as float32, infinite ones as NaN.

    Args:
        array: Numbers of any type and shape.

    Returns:
        float32 array of the same shape.
    """
    with np.errstate(over='ignore'):
        image = np.array(array, np.float32)
    if array.dtype.kind == 'f':
        image[~np.isfinite(image)] = np.nan
    return image


@contextmanager
def _open_raster(path: str | Path) -> Generator[DatasetReader]:
    with rasterio.Env(**_GDAL_OPTIONS):
        try:
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                file = rasterio.open(path)
            with file:
                yield file
        except RasterioError as error:
            raise CorruptFileError(
                f'{path} cannot be read as an image ({_reason(error)}): fetch the file '
                'again or remove it.'
            ) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _open_array(path: str | Path) -> NDArray[Any]:
    array = open_array(path)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in 'buifc':
        raise CorruptFileError(
            f'{path} holds {array.dtype} values of shape {array.shape}: an image is '
            'an array of numbers of shape (H, W) or (C, H, W).'
        )
    return array


def _header(file: DatasetReader) -> Header:
    names = [name for name in file.descriptions if name]
    unique = len(set(names)) == file.count == len(names)
    return Header(tuple(names) if unique else None, file.count, file.height, file.width)


def _check_values(path: str | Path, is_complex: bool, palette: bool) -> None:
    if is_complex:
        raise BandError(
            f'{path} holds complex values: detect them first (amplitude, power or dB).'
        )
    if palette:
        raise BandError(
            f'{path} holds positions in a colour palette: convert it to RGB first.'
        )


def _check_bands(
    path: str | Path,
    header: Header,
    indexes: Sequence[int] | None,
    expected: Sequence[str] | None,
) -> None:
    if expected is not None and header.count != len(expected):
        raise BandError(
            f'{path} has {header.count} bands, but {len(expected)} are expected '
            f'({", ".join(expected)}): mend the file or give the names of its bands.'
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
            f'but {list(indexes)} are asked for.'
        )
