# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read tiles as a classifier needs them; a problem with one becomes its status.

They are read ahead of the classifier, in order, without filling up memory.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ..errors import (
    BandError,
    SettingError,
    TileSizeError,
    UnitError,
    UnusualImageError,
)
from ..metadata import ImageProfile
from .blocks import check_blocks
from .decoding import (
    alpha_bands,
    has_mask,
    missing_to_nan,
    read_bands,
    refuse_complex,
    scaling,
)
from .doubts import (
    as_amplitude,
    check_profile,
    describe_file,
    describe_files,
    describe_unit,
    doubt_pixel_size,
    doubt_values,
)
from .finding import ImageFiles
from .footprints import make_footprint
from .opening import open_image_array, open_raster, reason
from .pixel_size import resampled
from .plausibility import check_backscatter, describe_outside, outside, to_check
from .readers import describe, describe_array, locate
from .scale import Scale, Unit, check_scale, convert_scale, find_unit, guess_scale
from .selection import named_bands, select_bands
from .sizes import check_pixels, fit_size

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

#: Maximum number of pixel values that wait for the classifier: 256 MiB of float32.
MAX_VALUES = 2**26

# About this many pieces along each side, of this size, tell power from dB.
_PIECES, _PIECE = 8, 32


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
        nodata: A number in the files that stands for missing pixels although they do
            not say so.
        profile: What the training tiles look like; None if that is unknown.
        strict: Whether unusual tiles get no class.
        resample: Whether tiles are read with pixels of the size in training.
    """

    bands: tuple[str, ...]
    unit: str
    size: tuple[int, int] | None
    scale: Scale = 'auto'
    override: tuple[str, ...] | None = None
    crs: str = 'EPSG:4326'
    max_nodata: float = 1.0
    nodata: float | None = None
    profile: ImageProfile | None = None
    strict: bool = False
    resample: bool = False

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: If *max_nodata* is out of range, *scale* is unknown or
                cannot be converted to *unit*, or *profile* lacks what *strict* or
                *resample* need.
        """
        check_scale(self.scale, self.unit)
        check_max_nodata(self.max_nodata)
        check_profile(self.profile, self.strict, self.resample)

    @property
    def stated(self) -> bool:
        """Whether the user states the unit of the tiles."""
        return self.scale != 'auto'

    @property
    def pixel_size(self) -> float | None:
        """Size at which pixels are read, in metres; None for that of the file."""
        return self.profile.pixel_size if self.resample and self.profile else None


@dataclass(frozen=True)
class Tile:
    """A tile that was read.

    Attributes:
        files: Its file or files.
        status: 'ok' or 'mixed_size' (cropped or padded); or the reason why there are no
            windows: 'nodata', 'unreadable: ...', 'bands: ...', 'unit: ...',
            'unusual: ...' or 'too_large: ...'.
        windows: Windows in the classifier's unit, float32 (N, C, h, w), missing pixels
            NaN; None if the tile cannot be classified.
        footprint: Outline in the CRS of the spec; None if the file does not say.
        named: Whether the files name their bands, so that their order is certain.
        unusual: How the tile differs from those of training; None if it does not.
        reading: How the numbers in the files were understood.
    """

    files: ImageFiles
    status: str
    windows: NDArray[np.float32] | None = None
    footprint: 'Polygon | MultiPolygon | None' = None
    named: bool = True
    unusual: str | None = None
    reading: str | None = None


@dataclass(frozen=True)
class RawImage:
    """An image as stored in its files.

    Attributes:
        values: Raw values, float32 (C, H, W), missing pixels NaN.
        georeference: CRS and transform from pixels (column, row); None if the files
            lack either.
        named: Whether the files name the bands.
        scaling: Scale and offset of the bands that declare them, by position.
        reading: How the numbers in the file are decoded.
        doubts: What speaks against using it.
        given: Unit in the file; None if it was not looked for.
    """

    values: NDArray[np.float32]
    georeference: tuple[CRS, Affine] | None
    named: bool
    scaling: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    reading: Sequence[str] = ()
    doubts: Sequence[str] = ()
    given: Unit | None = None


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
        raw = read_raw(files, spec)
        shape = raw.values.shape[1:]
        if raw.georeference is not None:
            footprint = make_footprint(*raw.georeference, shape, spec.crs)
        image = convert(raw, spec)
        missing = np.isnan(image.values).any(axis=0).mean()
        windows = fit_size(image.values, spec.size)
        if missing >= spec.max_nodata or not len(windows):
            return Tile(files, 'nodata', None, footprint)
        amplitude = as_amplitude(windows, image.given, spec.stated, spec.unit)
        doubts = [*image.doubts]
        doubts += doubt_values(windows, spec.bands, spec.profile, amplitude)
    # whatever a library raises about one tile, the others go on
    except Exception as error:  # noqa: BLE001
        return Tile(files, error_status(error), None, footprint)
    unusual = '; '.join(doubts) or None
    if unusual is not None and spec.strict:
        return Tile(files, f'unusual: {unusual}', None, footprint, unusual=unusual)
    status = 'ok' if spec.size in (None, shape) else 'mixed_size'
    reading = '; '.join(image.reading)
    return Tile(files, status, windows, footprint, image.named, unusual, reading)


def convert(raw: RawImage, spec: TileSpec) -> RawImage:
    """Convert an image to the unit of the classifier.

    Args:
        raw: The image as stored in its files.
        spec: What the classifier needs.

    Returns:
        The image in this unit, with how that was done and what speaks against it.

    Raises:
        UnitError: If the values contradict the unit, or cannot be backscatter.
    """
    given = find_unit(raw.values, spec.scale, spec.unit, 'The tile')
    values = convert_scale(raw.values, given, spec.unit)
    checked = to_check(raw.values, given, values, spec.unit)
    doubts = check_backscatter(raw.values, *checked, spec.bands, scaling=raw.scaling)
    how = [describe_unit(given, spec.unit, spec.stated)]
    wrong = outside(*checked)
    if wrong.any():
        values = np.where(wrong, np.float32(np.nan), values)
        shares = wrong.sum((1, 2)) / np.isfinite(checked[0]).sum((1, 2)).clip(1)
        how += [
            describe_outside(s, b) for s, b in zip(shares, spec.bands, strict=True) if s
        ]
    return replace(
        raw,
        values=values,
        reading=[*raw.reading, *how],
        doubts=[*raw.doubts, *doubts],
        given=given,
    )


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


def read_raw(files: ImageFiles, spec: TileSpec) -> RawImage:
    """Read the bands of an image from its file, or from one file per band.

    Args:
        files: The file or files.
        spec: What the classifier needs.

    Returns:
        The image, with the requested bands.

    Raises:
        BandError: If bands are missing, or the files of one image do not match.
        CorruptFileError: If a file is truncated or not an image.
        TileSizeError: If the image is too large for a tile.
    """
    if len(files.paths) == 1:
        return _read_file(files.paths[0], spec, spec.bands, spec.override)
    if spec.override is not None:
        raise BandError(
            f'bands={",".join(spec.override)} selects from one file, but {files.name} '
            'are one file for each band: omit --bands.'
        )
    images = [
        _read_file(path, spec, [band], None)
        for path, band in zip(files.paths, spec.bands, strict=True)
    ]
    places = [(image.values.shape, image.georeference) for image in images]
    if any(place != places[0] for place in places):
        raise BandError(
            f'{files.name} differ in size, transform or CRS: warp them to one grid.'
        )
    return replace(
        images[0],
        values=np.concatenate([image.values for image in images]),
        named=True,
        scaling={i: x.scaling[0] for i, x in enumerate(images) if 0 in x.scaling},
        reading=describe_files(spec.bands, [image.reading for image in images]),
    )


def _read_file(
    path: str, spec: TileSpec, bands: Sequence[str], override: Sequence[str] | None
) -> RawImage:
    if path.lower().endswith('.npy'):
        array = open_image_array(path)
        check_pixels(*array.shape[1:])
        refuse_complex(path, array.dtype.kind == 'c')
        names = describe_array(path, array).descriptions
        chosen = select_bands(names, len(array), bands, override, trained=spec.bands)
        values = missing_to_nan(array[chosen], spec.nodata)
        parts = ['bands by order']
        if override is not None:
            parts = [f'bands {",".join(override)} as stated']
        if spec.nodata is not None:
            parts.append(f'nodata {spec.nodata:g} as stated')
        return RawImage(values, None, override is not None, reading=parts)
    with ExitStack() as stack:
        file = stack.enter_context(open_raster(path))
        header = describe(file)
        chosen = select_bands(
            header.descriptions,
            file.count,
            bands,
            override,
            alpha_bands(file),
            spec.bands,
        )
        named = override is not None or named_bands(header.descriptions, bands)
        own = file.crs, file.transform, (file.height, file.width)
        nodata = left_out(file, chosen, spec)
        reader = stack.enter_context(resampled(file, spec.pixel_size, nodata))
        check_pixels(reader.height, reader.width)
        check_blocks(file)
        return RawImage(
            values=read_bands(reader, chosen, nodata=spec.nodata),
            georeference=locate(reader),
            named=named,
            scaling={
                row: tag
                for row, band in enumerate(chosen)
                if (tag := scaling(file, band)) is not None
            },
            reading=describe_file(
                file,
                chosen,
                named,
                spec.nodata,
                None if reader is file else spec.pixel_size,
                override,
            ),
            doubts=[] if spec.resample else doubt_pixel_size(*own, spec.profile),
        )


def left_out(
    file: DatasetReader | WarpedVRT, bands: Sequence[int], spec: TileSpec
) -> float | None:
    """Return the number that resampling leaves out although the file does not say so.

    Power or amplitude of 0 has no value in dB. If nothing else is declared as missing,
    it must not make the pixels next to it darker.

    Args:
        file: The file.
        bands: Positions of the bands that are read.
        spec: What the classifier needs, and what the user states.

    Returns:
        That of the spec, 0 for power and amplitude, or None.
    """
    if spec.nodata is not None or spec.pixel_size is None or spec.unit != 'dB':
        return spec.nodata
    declared = any(v is not None and not math.isnan(v) for v in file.nodatavals)
    if declared or has_mask(file) or alpha_bands(file) or any(file.offsets):
        return None
    if spec.stated:
        return 0 if spec.scale in ('linear', 'amplitude') else None
    values = _sample(file, bands)
    return 0 if guess_scale(values[values != 0]) == 'linear' else None


def _sample(
    file: DatasetReader | WarpedVRT, bands: Sequence[int]
) -> NDArray[np.float32]:
    """Return values of small pieces from all over a file."""
    tops, lefts = (range(0, n, max(_PIECE, n // _PIECES)) for n in file.shape)
    pieces = [
        read_bands(
            file,
            bands,
            Window.from_slices(
                (top, min(top + _PIECE, file.height)),
                (left, min(left + _PIECE, file.width)),
            ),
        )
        for top, left in product(tops, lefts)
    ]
    return np.concatenate([piece.ravel() for piece in pieces])


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
        case UnusualImageError():
            word = 'unusual'
        case SettingError():
            word = 'setting'
        case _:
            word = 'unreadable'
    return f'{word}: {reason(error)}'
