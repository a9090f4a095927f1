# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Strips of a scene: the pixels of some rows of windows, read from top to bottom."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scene_reader import SceneReader
from .windows import WindowAxis

#: Changes raw values, for example their unit, without changing their shape.
Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Strip:
    """Pixels of neighbouring rows of windows, and the cells that can be mapped."""

    #: Rows of windows.
    rows: WindowAxis

    #: Position of the first one in the scene.
    begin: int

    #: Position after the last one.
    end: int

    #: Values, float32, shape (bands, height, width); NaN where missing or outside the
    #: scene.
    image: NDArray[np.float32]

    #: Whether the cells that the rows cover have enough pixels: bool, shape (cell rows,
    #: cell columns), from cell row ``first_cell``.
    mapped: NDArray[np.bool_]

    @property
    def first_cell(self) -> int:
        """First cell row that the rows of windows cover."""
        return int(self.rows.first[self.begin])


def iterate_strips(
    reader: SceneReader,
    rows: WindowAxis,
    columns: WindowAxis,
    rows_per_strip: int,
    max_nodata: float,
    prepare: Prepare,
) -> Iterator[Strip]:
    """Read a scene from top to bottom, each pixel once.

    Args:
        reader: The scene.
        rows: All rows of windows.
        columns: Columns of windows, all or some neighbouring ones.
        rows_per_strip: Rows of windows per strip.
        max_nodata: A cell with this share of missing pixels or more is not mapped.
        prepare: Changes the values that were read.

    Yields:
        Strips that overlap as their windows do.
    """
    left = int(columns.starts[0])
    right = min(int(columns.starts[-1]) + columns.tile, columns.size)
    pixels = np.empty((reader.bands, 0, right - left), np.float32)
    top = bottom = 0
    for begin in range(0, len(rows.starts), rows_per_strip):
        end = min(begin + rows_per_strip, len(rows.starts))
        pixels = pixels[:, int(rows.starts[begin]) - top :]
        top = int(rows.starts[begin])
        need = min(int(rows.starts[end - 1]) + rows.tile, rows.size)
        if need > bottom:
            # whole blocks, so that none is decoded twice
            blocks = -(-need // reader.block_rows)
            stop = min(blocks * reader.block_rows, rows.size)
            new = prepare(reader.read(bottom, stop, left, right))
            pixels = np.concatenate([pixels, new], axis=1) if top < bottom else new
            bottom = stop
        image = pixels[:, : need - top]
        mapped = _mapped(image, top, left, rows, columns, begin, end, max_nodata)
        yield Strip(rows, begin, end, _pad(image, rows, columns), mapped)


def _mapped(
    image: NDArray[np.float32],
    top: int,
    left: int,
    rows: WindowAxis,
    columns: WindowAxis,
    begin: int,
    end: int,
    max_nodata: float,
) -> NDArray[np.bool_]:
    """Find cells with enough pixels; a pixel is missing if it is so in any band."""
    lengths = rows.length()[rows.first[begin] : rows.stop[end - 1]]
    present = np.isfinite(image).all(axis=0)
    if not present.any():
        return np.zeros((len(lengths), columns.cells), np.bool_)
    y = rows.first[begin] * rows.stride - top
    x = columns.offset - left
    counts = present[y : y + lengths.sum(), x : x + columns.length().sum()]
    for axis, steps in enumerate((lengths, columns.length())):
        starts = np.cumsum(steps) - steps
        counts = np.add.reduceat(counts, starts, axis=axis, dtype=np.int64)
    pixels = np.outer(lengths, columns.length())
    missing = pixels - counts
    return missing < max_nodata * pixels


def _pad(
    image: NDArray[np.float32], rows: WindowAxis, columns: WindowAxis
) -> NDArray[np.float32]:
    """Add missing pixels to a scene smaller than a window, below and on the right."""
    below = max(rows.tile - image.shape[1], 0)
    right = max(columns.tile - image.shape[2], 0)
    if not below and not right:
        return image
    widths = [(0, 0), (0, below), (0, right)]
    return np.pad(image, widths, constant_values=np.nan)
