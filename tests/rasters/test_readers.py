# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from tests.fakes import write_tile
from torchgeo_discomkd.errors import BandError, CorruptFileError
from torchgeo_discomkd.rasters.readers import read_georeference, read_header, read_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (3, 16, 12), dtype=np.uint8)


@pytest.mark.parametrize('suffix', ['.tif', '.TIFF', '.png', '.npy'])
def test_lossless_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    write_tile(path, COLOUR)
    image = read_image(path)
    assert image.dtype == np.float32
    assert np.array_equal(image, COLOUR)
    assert np.array_equal(read_image(path, [2, 0]), COLOUR[[2, 0]])
    assert read_header(path) == (None, 3, 16, 12, np.uint8)
    assert read_georeference(path) is None


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG'])
def test_jpeg(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    write_tile(path, np.full((3, 16, 16), 77, np.uint8))
    assert np.allclose(read_image(path), 77, atol=2)


def test_negative_db_are_not_rounded(tmp_path: Path) -> None:
    array = np.array([[[-17.25, -0.5]]], np.float32)
    write_tile(tmp_path / 'a.tif', array)
    assert np.array_equal(read_image(tmp_path / 'a.tif'), array)


def test_array_of_two_axes_is_one_band(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.npy', np.array([[1, 2, 3]]))
    assert read_image(tmp_path / 'a.npy').shape == (1, 1, 3)
    assert read_header(tmp_path / 'a.npy') == (None, 1, 1, 3, np.int64)


def test_georeference_and_names(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_tile(path, COLOUR[:2], crs='EPSG:32631', descriptions=['VV', 'VH'])
    found = read_georeference(path)
    assert found is not None
    crs, transform = found
    assert crs.to_epsg() == 32631
    assert tuple(transform)[:6] == (10, 0, 500000, 0, -10, 4000000)
    assert read_header(path).descriptions == ('VV', 'VH')
    write_tile(path, COLOUR[:2], descriptions=['VV', 'VV'])
    assert read_header(path).descriptions == ('VV', 'VV')


def test_nodata_and_infinite_become_nan(tmp_path: Path) -> None:
    array = np.array([[[1, -9999, np.inf], [np.nan, -np.inf, 2]]], np.float32)
    missing = np.array([[[0, 1, 1], [1, 1, 0]]], bool)
    write_tile(tmp_path / 'a.tif', array, nodata=-9999)
    image = read_image(tmp_path / 'a.tif')
    assert np.array_equal(np.isnan(image), missing)
    assert image[0, 1, 2] == 2
    write_tile(tmp_path / 'b.tif', np.array([[[0, 7]]], np.uint16), nodata=0)
    assert np.array_equal(
        read_image(tmp_path / 'b.tif'), [[[np.nan, 7]]], equal_nan=True
    )
    write_tile(tmp_path / 'c.npy', np.array([[1e39, np.inf, 1.0]]))
    assert np.isnan(read_image(tmp_path / 'c.npy')).tolist() == [[[True, True, False]]]


def test_internal_mask_becomes_nan(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_tile(path, COLOUR, crs='EPSG:32631')
    mask = np.ones((16, 12), bool)
    mask[3, 4] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, 'r+') as file:
        file.write_mask(mask)
    assert np.isnan(read_image(path)).sum() == 3
    assert np.isnan(read_image(path)[:, 3, 4]).all()


@pytest.mark.parametrize('suffix', ['.tif', '.png', '.jpg', '.npy'])
@pytest.mark.parametrize('part', [0, 0.02, 0.5, 0.95])
def test_truncated_file(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f'a{suffix}'
    write_tile(path, RNG.integers(0, 255, (3, 64, 64), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CorruptFileError, match=rf'{path} cannot be read as an'):
        read_image(path)


@pytest.mark.parametrize('read', [read_image, read_header, read_georeference])
def test_no_image(tmp_path: Path, read: object) -> None:
    path = tmp_path / 'a.tif'
    path.write_text('hello')
    with pytest.raises(CorruptFileError, match='not recognized as being in a support'):
        read(path)


def test_reason_is_that_of_gdal(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_tile(path, RNG.integers(0, 255, (3, 64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CorruptFileError, match='Read error at scanline'):
        read_image(path)


@pytest.mark.parametrize(
    'array', [np.zeros((2, 2, 2, 2)), np.zeros((1, 0, 2)), np.array([['a']])]
)
def test_array_that_is_no_image(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(CorruptFileError, match='an image must be an array of numbers'):
        read_image(tmp_path / 'a.npy')


def test_arrays_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.array([{}]), allow_pickle=True)
    with pytest.raises(CorruptFileError, match=r'a\.npy cannot be read as an array'):
        read_image(tmp_path / 'a.npy')


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
def test_complex_values(tmp_path: Path, suffix: str) -> None:
    write_tile(tmp_path / f'a{suffix}', np.ones((1, 2, 2), np.complex64))
    with pytest.raises(BandError, match='holds complex values'):
        read_image(tmp_path / f'a{suffix}')


def test_colour_palette(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_tile(path, COLOUR[:1], crs='EPSG:32631')
    with rasterio.open(path, 'r+') as file:
        file.write_colormap(1, {0: (255, 0, 0, 255)})
    with pytest.raises(BandError, match='colour palette'):
        read_image(path)


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
def test_wrong_number_of_bands(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    write_tile(path, COLOUR)
    with pytest.raises(BandError, match=rf'{path} has 3 bands, but 2 .*VV, VH'):
        read_image(path, expected=['VV', 'VH'])
    with pytest.raises(BandError, match=r'at positions 0 to 2, but \[1, 3\]'):
        read_image(path, [1, 3])


def test_order_of_named_bands(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', COLOUR[:2], descriptions=['VH', 'VV'])
    with pytest.raises(BandError, match='in the order VH, VV, not VV, VH'):
        read_image(tmp_path / 'a.tif', expected=['VV', 'VH'])
    assert len(read_image(tmp_path / 'a.tif', expected=['B1', 'B2'])) == 2


def test_threads_see_no_warning(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.png', COLOUR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        threads = [
            threading.Thread(
                target=lambda: [read_image(tmp_path / 'a.png') for _ in range(50)]
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        warnings.warn('still here', NotGeoreferencedWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ['still here']


def test_real_eurosat_tile(real_data: Path) -> None:
    path = next((real_data / 'eurosat_ms' / 'SeaLake').iterdir())
    assert read_image(path).shape == (13, 64, 64)
    found = read_georeference(path)
    assert found is not None
    assert found[0].is_projected
    assert found[1].a == pytest.approx(10, abs=0.1)
