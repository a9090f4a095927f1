# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Sliding windows of a scene and the map cells that they cover."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one axis of a scene, and the map cells that they cover.

    A map cell is *stride* pixels long; the last one may reach beyond the scene. A
    window covers a cell if all the cell's pixels that lie in the scene are inside the
    window.

    Attributes:
        size: Number of pixels of the scene.
        tile: Number of pixels of a window.
        stride: Number of pixels of a map cell.
        starts: First pixel of each window, int64, ascending.
        first: First cell that each window covers, int64.
        stop: Cell after the last one that each window covers, int64.
        cells: Number of cells.
        offset: First pixel of cell 0.
    """

    size: int
    tile: int
    stride: int
    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    stop: NDArray[np.int64]
    cells: int
    offset: int = 0

    def coverage(self) -> NDArray[np.int64]:
        """Return how many windows cover each cell: int64, shape (cells,), positive."""
        return self.spread(np.ones((len(self.starts), 1))).astype(np.int64)[:, 0]

    def spread(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Add up what belongs to the windows in the cells that they cover.

        Args:
            values: One row per window, shape (windows, K).

        Returns:
            Sum over all windows that cover a cell, float64, shape (cells, K).
        """
        # the windows that cover one cell are neighbours: a difference of two sums
        sums = np.zeros((len(values) + 1, values.shape[1]))
        np.cumsum(values, axis=0, out=sums[1:])
        cells = np.arange(self.cells)
        begin = np.searchsorted(self.stop, cells, side='right')
        end = np.searchsorted(self.first, cells, side='right')
        return sums[end] - sums[begin]

    def part(self, begin: int, end: int) -> 'WindowAxis':
        """Return the windows that cover some of the cells, and these cells only.

        Args:
            begin: First cell.
            end: Cell after the last one.

        Returns:
            The same windows as far as they cover a cell; cell 0 is now *begin*.
        """
        chosen = (self.first < end) & (self.stop > begin)
        return replace(
            self,
            starts=self.starts[chosen],
            first=np.maximum(self.first[chosen], begin) - begin,
            stop=np.minimum(self.stop[chosen], end) - begin,
            cells=end - begin,
            offset=self.offset + begin * self.stride,
        )

    def length(self) -> NDArray[np.int64]:
        """Return how many pixels of the scene each cell has: int64, shape (cells,)."""
        begin = self.offset + np.arange(self.cells) * self.stride
        return np.minimum(begin + self.stride, self.size) - begin


def place_windows(size: int, tile: int, stride: int) -> WindowAxis:
    """Place windows so that each cell is covered and no window leaves the scene.

    Windows are one stride apart, their whole cells in their middle. At both ends they
    are shifted inwards: the classifier sees real pixels only. In a scene smaller than
    a window, the only window begins with the scene and reaches beyond its end.

    Args:
        size: Number of pixels of the scene, 1 or more.
        tile: Number of pixels of a window, 1 or more.
        stride: Number of pixels of a map cell, 1 to *tile*.

    Returns:
        The windows.
    """
    cells = -(-size // stride)
    if size <= tile:
        starts = np.zeros(1, np.int64)
    else:
        whole = tile // stride
        margin = (tile - whole * stride) // 2
        starts = np.arange(cells - whole + 1, dtype=np.int64) * stride - margin
        starts = np.unique(np.clip(starts, 0, size - tile))
    first = -(-starts // stride)
    stop = np.where(starts + tile >= size, cells, (starts + tile) // stride)
    return WindowAxis(size, tile, stride, starts, first, stop, cells)
