# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read tiles ahead of the classifier, in order, without filling the memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future

from .sources import Source
from .tiles import Tile, TileSpec, read_tile

#: The most pixel values that wait for the classifier: 256 MiB of float32.
MAX_VALUES = 2**26


def read_ahead(
    pool: Executor, sources: Iterable[Source], spec: TileSpec, most: int, least: int
) -> Iterator[Tile]:
    """Read tiles with several threads.

    Args:
        pool: What reads.
        sources: The tiles.
        spec: What the classifier needs of them.
        most: How many tiles may be read ahead.
        least: How many are in any case; fewer than *most* if they are large.

    Yields:
        The tiles in the order of *sources*.
    """
    waiting: deque[Future[Tile]] = deque()
    iterator = iter(sources)
    ahead = least
    while True:
        while len(waiting) < ahead and (source := next(iterator, None)) is not None:
            waiting.append(pool.submit(read_tile, source, spec))
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
        size: A batch ends when it has so many tiles or windows.

    Yields:
        Batches, smaller ones if the tiles are large.
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
