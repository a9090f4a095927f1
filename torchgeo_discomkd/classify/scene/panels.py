# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify a panel of a scene: some neighbouring columns of the map.

Strips, the pixels of some rows of windows, are read from top to bottom; their windows
are classified and averaged in the cells of the map.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..predictor import Predictor
from .reader import SceneReader
from .settings import SceneSettings, rows_per_strip
from .windows import WindowAxis


@dataclass(frozen=True)
class Strip:
    """Pixels of neighbouring rows of windows, and the cells that can be mapped.

    Attributes:
        rows: Rows of windows.
        begin: Position of the first one in the scene.
        end: Position after the last one.
        image: Values, float32, shape (bands, height, width); NaN where missing or
            outside the scene.
        mapped: Whether the cells that the rows cover have enough pixels: bool, shape
            (cell rows, cell columns), from cell row ``first_cell``.
    """

    rows: WindowAxis
    begin: int
    end: int
    image: NDArray[np.float32]
    mapped: NDArray[np.bool_]

    @property
    def first_cell(self) -> int:
        """First cell row that the rows of windows cover."""
        return int(self.rows.first[self.begin])


def iterate_strips(
    reader: SceneReader, rows: WindowAxis, columns: WindowAxis, settings: SceneSettings
) -> Iterator[Strip]:
    """Read a panel from top to bottom, each pixel once.

    Args:
        reader: The scene.
        rows: All rows of windows.
        columns: Columns of windows of the panel.
        settings: How the scene is classified.

    Yields:
        Strips that overlap as their windows do.
    """
    step = rows_per_strip(columns, settings, reader.bands)
    left = int(columns.starts[0])
    right = min(int(columns.starts[-1]) + columns.tile, columns.size)
    pixels = np.empty((reader.bands, 0, right - left), np.float32)
    top = bottom = 0
    for begin in range(0, len(rows.starts), step):
        end = min(begin + step, len(rows.starts))
        pixels = pixels[:, int(rows.starts[begin]) - top :]
        top = int(rows.starts[begin])
        need = min(int(rows.starts[end - 1]) + rows.tile, rows.size)
        if need > bottom:
            # whole blocks, so that none is decoded twice
            blocks = -(-need // reader.block_rows)
            stop = min(blocks * reader.block_rows, rows.size)
            new = reader.read(bottom, stop, left, right)
            pixels = np.concatenate([pixels, new], axis=1) if top < bottom else new
            bottom = stop
        image = pixels[:, : need - top]
        mapped = _mapped(image, rows, columns, (begin, end), settings.spec.max_nodata)
        yield Strip(rows, begin, end, _pad(image, rows, columns), mapped)


def _mapped(
    image: NDArray[np.float32],
    rows: WindowAxis,
    columns: WindowAxis,
    span: tuple[int, int],
    max_nodata: float,
) -> NDArray[np.bool_]:
    """Find cells with enough pixels; pixels missing in any band do not count."""
    begin, end = span
    lengths = rows.length()[rows.first[begin] : rows.stop[end - 1]]
    present = np.isfinite(image).all(axis=0)
    if not present.any():
        return np.zeros((len(lengths), columns.cells), np.bool_)
    y = rows.first[begin] * rows.stride - rows.starts[begin]
    x = columns.offset - columns.starts[0]
    counts = present[y : y + lengths.sum(), x : x + columns.length().sum()]
    for axis, steps in enumerate((lengths, columns.length())):
        starts = np.cumsum(steps) - steps
        counts = np.add.reduceat(counts, starts, axis=axis, dtype=np.int64)
    pixels = np.outer(lengths, columns.length())
    return pixels - counts < max_nodata * pixels


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


class MapRow(NamedTuple):
    """A row of map cells whose windows are all classified.

    Attributes:
        row: Position of the row.
        probabilities: Mean probabilities, float64, shape (cell columns, K).
        mapped: Whether each cell has enough pixels and a window: bool, shape (cell
            columns,).
    """

    row: int
    probabilities: NDArray[np.float64]
    mapped: NDArray[np.bool_]


class PanelAverage:
    """Mean probabilities of the cells of a panel.

    The probability of a cell is the mean over all windows that cover it, apart from
    those for which the classifier returns numbers that are not finite. Windows without
    a cell that is to be mapped are not classified.

    Attributes:
        classified: Number of windows that were classified.
        lost: Number of these for which the numbers are not finite.
    """

    def __init__(
        self,
        predictor: Predictor,
        rows: WindowAxis,
        columns: WindowAxis,
        batch_size: int,
    ) -> None:
        """Initialize a new PanelAverage instance.

        Args:
            predictor: The classifier.
            rows: All rows of windows.
            columns: Columns of windows of the panel.
            batch_size: Number of windows classified at a time.
        """
        self._predictor = predictor
        self._rows = rows
        self._columns = columns
        self._batch_size = batch_size
        self._coverage = rows.coverage(), columns.coverage()
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._lost: dict[int, NDArray[np.float64]] = {}
        self._mapped: dict[int, NDArray[np.bool_]] = {}
        self.classified = 0
        self.lost = 0

    def add(self, strip: Strip) -> Iterator[MapRow]:
        """Classify the windows of the next strip.

        Args:
            strip: Strips follow each other from the top of the scene to its bottom.

        Yields:
            Rows of cells that no later window covers, if a cell is to be mapped.
        """
        rows = self._rows
        needed = _needed(strip, self._columns)
        probabilities = self._classify(strip, needed)
        # in sums along a row, one number that is not finite would spoil all after it
        lost = ~np.isfinite(probabilities).all(axis=2)
        probabilities[lost] = 0
        self.lost += int(lost.sum())
        for i in np.flatnonzero(needed.any(axis=1)).tolist():
            spread = self._columns.spread(probabilities[i])
            without = self._columns.spread(lost[i, :, np.newaxis].astype(np.float64))
            for row in range(rows.first[strip.begin + i], rows.stop[strip.begin + i]):
                self._sums[row] = self._sums.get(row, 0) + spread
                self._lost[row] = self._lost.get(row, 0) + without[:, 0]
        self._mapped |= dict(enumerate(strip.mapped, strip.first_cell))
        last = strip.end == len(rows.starts)
        complete = rows.cells if last else int(rows.first[strip.end])
        for row in sorted(row for row in self._mapped if row < complete):
            mapped, sums = self._mapped.pop(row), self._sums.pop(row, None)
            without = self._lost.pop(row, 0)
            if sums is not None and mapped.any():
                windows = self._coverage[0][row] * self._coverage[1] - without
                mean = sums / np.maximum(windows, 1)[:, np.newaxis]
                yield MapRow(row, mean, mapped & (windows > 0))

    def _classify(self, strip: Strip, needed: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return probabilities (rows, columns, K), 0 for unneeded windows."""
        classes = len(self._predictor.metadata.classes)
        probabilities = np.zeros((*needed.shape, classes), np.float32)
        positions = np.argwhere(needed)
        for start in range(0, len(positions), self._batch_size):
            batch = positions[start : start + self._batch_size]
            images = _cut(strip, self._columns, batch)
            probabilities[tuple(batch.T)] = self._predictor.probabilities(images)
        self.classified += len(positions)
        return probabilities


def _needed(strip: Strip, columns: WindowAxis) -> NDArray[np.bool_]:
    """Return which windows cover a cell to be mapped, shape (rows, columns)."""
    chosen = slice(strip.begin, strip.end)
    # cells above and left of a corner: four corners give the number between them
    sums = np.pad(strip.mapped, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    above = sums[strip.rows.first[chosen] - strip.first_cell]
    below = sums[strip.rows.stop[chosen] - strip.first_cell]
    inside = below - above
    return inside[:, columns.stop] > inside[:, columns.first]


def _cut(
    strip: Strip, columns: WindowAxis, chosen: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Copy windows from a strip, shape (N, bands, height, width)."""
    size = (strip.rows.tile, columns.tile)
    views = np.lib.stride_tricks.sliding_window_view(strip.image, size, axis=(1, 2))
    top = strip.rows.starts[strip.begin]
    y = strip.rows.starts[strip.begin + chosen[:, 0]] - top
    x = columns.starts[chosen[:, 1]] - columns.starts[0]
    return views.transpose(1, 2, 0, 3, 4)[y, x]
