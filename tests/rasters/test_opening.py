# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from tests.fakes import write_tile
from torchgeo_discomkd.rasters.finding import find_images
from torchgeo_discomkd.rasters.opening import many_threads, open_raster
from torchgeo_discomkd.rasters.tiles import TileSpec, read_tile

DELAY = 0.1
DB = np.random.default_rng(0).normal(-12, 1, (2, 8, 8)).astype(np.float32)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """URL of a slow server that sends one tile under any name."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    write_tile(tmp_path / 'a.tif', DB)
    # a process of its own, so that this one is measured alone
    script = Path(__file__).with_name('slow_server.py')
    command = [sys.executable, script, tmp_path / 'a.tif', str(DELAY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f'http://127.0.0.1:{process.stdout.readline().strip()}'
        process.terminate()


def test_workers_read_from_a_slow_server_at_the_same_time(server: str) -> None:
    spec = TileSpec(('VV', 'VH'), 'dB', (8, 8))

    def read(name: str, workers: int) -> float:
        sources = find_images([f'{server}/{name}{i}.tif' for i in range(8)])
        since = time.monotonic()
        with many_threads(), ThreadPoolExecutor(workers) as pool:
            tiles = list(pool.map(lambda source: read_tile(source, spec), sources))
        assert [tile.status for tile in tiles] == ['ok'] * 8
        assert all(np.array_equal(tile.windows, DB[None]) for tile in tiles)
        return time.monotonic() - since

    alone = read('a', 1)
    assert alone > 8 * DELAY
    assert read('b', 8) < alone / 3


def test_missing_url(server: str) -> None:
    [source] = find_images([f'{server.rpartition(":")[0]}:1/a.tif'])
    status = read_tile(source, TileSpec(('VV', 'VH'), 'dB', None)).status
    assert status.startswith(f'unreadable: {source.name} cannot be read')


def test_filters_are_restored(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', DB)
    with many_threads(), rasterio.open(tmp_path / 'a.tif'):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(NotGeoreferencedWarning):
            rasterio.open(tmp_path / 'a.tif')


def test_a_name_that_is_not_utf8_keeps_its_sidecars(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', DB)
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b'/s1_VH_\xe9.tif'))
    (tmp_path / 'a.tif').rename(named)
    text = (
        '<PAMDataset><Metadata><MDI key="UNIT">dB</MDI></Metadata>'
        '<PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand>'
        '</PAMDataset>'
    )
    Path(f'{named}.aux.xml').write_text(text)
    with open_raster(named) as file:
        assert file.nodatavals[0] == 7
        assert Path(file.name).name == 's1_VH__.tif'
        assert np.array_equal(file.read(), DB)
    assert {path.suffix for path in tmp_path.iterdir()} == {'.tif', '.xml'}
