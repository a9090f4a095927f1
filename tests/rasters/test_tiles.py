# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from tests.fakes import write_tile
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.rasters import tiles
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.rasters.scale import Scale
from torchgeo_discomkd.rasters.tiles import (
    Tile,
    TileSpec,
    batch_tiles,
    read_ahead,
    read_tile,
)

from .test_unusual import PROFILE

RNG = np.random.default_rng(0)
SPEC = TileSpec(bands=('VV', 'VH'), unit='dB', size=(8, 8))
COARSE = replace(PROFILE, pixel_size=20.0)
DB = RNG.normal([[[-11]], [[-18]]], 1, (2, 8, 8)).astype(np.float32)


def read(path: Path | str, spec: TileSpec = SPEC) -> Tile:
    return read_tile(ImageFiles((str(path),)), spec)


def windows(tile: Tile) -> NDArray[np.float32]:
    assert tile.windows is not None
    assert tile.windows.dtype == np.float32
    return tile.windows


@pytest.mark.parametrize(
    'header',
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8, (), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8, 8L",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9e99, 8, 8)}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({9**50},)}}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -8, 8)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 8, 8)}",
    ],
)
def test_headers_that_no_reader_expects(tmp_path: Path, header: str) -> None:
    path, text = tmp_path / 'a.npy', header.encode()
    start = b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little')
    path.write_bytes(start + text + bytes(512))
    tile = read(path)
    assert tile.windows is None
    assert tile.status.startswith(f'unreadable: {path} cannot be read as an array')


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ({'max_nodata': 0}, 'max_nodata=0'),
        ({'max_nodata': 1.5}, 'max_nodata=1.5'),
        ({'scale': 'dB'}, "scale='dB'"),
        ({'scale': 'db', 'unit': 'DN'}, "scale='db'.*'DN'"),
    ],
)
def test_wrong_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        replace(SPEC, **setting)


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
def test_good_tile(tmp_path: Path, suffix: str) -> None:
    write_tile(tmp_path / f'a{suffix}', DB)
    tile = read(tmp_path / f'a{suffix}')
    assert tile.status == 'ok'
    assert tile.footprint is None
    assert not tile.named
    assert np.array_equal(windows(tile), DB[None])


def test_footprint_in_the_crs_of_the_spec(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', DB, crs='EPSG:32631')
    tile = read(tmp_path / 'a.tif', replace(SPEC, crs='EPSG:32631'))
    assert tile.footprint is not None
    assert tile.footprint.equals(shapely.box(5e5, 4e6 - 80, 5e5 + 80, 4e6))
    tile = read(tmp_path / 'a.tif')
    assert tile.footprint is not None
    assert tile.footprint.bounds[0] == pytest.approx(3)


@pytest.mark.parametrize('flip', [1, -1])
def test_identity_transform_has_no_footprint(tmp_path: Path, flip: int) -> None:
    write_tile(tmp_path / 'a.tif', DB, crs='EPSG:32631')
    warns = pytest.warns(NotGeoreferencedWarning)
    with rasterio.open(tmp_path / 'a.tif', 'r+') as file, warns:
        file.transform = Affine.scale(1, flip)
    tile = read(tmp_path / 'a.tif')
    assert tile.status == 'ok'
    assert tile.footprint is None


def test_bands_by_name_and_by_hand(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', DB[::-1], descriptions=['VH', 'VV'])
    tile = read(tmp_path / 'a.tif')
    assert tile.named
    assert np.array_equal(windows(tile), DB[None])
    write_tile(tmp_path / 'b.tif', DB[::-1])
    tile = read(tmp_path / 'b.tif', replace(SPEC, override=('2', '1')))
    assert tile.named
    assert np.array_equal(windows(tile), DB[None])
    np.save(tmp_path / 'c.npy', DB[::-1])
    tile = read(tmp_path / 'c.npy', replace(SPEC, override=('2', '1')))
    assert np.array_equal(windows(tile), DB[None])


def test_one_file_for_each_band(tmp_path: Path) -> None:
    vv, vh = tmp_path / 'VV.tif', tmp_path / 'VH.tif'
    write_tile(vv, DB[:1], crs='EPSG:32631')
    write_tile(vh, DB[1:], crs='EPSG:32631')
    source = ImageFiles((str(vv), str(vh)))
    tile = read_tile(source, SPEC)
    assert tile.status == 'ok'
    assert tile.named
    assert tile.footprint is not None
    assert np.array_equal(windows(tile), DB[None])
    tile = read_tile(source, replace(SPEC, override=('2', '1')))
    assert tile.status.startswith('bands: bands=2,1 selects from one file')
    write_tile(vh, DB[1:, :4], crs='EPSG:32631')
    tile = read_tile(source, SPEC)
    assert tile.status.startswith(f'bands: {vv};{vh} differ in size')
    write_tile(vh, DB, crs='EPSG:32631')
    assert read_tile(source, SPEC).status.startswith('bands: The file has 2 bands')


def test_bands_that_are_only_numbered(tmp_path: Path) -> None:
    spec = replace(SPEC, bands=('B1', 'B2'), unit='')
    write_tile(tmp_path / 'a.tif', DB, descriptions=['B02', 'B01'])
    assert read(tmp_path / 'a.tif', spec).status.startswith('bands: The file has 2')
    write_tile(tmp_path / 'a.tif', DB, descriptions=['B04', 'B08'])
    tile = read(tmp_path / 'a.tif', spec)
    assert tile.reading is not None
    assert 'bands by order' in tile.reading
    assert np.array_equal(windows(tile), DB[None])
    paths = tmp_path / 'b.tif', tmp_path / 'c.tif'
    for path, band, name in zip(paths, DB, ['B04', 'B08'], strict=True):
        write_tile(path, band[None], descriptions=[name])
    tile = read_tile(ImageFiles(tuple(map(str, paths))), spec)
    assert np.array_equal(windows(tile), DB[None])
    # of bands that have names, even the one called B1
    tile = read_tile(
        ImageFiles(tuple(map(str, paths))), replace(spec, bands=('B1', 'B8'))
    )
    assert tile.status.startswith('bands: The file has 1 band (B04)')


def test_files_of_other_places(tmp_path: Path) -> None:
    for name, east in (('VV.tif', 5e5), ('VH.tif', 6e5)):
        write_tile(tmp_path / name, DB[:1], crs='EPSG:32631')
        with rasterio.open(tmp_path / name, 'r+') as file:
            file.transform = from_origin(east, 4e6, 10, 10)
    source = ImageFiles((str(tmp_path / 'VV.tif'), str(tmp_path / 'VH.tif')))
    assert 'differ in size, transform or CRS' in read_tile(source, SPEC).status


def test_linear_power(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', 10 ** (DB / 10))
    assert np.allclose(windows(read(tmp_path / 'a.tif')), DB[None], atol=1e-4)
    tile = read(tmp_path / 'a.tif', replace(SPEC, scale='db'))
    assert tile.status.startswith('unit: The tile is said to be in dB')
    assert tile.windows is None


def test_integer_sar(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', RNG.integers(5, 900, (2, 8, 8), np.uint16))
    assert 'digital numbers: calibrate' in read(tmp_path / 'a.tif').status
    write_tile(tmp_path / 'b.tif', np.round(DB).astype(np.int16))
    tile = read(tmp_path / 'b.tif')
    assert tile.status == 'ok'
    assert np.array_equal(windows(tile)[0], np.round(DB))


def test_missing_pixels(tmp_path: Path) -> None:
    array = DB.copy()
    array[:, 0, :4] = -9999
    array[0, 1, 1], array[1, 2, 2] = np.nan, np.inf
    write_tile(tmp_path / 'a.tif', array, nodata=-9999)
    tile = read(tmp_path / 'a.tif')
    assert tile.status == 'ok'
    expected = array.copy()
    expected[:, 0, :4] = expected[1, 2, 2] = np.nan
    assert np.array_equal(windows(tile)[0], expected, equal_nan=True)
    # 6 of 64 pixels lack a band
    assert read(tmp_path / 'a.tif', replace(SPEC, max_nodata=0.094)).status == 'ok'
    assert read(tmp_path / 'a.tif', replace(SPEC, max_nodata=0.09)).status == 'nodata'


@pytest.mark.parametrize(
    ('fill', 'unit'), [(-9999, 'dB'), (31, 'dB'), (-9999, 'linear')]
)
def test_few_impossible_values_are_missing(
    tmp_path: Path, fill: float, unit: str
) -> None:
    spec = replace(SPEC, size=None, unit=unit)
    array = RNG.normal([[[-11]], [[-18]]], 1, (2, 32, 32)).astype(np.float32)
    array[1, 4:7, 5:8] = np.nan
    write_tile(tmp_path / 'honest.tif', array)
    write_tile(
        tmp_path / 'fill.tif', np.where(np.isnan(array), np.float32(fill), array)
    )
    honest, found = (read(tmp_path / f'{n}.tif', spec) for n in ('honest', 'fill'))
    assert found.status == honest.status == 'ok'
    assert np.array_equal(windows(found), windows(honest), equal_nan=True)
    note = '0.88 % of VH are outside -60 to 30 dB and count as missing'
    assert found.reading == f'{honest.reading}; {note}'


@pytest.mark.parametrize('fill', [-9999, np.nan])
def test_nothing_but_nodata(tmp_path: Path, fill: float) -> None:
    array = np.full((2, 8, 8), fill, np.float32)
    write_tile(tmp_path / 'a.tif', array, nodata=-9999, crs='EPSG:32631')
    tile = read(tmp_path / 'a.tif')
    assert tile.status == 'nodata'
    assert tile.windows is None
    assert tile.footprint is not None


def test_zeros_have_no_db(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', np.zeros((2, 8, 8), np.float32))
    assert read(tmp_path / 'a.tif').status == 'nodata'


@pytest.mark.parametrize(
    ('unit', 'scale', 'darkest'),
    [
        # the mean of three parts of nothing and one of -11 dB is no measurement
        ('linear', 'auto', -12),
        ('linear', 'linear', -12),
        ('amplitude', 'amplitude', -12),
        # 0 dB is a value, and so is 0 in a classifier that takes power
        ('dB', 'auto', None),
        ('linear classifier', 'auto', None),
    ],
)
def test_zeros_are_left_out_when_pixels_become_larger(
    tmp_path: Path, unit: str, scale: Scale, darkest: float | None
) -> None:
    values = np.full((2, 80, 80), -11, np.float32) + RNG.normal(0, 0.1, (2, 80, 80))
    encoded = {'dB': values, 'amplitude': 10 ** (values / 20)}
    array = encoded.get(unit, 10 ** (values / 10)).astype(np.float32)
    array[:, :41, :41] = 0
    write_tile(tmp_path / 'a.tif', array, crs='EPSG:32631')
    spec = replace(SPEC, size=None, scale=scale, profile=COARSE, resample=True)
    if unit == 'linear classifier':
        spec = replace(spec, unit='linear')
    image = windows(read(tmp_path / 'a.tif', spec))[0]
    assert image.shape == (2, 40, 40)
    if darkest is None:
        assert not np.isnan(image).any()
    else:
        assert np.isnan(image[:, :20, :20]).all()
        assert np.isnan(image).sum() == 2 * 20 * 20
        assert np.nanmin(image) > darkest


@pytest.mark.parametrize('missing', [-9999, np.nan])
def test_zeros_next_to_missing_pixels(tmp_path: Path, missing: float) -> None:
    array = np.full((2, 80, 80), 0.1, np.float32) + RNG.normal(0, 0.001, (2, 80, 80))
    array = array.astype(np.float32)
    array[:, :41] = 0
    array[:, 60:] = missing
    spec = replace(SPEC, size=None, profile=COARSE, resample=True)
    write_tile(tmp_path / 'a.tif', array, nodata=missing, crs='EPSG:32631')
    image = windows(read(tmp_path / 'a.tif', spec))[0]
    assert np.isnan(image[:, 30:]).all()
    assert np.isnan(image[:, :20]).all()
    assert not np.isnan(image[:, 20:30]).any()
    # with another number that is missing, zeros are part of the mean
    assert (image[:, 20] < -12).all() == (missing == -9999)
    assert (image[:, 21:30] > -11).all()


def test_one_band_is_missing_everywhere(tmp_path: Path) -> None:
    array = DB.copy()
    array[1] = np.nan
    write_tile(tmp_path / 'a.tif', array)
    assert read(tmp_path / 'a.tif').status == 'nodata'


def test_other_sizes(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', DB[:, :4])
    tile = read(tmp_path / 'a.tif')
    assert tile.status == 'mixed_size'
    assert np.isnan(windows(tile)[0, :, 4:]).all()
    tile = read(tmp_path / 'a.tif', replace(SPEC, size=None))
    assert tile.status == 'ok'
    assert windows(tile).shape == (1, 2, 4, 8)
    write_tile(tmp_path / 'b.tif', np.tile(DB, (1, 2, 2)))
    tile = read(tmp_path / 'b.tif')
    assert tile.status == 'mixed_size'
    assert np.array_equal(windows(tile), np.stack([DB] * 4))


def test_centre_without_data(tmp_path: Path) -> None:
    array = np.full((2, 10, 10), np.nan, np.float32)
    array[:, 0] = -10
    write_tile(tmp_path / 'a.tif', array)
    assert read(tmp_path / 'a.tif').status == 'nodata'


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
def test_bad_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    assert read(path).status.startswith(f'unreadable: {path} cannot be read')
    write_tile(path, RNG.normal(-12, 2, (2, 64, 64)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:9000])
    assert read(path).status.startswith(f'unreadable: {path} cannot be read')
    write_tile(path, DB[:1])
    assert read(path).status.startswith('bands: The file has 1 band, but')
    write_tile(path, np.ones((13, 8, 8), np.uint16))
    assert read(path).status.startswith('bands: The file has 13 bands, but')
    write_tile(path, DB.astype(np.complex64))
    assert 'complex values' in read(path).status
    write_tile(path, np.zeros((2, 2048, 2049), np.int8))
    assert read(path).status.startswith('too_large: The image has 2048 x 2049')


def test_status_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / 'a\nb.tif'
    assert '\n' not in read(path).status


def test_crs_that_proj_does_not_know(tmp_path: Path) -> None:
    local = 'LOCAL_CS["arbitrary",UNIT["metre",1]]'
    write_tile(tmp_path / 'a.tif', DB, crs=local)
    tile = read(tmp_path / 'a.tif')
    assert tile.status == 'ok'
    assert np.array_equal(windows(tile), DB[None])
    assert tile.footprint is None


def test_cloud_optimized_and_virtual(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', DB, crs='EPSG:32631')
    rasterio.shutil.copy(tmp_path / 'a.tif', tmp_path / 'cog.tif', driver='COG')
    assert np.array_equal(windows(read(tmp_path / 'cog.tif')), DB[None])
    content = (tmp_path / 'a.tif').read_bytes()
    with rasterio.MemoryFile(content, ext='.tif') as memory:
        assert np.array_equal(windows(read(memory.name)), DB[None])


#: The tiles of the tests below, 4 x 4 pixels each.
ANY_SIZE = replace(SPEC, size=None)


class Files:
    """Tiles that are counted when they are asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self.images = []
        self.asked = 0
        for i in range(count):
            np.save(folder / f'{i}.npy', np.full((2, 4, 4), -i - 2.0, np.float32))
            self.images.append(ImageFiles((str(folder / f'{i}.npy'),)))

    def __iter__(self) -> Iterator[ImageFiles]:
        for image in self.images:
            self.asked += 1
            yield image


def value(tile: Tile) -> float:
    assert tile.windows is not None
    return float(-tile.windows[0, 0, 0, 0] - 2)


@pytest.mark.parametrize('workers', [1, 4])
def test_order(tmp_path: Path, workers: int) -> None:
    files = Files(tmp_path, 30)
    with ThreadPoolExecutor(workers) as pool:
        tiles = list(read_ahead(pool, files, ANY_SIZE, 8, 2))
    assert [value(tile) for tile in tiles] == list(range(30))


@pytest.mark.parametrize(('room', 'expected'), [(2**26, 8), (5 * 32, 5), (1, 2)])
def test_few_tiles_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, expected: int
) -> None:
    monkeypatch.setattr(tiles, 'MAX_VALUES', room)
    files = Files(tmp_path, 30)
    with ThreadPoolExecutor(2) as pool:
        ahead = read_ahead(pool, files, ANY_SIZE, 8, 2)
        waiting = []
        for number in range(1, 21):
            next(ahead)
            waiting.append(files.asked - number)
    # the one that was taken is replaced when the next one is asked for
    assert waiting[0] == 1
    assert set(waiting[1:]) == {expected - 1}


def tile(windows: int, values: int = 1) -> Tile:
    if not windows:
        return Tile(ImageFiles(('a',)), 'nodata')
    return Tile(ImageFiles(('a',)), 'ok', np.zeros((windows, 1, 1, values), np.float32))


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
    monkeypatch.setattr(tiles, 'MAX_VALUES', 20)
    assert sizes([1] * 5, values=10) == [[1, 1], [1, 1], [1]]
