# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from torchgeo_discomkd.rasters import ahead
from torchgeo_discomkd.rasters.ahead import batch_tiles, read_ahead
from torchgeo_discomkd.rasters.sources import Source
from torchgeo_discomkd.rasters.tiles import Tile, TileSpec

SPEC = TileSpec(('VV', 'VH'), 'dB', None)


class Files:
    """Tiles that are counted when they are asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self.sources = []
        self.asked = 0
        for i in range(count):
            np.save(folder / f'{i}.npy', np.full((2, 4, 4), -i - 2.0, np.float32))
            self.sources.append(Source((str(folder / f'{i}.npy'),)))

    def __iter__(self) -> Iterator[Source]:
        for source in self.sources:
            self.asked += 1
            yield source


def value(tile: Tile) -> float:
    assert tile.windows is not None
    return float(-tile.windows[0, 0, 0, 0] - 2)


@pytest.mark.parametrize('workers', [1, 4])
def test_order(tmp_path: Path, workers: int) -> None:
    files = Files(tmp_path, 30)
    with ThreadPoolExecutor(workers) as pool:
        tiles = list(read_ahead(pool, files, SPEC, 8, 2))
    assert [value(tile) for tile in tiles] == list(range(30))


@pytest.mark.parametrize(('room', 'expected'), [(2**26, 8), (5 * 32, 5), (1, 2)])
def test_few_tiles_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, expected: int
) -> None:
    monkeypatch.setattr(ahead, 'MAX_VALUES', room)
    files = Files(tmp_path, 30)
    with ThreadPoolExecutor(2) as pool:
        tiles = read_ahead(pool, files, SPEC, 8, 2)
        waiting = []
        for number in range(1, 21):
            next(tiles)
            waiting.append(files.asked - number)
    # the one that was taken is replaced when the next one is asked for
    assert waiting[0] == 1
    assert set(waiting[1:]) == {expected - 1}


def tile(windows: int, values: int = 1) -> Tile:
    if not windows:
        return Tile(Source(('a',)), 'nodata')
    return Tile(Source(('a',)), 'ok', np.zeros((windows, 1, 1, values), np.float32))


def sizes(counts: list[int], values: int = 1) -> list[list[int]]:
    batches = batch_tiles((tile(count, values) for count in counts), 4)
    return [
        [0 if t.windows is None else len(t.windows) for t in batch] for batch in batches
    ]


def test_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes([]) == []
    assert sizes([1] * 9) == [[1] * 4, [1] * 4, [1]]
    assert sizes([0] * 5) == [[0] * 4, [0]]
    assert sizes([3, 3, 9, 1]) == [[3, 3], [9], [1]]
    monkeypatch.setattr(ahead, 'MAX_VALUES', 20)
    assert sizes([1] * 5, values=10) == [[1, 1], [1, 1], [1]]
