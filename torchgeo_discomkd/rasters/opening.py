# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Open image files, with error messages that users understand."""

import os
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from ..errors import CorruptFileError

# Listing the folder at every open is slow if it holds thousands of tiles. For a JPEG
# that ends early GDAL only warns and fills the rest with grey; its own PNG decoder (the
# optimisation) fills the rest with whatever is in memory.
_GDAL_OPTIONS = {
    'GDAL_DISABLE_READDIR_ON_OPEN': 'TRUE',
    'GDAL_ERROR_ON_LIBJPEG_WARNING': 'TRUE',
    'GDAL_PNG_WHOLE_IMAGE_OPTIM': 'NO',
}

# The filters of the warnings module are global: only one thread at a time may change
# them, and a forked process must not inherit a lock that nobody will release.
_FILTERS = threading.RLock()
if hasattr(os, 'register_at_fork'):  # pragma: no branch (absent on Windows)
    os.register_at_fork(
        before=_FILTERS.acquire,
        after_in_parent=_FILTERS.release,
        after_in_child=_FILTERS.release,
    )

# Whether a block around all threads has set the filters.
_silent = False


@contextmanager
def many_threads() -> Generator[None]:
    """Let threads open files at the same time inside the block.

    Outside the block they wait for each other, because opening a file without
    georeference warns, and warning filters are global. The block sets the filters once
    for all threads: enter it before they start and leave it after they have ended.

    Yields:
        Nothing.
    """
    global _silent
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        earlier, _silent = _silent, True
        try:
            yield
        finally:
            _silent = earlier


@contextmanager
def open_raster(path: str | Path) -> Generator[DatasetReader]:
    """Open an image that GDAL reads.

    Args:
        path: The file, or a URL or virtual path of GDAL.

    Yields:
        The file.

    Raises:
        CorruptFileError: If the file is truncated or not an image, whether that shows
            on opening or on reading inside the block.
    """
    # asking a server for the files next to an image takes longer than the image
    remote = {'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR'} if '://' in str(path) else {}
    with rasterio.Env(**_GDAL_OPTIONS | remote):
        try:
            with _source(path) as source, _open(source) as file:
                yield file
        except RasterioError as error:
            raise CorruptFileError(
                f'{path} cannot be read as an image ({_reason(error)}): fetch the file '
                'again or remove it.'
            ) from error


def open_array(path: str | Path) -> NDArray[Any]:
    """Map an array into memory, so that only the parts used are read.

    Args:
        path: NPY file.

    Returns:
        Read-only array.

    Raises:
        CorruptFileError: If the file is truncated, not an array or needs unpickling.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/images.npy', np.zeros((100, 2, 8, 8)))
        ...     images = open_array(f'{folder}/images.npy')
        >>> type(images).__name__, images.shape
        ('memmap', (100, 2, 8, 8))
    """
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CorruptFileError(
            f'{path} cannot be read as an array ({error}): fetch the file again or '
            'remove it.'
        ) from error


def open_image_array(path: str | Path) -> NDArray[Any]:
    """Map an image into memory.

    Args:
        path: NPY file.

    Returns:
        Read-only array of shape (C, H, W).

    Raises:
        CorruptFileError: If the file is truncated, needs unpickling or is not an array
            of numbers of shape (H, W) or (C, H, W).
    """
    array = open_array(path)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in 'buifc':
        raise CorruptFileError(
            f'{path} holds {array.dtype} values of shape {array.shape}: an image must '
            'be an array of numbers of shape (H, W) or (C, H, W).'
        )
    return array


def _open(path: str | Path | BinaryIO) -> DatasetReader:
    if _silent:
        return rasterio.open(path)
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        return rasterio.open(path)


@contextmanager
def _source(path: str | Path) -> Generator[str | Path | BinaryIO]:
    """Yield what rasterio can open: it only takes names that are UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        try:
            file = Path(path).open('rb')  # noqa: SIM115 (closed below)
        except OSError as error:
            raise CorruptFileError(
                f'{path} cannot be opened ({error.strerror}): fetch the file again or '
                'remove it.'
            ) from error
        with file:
            yield file
    else:
        yield path


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
