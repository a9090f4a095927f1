# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read parts of a scene, one file or one per band, in the unit of the classifier."""

import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ...errors import BandError, CorruptFileError, SettingError, UnitError
from ...rasters.blocks import check_blocks
from ...rasters.decoding import alpha_bands, check_values, read_bands, scaling
from ...rasters.doubts import (
    describe_file,
    describe_files,
    describe_unit,
    doubt_pixel_size,
)
from ...rasters.finding import ImageFiles
from ...rasters.opening import open_raster, reading
from ...rasters.pixel_size import resampled
from ...rasters.plausibility import (
    HIGHEST,
    LOWEST,
    MOST_OUTSIDE,
    check_backscatter,
    describe_outside,
    outside,
    to_check,
)
from ...rasters.readers import describe
from ...rasters.scale import Unit, convert_scale, find_unit
from ...rasters.selection import named_bands, select_bands
from ...rasters.tiles import TileSpec, left_out
from .ground_control import has_ground_control, warp_to_grid
from .tags import date_tags

# Rows of a compressed file are best read in whole blocks, but a file may be one block.
_MOST_BLOCK_ROWS = 1024

# A scene is sampled at up to 8 x 8 places, in pieces of the size of a window, as far as
# they are small enough to keep; if all are empty, at up to 32 x 32.
_PIECES, _LARGEST_PIECE = 8, 128
_MANY_PIECES, _SMALL_PIECE = 32, (16, 16)


@dataclass(frozen=True)
class Grid:
    """Location of the pixels of a scene.

    Attributes:
        height: Rows.
        width: Columns.
        crs: Coordinate reference system; None if unknown.
        transform: From pixel (column, row) to coordinates; None if the scene is not
            georeferenced.
    """

    height: int
    width: int
    crs: CRS | None
    transform: Affine | None


@dataclass(frozen=True)
class SceneSample:
    """Pieces from all over a scene.

    Attributes:
        windows: Values in the unit of the classifier, float32, shape (N, bands, rows,
            columns), missing pixels NaN.
        doubts: What speaks against mapping the scene.
        given: Unit in the files; None if it was not looked for.
    """

    windows: NDArray[np.float32]
    doubts: list[str]
    given: Unit | None


class SceneReader:
    """A scene that is open for reading.

    Its files are to be read by one thread at a time.

    Attributes:
        name: Name of the scene, for messages.
        named: Whether the bands are identified by name or by the user.
        grid: Location of its pixels.
        bands: Number of bands.
        block_rows: Rows that are decoded together.
        dates: Tags that say when the scene was taken, of the first file that has one.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[tuple[DatasetReader | WarpedVRT, list[int]]],
        named: bool,
        spec: TileSpec,
        decoding: Sequence[str],
        dates: Mapping[str, str],
    ) -> None:
        """Initialize a new SceneReader instance.

        Args:
            name: Name of the scene, for messages.
            files: Open files on one grid, each with the positions of its bands (from
                0), together in the order of the classifier.
            named: Whether the order of the bands is certain.
            spec: What the classifier needs, and what the user states.
            decoding: How the numbers in the files are decoded.
            dates: Tags that say when the scene was taken.
        """
        self._files = files
        self._spec = spec
        self._decoding = decoding

        # decided by the first data for the whole scene
        self._given: Unit | None = None
        self._outside = np.zeros(len(spec.bands), np.int64)
        self._present = np.zeros(len(spec.bands), np.int64)
        self.name = name
        self.named = named
        self.dates = dates
        self.grid = _grid(files[0][0])
        self.bands = sum(len(positions) for _, positions in files)

        block_rows = max(file.block_shapes[i][0] for file, (i, *_) in files)
        self.block_rows = min(block_rows, _MOST_BLOCK_ROWS)

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
        """Read a part of the scene.

        Missing pixels become NaN, see :func:`~.decoding.read_bands`, and so do those
        that cannot be backscatter. The first values that are not missing determine the
        unit of the scene.

        Args:
            top: First row.
            bottom: Row after the last one.
            left: First column.
            right: Column after the last one.

        Returns:
            Values in the unit of the classifier, float32, shape (bands, bottom - top,
            right - left).

        Raises:
            CorruptFileError: If the file is truncated or has vanished.
            UnitError: If these are the first data, and they contradict the stated unit
                or are neither in dB nor linear power.
        """
        image = self._read(top, bottom, left, right)
        self._decide_unit(image)
        values = convert_scale(image, self._given, self._spec.unit)
        checked, unit = to_check(image, self._given, values, self._spec.unit)
        wrong = outside(checked, unit)
        self._outside += wrong.sum(axis=(1, 2))
        self._present += np.isfinite(checked).sum(axis=(1, 2))
        return np.where(wrong, np.float32(np.nan), values) if wrong.any() else values

    def check_all(self) -> None:
        """Check all values that were read, of which :meth:`sample` saw only a part.

        Raises:
            UnitError: If too many cannot be backscatter.

        Warns:
            UserWarning: If some cannot be.
        """
        shares = self._shares
        if (shares > MOST_OUTSIDE).any():
            band = self._spec.bands[int(shares.argmax())]
            raise UnitError(
                f'{self.name}: {100 * shares.max():.0f} % of {band} are outside '
                f'{LOWEST} to {HIGHEST} dB, where backscatter cannot be, in parts of '
                'the scene: set them to nodata, or state the number that stands for '
                'missing pixels with --nodata.'
            )
        if wrong := self._wrong:
            warnings.warn(f'{self.name}: {"; ".join(wrong)}.', stacklevel=3)

    @property
    def _shares(self) -> NDArray[np.float64]:
        return self._outside / np.maximum(self._present, 1)

    @property
    def _wrong(self) -> list[str]:
        found = zip(self._shares.tolist(), self._spec.bands, strict=True)
        return [describe_outside(share, band) for share, band in found if share]

    def _decide_unit(self, image: NDArray[np.float32]) -> None:
        if self._given is None:
            spec = self._spec
            self._given = find_unit(image, spec.scale, spec.unit, self.name)

    def _read(
        self, top: int, bottom: int, left: int, right: int
    ) -> NDArray[np.float32]:
        window = Window.from_slices((top, bottom), (left, right))
        with reading(self.name, f'in rows {top} to {bottom}'):
            parts = [
                read_bands(file, positions, window, self._spec.nodata)
                for file, positions in self._files
            ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def sample(self) -> SceneSample:
        """Read pieces from all over the scene and use them to determine its unit.

        Returns:
            The pieces, and what speaks against them.

        Raises:
            UnitError: As for :meth:`read`, or if the values are physically impossible.
        """
        for most, size in ((_PIECES, self._piece), (_MANY_PIECES, _SMALL_PIECE)):
            pieces = self._pieces(most, size)
            if np.isfinite(pieces).any():
                break
        self._decide_unit(pieces)
        spec = self._spec
        values = convert_scale(pieces, self._given, spec.unit)
        flat, flat_values = pieces.swapaxes(0, 1), values.swapaxes(0, 1)
        checked = to_check(flat, self._given, flat_values, spec.unit)
        try:
            doubts = check_backscatter(
                flat, *checked, spec.bands, scaling=self._scaling()
            )
        except UnitError as error:
            raise UnitError(f'{self.name}: {error}') from error
        wrong = outside(*checked).swapaxes(0, 1)
        values = np.where(wrong, np.float32(np.nan), values)
        return SceneSample(values, [*self._doubt_pixels(), *doubts], self._given)

    @property
    def reading(self) -> str:
        """How the numbers in the files that were read are understood."""
        how = describe_unit(self._given, self._spec.unit, self._spec.stated)
        return '; '.join([*self._decoding, how, *self._wrong])

    def _scaling(self) -> dict[int, tuple[float, float]]:
        tags = [scaling(file, i) for file, found in self._files for i in found]
        return {row: tag for row, tag in enumerate(tags) if tag is not None}

    def _doubt_pixels(self) -> list[str]:
        grid = self.grid
        return doubt_pixel_size(
            grid.crs, grid.transform, (grid.height, grid.width), self._spec.profile
        )

    @property
    def _piece(self) -> tuple[int, int]:
        height, width = self._spec.size or (_LARGEST_PIECE, _LARGEST_PIECE)
        return min(height, _LARGEST_PIECE), min(width, _LARGEST_PIECE)

    def _pieces(self, most: int, size: tuple[int, int]) -> NDArray[np.float32]:
        """Return pieces of a size, *most* in each direction: (N, bands, rows, columns).

        Pieces reach beyond a scene that is smaller than they are; missing pixels.
        """
        height, width = self.grid.height, self.grid.width
        tops = np.unique(np.linspace(0, max(height - size[0], 0), most).astype(int))
        lefts = np.unique(np.linspace(0, max(width - size[1], 0), most).astype(int))
        pieces = np.full(
            (len(tops) * len(lefts), self.bands, *size), np.nan, np.float32
        )
        for piece, (top, left) in zip(pieces, product(tops, lefts), strict=True):
            bottom, right = min(top + size[0], height), min(left + size[1], width)
            piece[:, : bottom - top, : right - left] = self._read(
                int(top), int(bottom), int(left), int(right)
            )
        return pieces


@contextmanager
def open_scene(files: ImageFiles, spec: TileSpec) -> Generator[SceneReader]:
    """Open a scene.

    A scene with ground control points only, such as a Sentinel-1 GRD measurement, is
    warped on the fly to UTM (see :func:`~.ground_control.warp_to_grid`).

    Args:
        files: One file, or one file per band on the same grid.
        spec: What the classifier needs, and what the user states; ``spec.override`` is
            for one file only.

    Yields:
        The scene.

    Raises:
        BandError: If bands are missing, complex, or positions in a colour palette, or
            the files of the bands do not lie on the same grid.
        CorruptFileError: If a file cannot be read as an image.
        SettingError: If ``spec.override`` is given for several files.
    """
    bands = spec.override
    if bands is not None and len(files.paths) > 1:
        raise SettingError(
            f'bands={",".join(bands)} selects bands of one file, but {files.name} are '
            f'{len(files.paths)} files: omit it.'
        )
    with ExitStack() as stack:
        opened, parts, dates = [], [], {}
        named = bands is not None or len(files.paths) > 1
        for path, names in _names_by_file(files, spec.bands):
            with reading(path):
                file = stack.enter_context(open_raster(path))
                _check_pixels(path, file.transform)
                header = describe(file)
                dates = dates or date_tags(file.tags() | file.tags(ns='IMAGERY'))
                positions = select_bands(
                    header.descriptions,
                    file.count,
                    names,
                    bands,
                    alpha_bands(file),
                    spec.bands,
                )
                check_blocks(file)
                named = named or named_bands(header.descriptions, names)
                check_values(file, positions)
                grid = file
                if has_ground_control(file):
                    grid = stack.enter_context(warp_to_grid(file, path))
                nodata = left_out(grid, positions, spec)
                read = stack.enter_context(resampled(grid, spec.pixel_size, nodata))
                size = None if read is grid else spec.pixel_size
                parts.append(
                    describe_file(file, positions, named, spec.nodata, size, bands)
                )
                opened.append((read, positions))
        # a transform may have no inverse
        with reading(files.name):
            _check_grids(files, [_grid(file) for file, _ in opened])
        single = len(parts) == 1
        decoding = parts[0] if single else describe_files(spec.bands, parts)
        yield SceneReader(files.name, opened, named, spec, decoding, dates)


def _names_by_file(
    files: ImageFiles, wanted: Sequence[str]
) -> list[tuple[str, Sequence[str]]]:
    if len(files.paths) == 1:
        return [(files.paths[0], wanted)]
    if len(files.paths) != len(wanted):
        raise BandError(
            f'{files.name} are {len(files.paths)} files, but the classifier needs '
            f'{len(wanted)} bands ({", ".join(wanted)}): give one file with all bands '
            'or one file for each.'
        )
    return [(path, [name]) for path, name in zip(files.paths, wanted, strict=True)]


def _grid(file: DatasetReader | WarpedVRT) -> Grid:
    known = file.transform != Affine.identity()
    return Grid(file.height, file.width, file.crs, file.transform if known else None)


def _check_pixels(path: str, transform: Affine) -> None:
    size = abs(transform.determinant)
    if not 0 < size < math.inf:
        raise CorruptFileError(
            f'{path} places pixels without extent on the Earth ({transform[:6]}): '
            'correct its georeference, for example with "rio edit-info --transform", '
            'or remove it with gdal_edit -unsetgt.'
        )


def _check_grids(files: ImageFiles, grids: Sequence[Grid]) -> None:
    for path, grid in zip(files.paths, grids, strict=True):
        if not _same(grids[0], grid):
            raise BandError(
                f'{files.paths[0]} ({_describe(grids[0])}) and {path} '
                f'({_describe(grid)}) do not lie on the same grid: resample one to the '
                f'other, for example with "rio warp {path} resampled.tif --like '
                f'{files.paths[0]}".'
            )


def _same(one: Grid, other: Grid) -> bool:
    if (one.height, one.width, one.crs) != (other.height, other.width, other.crs):
        return False
    if one.transform is None or other.transform is None:
        return one.transform is other.transform
    # text formats round coordinates: a hundredth of a pixel is the same place
    shift = ~one.transform @ other.transform
    corners = [(0, 0), (one.width, 0), (0, one.height)]
    return all(np.allclose(shift @ c, c, rtol=0, atol=0.01) for c in corners)


def _describe(grid: Grid) -> str:
    where = 'no georeference' if grid.transform is None else f'{grid.transform[:6]}'
    return f'{grid.width}x{grid.height} pixels, {grid.crs or "no CRS"}, {where}'
