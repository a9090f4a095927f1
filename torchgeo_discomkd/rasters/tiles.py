# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read tiles as a classifier needs them; a problem with one becomes its status.

They are read ahead of the classifier, in order, without filling up memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import BandError, SettingError, TileSizeError, UnitError
from .finding import ImageFiles
from .footprints import make_footprint
from .opening import open_image_array, open_raster
from .readers import describe, locate, missing_to_nan, read_bands
from .scale import Scale, check_scale, convert_scale, find_unit
from .selection import named_bands, select_bands
from .sizes import check_pixels, fit_size

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

#: Maximum number of pixel values that wait for the classifier: 256 MiB of float32.
MAX_VALUES = 2**26


@dataclass(frozen=True)
class TileSpec:
    """What a classifier needs, and what the user states about the tiles.

    Attributes:
        bands: Names of the bands, in the classifier's order.
        unit: Unit of the classifier's images: 'dB', 'linear' or any other text.
        size: Height and width that the classifier takes; None if it takes any.
        scale: Unit of the tiles; 'auto' guesses it for each.
        override: Names or numbers (from 1) of the files' bands; they take precedence
            over names and order.
        crs: Coordinate reference system of the outlines.
        max_nodata: A tile is 'nodata' if at least this fraction of its pixels is
            missing in some band.
    """

    bands: tuple[str, ...]
    unit: str
    size: tuple[int, int] | None
    scale: Scale = 'auto'
    override: tuple[str, ...] | None = None
    crs: str = 'EPSG:4326'
    max_nodata: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: If *max_nodata* is out of range, or *scale* is unknown or
                cannot be converted to *unit*.
        """
        check_scale(self.scale, self.unit)
        check_max_nodata(self.max_nodata)


@dataclass(frozen=True)
class Tile:
    """A tile that was read.

    Attributes:
        files: Its file or files.
        status: 'ok' or 'mixed_size' (cropped or padded); or the reason why there are no
            windows: 'nodata', 'unreadable: ...', 'bands: ...', 'unit: ...' or
            'too_large: ...'.
        windows: Windows in the classifier's unit, float32 (N, C, h, w), missing pixels
            NaN; None if the tile cannot be classified.
        footprint: Outline in the CRS of the spec; None if the file does not say.
        named: Whether the files name their bands, so that their order is certain.
    """

    files: ImageFiles
    status: str
    windows: NDArray[np.float32] | None = None
    footprint: 'Polygon | MultiPolygon | None' = None
    named: bool = True


@dataclass(frozen=True)
class RawImage:
    """An image as stored in its files.

    Attributes:
        values: Raw values, float32 (C, H, W), missing pixels NaN.
        georeference: CRS and transform from pixels (column, row); None if the files
            lack either.
        named: Whether the files name the bands.
    """

    values: NDArray[np.float32]
    georeference: tuple[CRS, Affine] | None
    named: bool


def check_max_nodata(max_nodata: float) -> None:
    """Check the fraction of missing pixels from which a tile has no class.

    Args:
        max_nodata: The fraction.

    Raises:
        SettingError: If it is not above 0 and at most 1.
    """
    if not 0 < max_nodata <= 1:
        raise SettingError(
            f'max_nodata={max_nodata}: give a number above 0, at most 1.'
        )


def read_tile(files: ImageFiles, spec: TileSpec) -> Tile:
    """Read a tile.

    Args:
        files: Its file or files.
        spec: What the classifier needs.

    Returns:
        The tile; if it cannot be used, without windows and with a status that says why.
    """
    footprint = None
    try:
        image = read_raw(files, spec.bands, spec.override)
        shape = image.values.shape[1:]
        if image.georeference is not None:
            footprint = make_footprint(*image.georeference, shape, spec.crs)
        unit = find_unit(image.values, spec.scale, spec.unit, files.name)
        values = convert_scale(image.values, unit, spec.unit)
        missing = np.isnan(values).any(axis=0).mean()
        windows = fit_size(values, spec.size)
        if missing >= spec.max_nodata or not len(windows):
            return Tile(files, 'nodata', None, footprint)
    # also a CRS that PROJ does not know, a file system that went away
    except (MemoryError, OSError, RuntimeError, ValueError) as error:
        return Tile(files, error_status(error), None, footprint)
    status = 'ok' if spec.size in (None, shape) else 'mixed_size'
    return Tile(files, status, windows, footprint, image.named)


def read_ahead(
    pool: Executor, images: Iterable[ImageFiles], spec: TileSpec, most: int, least: int
) -> Iterator[Tile]:
    """Read tiles with several threads.

    Args:
        pool: The threads.
        images: The tiles.
        spec: What the classifier needs of them.
        most: Maximum number of tiles to read ahead.
        least: Number of tiles to read ahead even if they are large.

    Yields:
        The tiles in the order of *images*.
    """
    waiting: deque[Future[Tile]] = deque()
    iterator = iter(images)
    ahead = least
    while True:
        while len(waiting) < ahead and (files := next(iterator, None)) is not None:
            waiting.append(pool.submit(read_tile, files, spec))
        if not waiting:
            return
        tile = waiting.popleft().result()
        if tile.windows is not None:
            # the next tiles are probably as large as this one
            ahead = max(least, min(most, MAX_VALUES // tile.windows.size))
        yield tile


def batch_tiles(tiles: Iterable[Tile], size: int) -> Iterator[list[Tile]]:
    """Group tiles into batches.

    Args:
        tiles: The tiles.
        size: Number of tiles or windows at which a batch is complete.

    Yields:
        Batches, smaller if the tiles are large.
    """
    batch: list[Tile] = []
    windows = values = 0
    for tile in tiles:
        batch.append(tile)
        if tile.windows is not None:
            windows += len(tile.windows)
            values += tile.windows.size
        if max(windows, len(batch)) >= size or values >= MAX_VALUES:
            yield batch
            batch, windows, values = [], 0, 0
    if batch:
        yield batch


def read_raw(
    files: ImageFiles, bands: Sequence[str], override: Sequence[str] | None = None
) -> RawImage:
    """Read the bands of an image from its file, or from one file per band.

    Args:
        files: The file or files.
        bands: Names of the bands, in order.
        override: As for :func:`select_bands`; for images of one file only.

    Returns:
        The image, with the requested bands.

    Raises:
        BandError: If bands are missing, or the files of one image do not match.
        CorruptFileError: If a file is truncated or not an image.
        TileSizeError: If the image is too large for a tile.
    """
    if len(files.paths) == 1:
        return _read_file(files.paths[0], bands, override)
    if override is not None:
        raise BandError(
            f'bands={",".join(override)} selects from one file, but {files.name} are '
            'one file for each band: omit --bands.'
        )
    images = [
        _read_file(path, [band], None)
        for path, band in zip(files.paths, bands, strict=True)
    ]
    places = [(image.values.shape, image.georeference) for image in images]
    if any(place != places[0] for place in places):
        raise BandError(
            f'{files.name} differ in size, transform or CRS: warp them to one grid.'
        )
    values = np.concatenate([image.values for image in images])
    return RawImage(values, images[0].georeference, named=True)


def _read_file(
    path: str, bands: Sequence[str], override: Sequence[str] | None
) -> RawImage:
    if path.lower().endswith('.npy'):
        array = open_image_array(path)
        check_pixels(*array.shape[1:])
        chosen = select_bands(None, len(array), bands, override)
        if array.dtype.kind == 'c':
            raise BandError('The array holds complex values: detect them first.')
        return RawImage(missing_to_nan(array[chosen]), None, override is not None)
    with open_raster(path) as file:
        header = describe(file)
        check_pixels(header.height, header.width)
        chosen = select_bands(header.descriptions, header.count, bands, override)
        named = override is not None or named_bands(header.descriptions, bands)
        return RawImage(read_bands(file, chosen), locate(file), named)


def error_status(error: BaseException) -> str:
    """Return the status of an image that cannot be classified.

    Args:
        error: What happened.

    Returns:
        A word for the kind of error, a colon and its message in one line.
    """
    match error:
        case BandError():
            word = 'bands'
        case TileSizeError():
            word = 'too_large'
        case UnitError():
            word = 'unit'
        case SettingError():
            word = 'setting'
        case _:
            word = 'unreadable'
    return f'{word}: {" ".join(str(error).split())}'
