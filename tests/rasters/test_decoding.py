# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from tests.classify.scene.scenes import UTM
from torchgeo_discomkd.classify.scene.ground_control import warp_to_grid
from torchgeo_discomkd.errors import CorruptFileError
from torchgeo_discomkd.rasters import read_image
from torchgeo_discomkd.rasters.decoding import (
    alpha_bands,
    has_mask,
    is_value,
    missing_to_nan,
    read_bands,
    scaling,
)
from torchgeo_discomkd.rasters.pixel_size import resampled

from .masked import SIZE, WAYS, write_masked

#: All ways and all pairs and triples of them that GDAL lets a file have: an alpha band
#: and a mask file once, and a mask file hides NODATA_VALUES from it.
EXCLUSIVE = [{'inside', 'msk', 'NODATA_VALUES'}, {'alpha0', 'alpha1', 'alpha2'}]
COMBINATIONS = [
    ways
    for number in (1, 2, 3)
    for ways in combinations(WAYS, number)
    if all(len(group & {*ways}) <= 1 for group in EXCLUSIVE)
]
#: Those of which warping keeps only one.
LOST = [
    ways
    for ways in COMBINATIONS
    if len(ways) > 1 and {'inside', 'msk', 'NODATA_VALUES'} & {*ways}
]
WARPED = [ways for ways in COMBINATIONS if ways not in LOST]
NUMBERS = np.array([[[-2000, -1234, 17, -32768]], [[-1500, 0, -32768, 5]]], np.int16)


def with_nan(
    values: NDArray[np.float64], missing: NDArray[np.bool_]
) -> NDArray[np.float64]:
    return np.where(missing, np.nan, values)


def same(image: NDArray[np.float32], expected: NDArray[np.float64]) -> bool:
    return image.dtype == np.float32 and np.array_equal(
        image, expected.astype(np.float32), equal_nan=True
    )


@pytest.mark.parametrize('dtype', ['uint8', 'int16', 'uint16', 'float32'])
@pytest.mark.parametrize('ways', COMBINATIONS, ids='-'.join)
def test_every_mask(tmp_path: Path, ways: tuple[str, ...], dtype: str) -> None:
    path = tmp_path / 'a.tif'
    bands, numbers, missing = write_masked(path, ways, dtype)
    expected = with_nan(numbers, missing)
    with rasterio.open(path) as file:
        assert same(read_bands(file, bands), expected)
        assert same(read_bands(file, bands[::-1]), expected[::-1])
        window = Window(1, 2, 5, 4)
        assert same(read_bands(file, bands, window), expected[:, 2:6, 1:6])


@pytest.mark.parametrize('dtype', ['int16', 'float32'])
@pytest.mark.parametrize('ways', WARPED, ids='-'.join)
def test_every_mask_at_another_pixel_size(
    tmp_path: Path, ways: tuple[str, ...], dtype: str
) -> None:
    path = tmp_path / 'a.tif'
    bands, numbers, missing = write_masked(path, ways, dtype)
    blocks = with_nan(numbers, missing).reshape(2, SIZE // 2, 2, SIZE // 2, 2)
    with rasterio.open(path) as file, resampled(file, 20.0) as larger:
        image = read_bands(larger, bands)
    expected = blocks.mean(axis=(2, 4))
    assert np.array_equal(np.isnan(image), np.isnan(expected))
    # integers are rounded
    assert np.allclose(image, expected, atol=0.51, rtol=0, equal_nan=True)


@pytest.mark.parametrize('ways', WARPED, ids='-'.join)
def test_every_mask_with_ground_control_points(
    tmp_path: Path, ways: tuple[str, ...]
) -> None:
    corners = [(0, 0), (0, SIZE), (SIZE, 0), (SIZE, SIZE)]
    points = [GroundControlPoint(r, c, *(UTM @ (c, r))) for r, c in corners]
    path = tmp_path / 'a.tif'
    place = {'transform': None, 'gcps': points}
    bands, numbers, missing = write_masked(path, ways, 'float32', **place)
    with rasterio.open(path) as file, warp_to_grid(file, str(path)) as warped:
        assert same(read_bands(warped, bands), with_nan(numbers, missing))


@pytest.mark.parametrize('ways', LOST, ids='-'.join)
def test_masks_that_warping_would_lose(tmp_path: Path, ways: tuple[str, ...]) -> None:
    path = tmp_path / 'a.tif'
    write_masked(path, ways, 'float32')
    other = 'a nodata value' if 'nodata' in ways else 'an alpha band'
    refused = pytest.raises(
        CorruptFileError, match=f'a.tif .*both by a mask and by {other}'
    )
    with rasterio.open(path) as file, refused, resampled(file, 20.0):
        pass
    with rasterio.open(path) as file, refused:
        warp_to_grid(file, str(path))
    with rasterio.open(path) as file, resampled(file, 10.0) as same_size:
        assert same_size is file


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_second_band_that_is_called_alpha(tmp_path: Path, dtype: str) -> None:
    numbers = np.array([[[50, 60]], [[40, 0]]], dtype)
    path = tmp_path / 'a.tif'
    shape = {'count': 2, 'height': 1, 'width': 2, 'dtype': dtype}
    place = {'crs': 'EPSG:32633', 'transform': UTM}
    with rasterio.open(path, 'w', 'GTiff', **shape, **place) as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        file.write(numbers)
    with rasterio.open(path) as file:
        assert alpha_bands(file) == [1]
        assert not has_mask(file)
        # measured values if it is asked for, otherwise a mask
        assert same(read_bands(file, [0, 1]), numbers.astype(np.float64))
        assert same(read_bands(file, [0]), np.array([[[50, np.nan]]]))


def write_numbers(path: Path, numbers: NDArray[np.generic], **profile: object) -> None:
    count, height, width = numbers.shape
    shape = {'count': count, 'height': height, 'width': width, 'dtype': numbers.dtype}
    place = {'crs': 'EPSG:32633', 'transform': UTM}
    with rasterio.open(path, 'w', 'GTiff', **shape, **place, **profile) as file:
        file.write(numbers)


@pytest.mark.parametrize('dtype', ['int16', 'float32'])
@pytest.mark.parametrize('declared', [True, False])
def test_scale_and_offset_of_each_band(
    tmp_path: Path, dtype: str, declared: bool
) -> None:
    path = tmp_path / 'a.tif'
    nodata = {'nodata': -32768} if declared else {}
    write_numbers(path, NUMBERS.astype(dtype), **nodata)
    with rasterio.open(path, 'r+') as file:
        file.scales, file.offsets = (0.01, 1.0), (-3.5, 20.0)
    scale, offset = np.array([[[0.01]], [[1.0]]]), np.array([[[-3.5]], [[20.0]]])
    expected = with_nan(NUMBERS * scale + offset, NUMBERS == -32768)
    with rasterio.open(path) as file:
        assert scaling(file, 0) == (0.01, -3.5)
        assert scaling(file, 1) == (1.0, 20.0)
        # a number in the file, not a value
        stated = None if declared else -32768
        assert same(read_bands(file, [0, 1], nodata=stated), expected)
        assert same(read_bands(file, [1, 0], nodata=stated), expected[::-1])


@pytest.mark.parametrize(('scale', 'offset'), [(0, -10), (np.nan, 0), (1, np.inf)])
def test_scale_that_leaves_nothing(tmp_path: Path, scale: float, offset: float) -> None:
    path = tmp_path / 'a.tif'
    write_numbers(path, NUMBERS.astype('float32'))
    with rasterio.open(path, 'r+') as file:
        file.scales, file.offsets = (1.0, scale), (0.0, offset)
    with pytest.raises(CorruptFileError, match=r'a\.tif declares scale .* for band 2,'):
        read_image(path)


def test_scale_at_another_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    numbers = np.repeat(np.repeat(NUMBERS, 2, axis=1), 2, axis=2)
    write_numbers(path, numbers, nodata=-32768)
    with rasterio.open(path, 'r+') as file:
        file.scales, file.offsets = (0.01, 0.1), (0.0, 1.0)
    expected = with_nan(
        NUMBERS * np.array([[[0.01]], [[0.1]]]) + [[[0]], [[1]]], NUMBERS == -32768
    )
    with rasterio.open(path) as file, resampled(file, 20.0) as larger:
        assert same(read_bands(larger, [0, 1]), expected)


def test_declared_and_stated_nodata(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_numbers(path, NUMBERS, nodata=17)
    expected = with_nan(NUMBERS.astype(float), (NUMBERS == 17) | (NUMBERS == -32768))
    with rasterio.open(path) as file:
        assert same(read_bands(file, [0, 1], nodata=-32768), expected)


def test_nodata_that_is_not_a_number(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    values = np.array([[[1.5, np.nan, np.inf, -np.inf, -9999]]], np.float32)
    write_numbers(path, values, nodata=np.nan)
    with rasterio.open(path) as file:
        image = read_bands(file, [0])
        assert np.isnan(image).tolist() == [[[False, True, True, True, False]]]
        image = read_bands(file, [0], nodata=-9999)
        assert np.isnan(image).tolist() == [[[False, True, True, True, True]]]


@pytest.mark.parametrize(
    ('numbers', 'value', 'found'),
    [
        (np.array([0.1, 0.2], np.float32), 0.1, [True, False]),
        # what GDAL writes for the lowest float32
        (
            np.array([-3.4028235e38, 1], np.float32),
            -3.4028234663852886e38,
            [True, False],
        ),
        (np.array([-9999, 3], np.int16), -9999.0, [True, False]),
        (np.array([3, 4], np.uint8), -9999, [False, False]),
        (np.array([3, 4], np.int16), 3.5, [False, False]),
        (np.array([1, 2], np.float32), 1e300, [False, False]),
    ],
)
def test_is_value(
    numbers: NDArray[np.generic], value: float, found: list[bool]
) -> None:
    assert is_value(numbers, value).tolist() == found


def test_arrays(tmp_path: Path) -> None:
    array = np.array([[[1, -9999, np.inf, np.nan, 1e39]]])
    found = missing_to_nan(array, -9999)
    assert np.array_equal(found, [[[1, *[np.nan] * 4]]], equal_nan=True)
    assert array[0, 0, 1] == -9999
    assert np.array_equal(missing_to_nan(array), [[[1, -9999, *[np.nan] * 3]]], True)
