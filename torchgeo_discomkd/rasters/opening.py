# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Open image files, with error messages that users understand."""

import os
import threading
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from ..errors import CorruptFileError, UserError
from ..files import utf8_text
from .aliases import utf8_name
from .grids import refuse_grids
from .trust import (
    allowed_drivers,
    check_regular,
    find_erdas,
    find_sidecars,
    images_among,
    is_virtual,
    plain,
    refuse_references,
    texts_among,
)

# For a JPEG that ends early GDAL only warns and fills the rest with grey; its own PNG
# decoder (the optimisation) fills the rest with whatever is in memory.
_GDAL_OPTIONS = {
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
def reading(name: str | Path, how: str = 'as an image') -> Generator[None]:
    """Turn whatever a library raises about one input into an error that names it.

    Libraries raise errors of any class for damaged files, some of which they do not
    make public.

    Args:
        name: What is read.
        how: How, for the message.

    Yields:
        Nothing.

    Raises:
        CorruptFileError: Instead of an error that is not for the user.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = reason(_root(error))
        raise CorruptFileError(
            f'{name} cannot be read {how} ({why}): fetch the file again or remove it.'
        ) from error


@contextmanager
def open_raster(path: str | Path) -> Generator[DatasetReader]:
    """Open an image that GDAL reads.

    Only GeoTIFF, PNG and JPEG may have their suffixes, and only files next to the image
    are read along with it; see :mod:`~.trust`.

    Args:
        path: The file, or a URL or virtual path of GDAL.

    Yields:
        The file.

    Raises:
        CorruptFileError: If the file is truncated, not an image or refers to others,
            whether that shows on opening or on reading inside the block.
    """
    with ExitStack() as stack:
        with reading(path):
            stack.enter_context(rasterio.Env(**_GDAL_OPTIONS | _lookup(str(path))))
            name = stack.enter_context(utf8_name(str(path)))
            file = stack.enter_context(_open(name))
            if allowed_drivers(str(path)) is not None:
                refuse_references(file, path)
        try:
            yield file
        except Exception as error:
            # rasterio has errors of GDAL that it does not make public
            if not type(error).__module__.startswith('rasterio'):
                raise
            with reading(path):
                raise


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
    with reading(path, 'as an array'):
        check_regular(str(path))
        return open_memmap(path, mode='r')


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


def _lookup(path: str) -> dict[str, str]:
    """Return the option of GDAL that says which files next to an image to look for.

    Listing the folder at every open ('FALSE') is slow if it holds thousands of tiles.
    """
    if is_virtual(path):
        # asking a server for the files next to an image takes longer than the image
        none = '://' in path
    else:
        check_regular(path)
        none = allowed_drivers(path) is not None and not _checked_sidecars(path)
    return {'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR' if none else 'TRUE'}


def _checked_sidecars(path: str) -> list[str]:
    """Return the files next to an image that GDAL may read along with it.

    Raises:
        CorruptFileError: If one is not what its name says, or the coordinate reference
            system names another file.
    """
    sidecars = find_sidecars(path)
    texts = texts_among(sidecars)
    if sidecars:
        texts += find_erdas(path)
    refuse_grids(path, texts)
    for image in images_among(sidecars):
        # which may have sidecars of its own
        with open_raster(image):
            pass
    return sidecars


def _open(path: str) -> DatasetReader:
    if _silent:
        return _open_as_allowed(path)
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        return _open_as_allowed(path)


def _open_as_allowed(path: str) -> DatasetReader:
    drivers = allowed_drivers(path)
    if is_virtual(path):
        # only this function finds the credentials for a host, and it takes one driver
        return rasterio.open(path, driver=drivers and drivers[0])
    return DatasetReader(plain(path), driver=drivers)


def reason(error: BaseException) -> str:
    """Say in one line why something failed.

    Args:
        error: What happened.

    Returns:
        Its message, which UTF-8 can hold; along with its class, if that is needed to
        understand it.
    """
    text = utf8_text(' '.join(str(error).split()))
    known = isinstance(error, OSError | ValueError | RuntimeError)
    if known or type(error).__module__.startswith('rasterio'):
        return text
    return f'{type(error).__name__}: {text}'


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
