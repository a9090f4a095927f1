# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read a tile as a classifier needs it; whatever is wrong with it becomes a status."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import BandError, TileSizeError, UnitError
from .footprints import make_footprint
from .opening import open_image_array, open_raster
from .readers import describe, locate, missing_to_nan, read_bands
from .scale import Scale, to_unit
from .selection import named_bands, select_bands
from .sizes import check_pixels, fit_size
from .sources import Source

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon


@dataclass(frozen=True)
class TileSpec:
    """What a classifier needs, and what the user says about the tiles."""

    #: Names of the bands, in the classifier's order.
    bands: tuple[str, ...]

    #: Unit of the classifier's images: 'dB', 'linear' or any other text.
    unit: str

    #: Height and width that the classifier takes; None if it takes any.
    size: tuple[int, int] | None

    #: Unit of the tiles; 'auto' guesses it for each.
    scale: Scale = 'auto'

    #: Names or numbers (from 1) of the files' bands that overrule names and order.
    override: tuple[str, ...] | None = None

    #: Coordinate reference system of the outlines.
    crs: str = 'EPSG:4326'

    #: A tile is 'nodata' if at least this part of its pixels is missing in some band.
    max_nodata: float = 1.0


@dataclass(frozen=True)
class Tile:
    """A tile that was read."""

    #: Its file or files.
    source: Source

    #: 'ok', 'mixed_size' (cut or padded); or the reason why there are no windows:
    #: 'nodata', 'unreadable: ...', 'bands: ...', 'unit: ...' or 'too_large: ...'.
    status: str

    #: Windows in the classifier's unit, float32 (N, C, h, w), missing pixels NaN; None
    #: if the tile cannot be classified.
    windows: NDArray[np.float32] | None = None

    #: Outline in the CRS of the spec; None if the file does not say.
    footprint: 'Polygon | MultiPolygon | None' = None

    #: Whether the files name their bands, so that their order is certain.
    named: bool = True


@dataclass(frozen=True)
class SourceImage:
    """An image as it is in its files."""

    #: Raw values, float32 (C, H, W), missing pixels NaN.
    values: NDArray[np.float32]

    #: CRS and transform from pixels (column, row); None if the files lack either.
    georeference: tuple[CRS, Affine] | None

    #: Whether the files name the bands.
    named: bool


def read_tile(source: Source, spec: TileSpec) -> Tile:
    """Read a tile.

    Args:
        source: Its file or files.
        spec: What the classifier needs.

    Returns:
        The tile; a bad one has no windows and a status that says why.
    """
    footprint = None
    try:
        image = read_source(source, spec.bands, spec.override)
        shape = image.values.shape[1:]
        if image.georeference is not None:
            footprint = make_footprint(*image.georeference, shape, spec.crs)
        values = to_unit(image.values, spec.scale, spec.unit, source.name)
        missing = np.isnan(values).any(axis=0).mean()
        windows = fit_size(values, spec.size)
        if missing >= spec.max_nodata or not len(windows):
            return Tile(source, 'nodata', None, footprint)
    # also a CRS that PROJ does not know, a file system that went away
    except (MemoryError, OSError, RuntimeError, ValueError) as error:
        return Tile(source, _status(error), None, footprint)
    status = 'ok' if spec.size in (None, shape) else 'mixed_size'
    return Tile(source, status, windows, footprint, image.named)


def read_source(
    source: Source, bands: Sequence[str], override: Sequence[str] | None = None
) -> SourceImage:
    """Read the bands of an image from its file, or from one file each.

    Args:
        source: The file or files.
        bands: Names of the bands, in order.
        override: As for :func:`select_bands`; for images of one file only.

    Returns:
        The image, with the bands asked for.

    Raises:
        BandError: If bands are missing, or files of one image do not fit together.
        CorruptFileError: If a file is truncated or not an image.
        TileSizeError: If the image is too large for a tile.
    """
    if len(source.paths) == 1:
        return _read_file(source.paths[0], bands, override)
    if override is not None:
        raise BandError(
            f'bands={",".join(override)} are chosen from one file, but {source.name} '
            'are one file for each band: leave --bands out.'
        )
    images = [
        _read_file(path, [band], None)
        for path, band in zip(source.paths, bands, strict=True)
    ]
    places = [(image.values.shape, image.georeference) for image in images]
    if any(place != places[0] for place in places):
        raise BandError(
            f'{source.name} differ in size, transform or CRS: warp them to one grid.'
        )
    values = np.concatenate([image.values for image in images])
    return SourceImage(values, images[0].georeference, named=True)


def _read_file(
    path: str, bands: Sequence[str], override: Sequence[str] | None
) -> SourceImage:
    if path.lower().endswith('.npy'):
        array = open_image_array(path)
        check_pixels(*array.shape[1:])
        chosen = select_bands(None, len(array), bands, override)
        if array.dtype.kind == 'c':
            raise BandError('The array holds complex values: detect them first.')
        return SourceImage(missing_to_nan(array[chosen]), None, override is not None)
    with open_raster(path) as file:
        header = describe(file)
        check_pixels(header.height, header.width)
        chosen = select_bands(header.descriptions, header.count, bands, override)
        named = override is not None or named_bands(header.descriptions, bands)
        return SourceImage(read_bands(file, chosen), locate(file), named)


def _status(error: BaseException) -> str:
    match error:
        case BandError():
            word = 'bands'
        case TileSizeError():
            word = 'too_large'
        case UnitError():
            word = 'unit'
        case _:
            word = 'unreadable'
    return f'{word}: {" ".join(str(error).split())}'
