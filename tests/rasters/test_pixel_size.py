# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod
from rasterio import CRS

from tests.classify.scene.scenes import UTM
from torchgeo_discomkd.errors import CorruptFileError, SettingError
from torchgeo_discomkd.rasters.decoding import read_bands
from torchgeo_discomkd.rasters.pixel_size import pixel_size, resampled, same_size

from .masked import write_masked

WGS84, UTM_33 = CRS.from_epsg(4326), CRS.from_epsg(32633)


@pytest.mark.parametrize('latitude', [0.0, 37.5, -60.0, 84.0])
def test_degrees_at_a_latitude(latitude: float) -> None:
    east, north = 2e-4, 1e-4
    transform = Affine(east, 0, 10, 0, -north, latitude + 50 * north)
    geod = Geod(ellps='WGS84')
    _, _, width = geod.inv(10, latitude, 10 + east, latitude)
    _, _, height = geod.inv(10, latitude - north / 2, 10, latitude + north / 2)
    found = pixel_size(WGS84, transform, 100, 80)
    # a sphere differs by up to 0.7 % from the ellipsoid
    assert found == pytest.approx((width * height) ** 0.5, rel=0.007)


@pytest.mark.parametrize(
    ('code', 'transform', 'size'),
    [
        (32633, UTM, 10.0),
        (32633, UTM @ Affine.rotation(30), 10.0),
        (32633, UTM @ Affine.scale(1, 4), 20.0),
        (32633, UTM @ Affine.scale(1, -1), 10.0),
        # US survey feet
        (2263, Affine(100, 0, 0, 0, -100, 0), 30.4801),
        # not on the ground
        (4978, UTM, None),
    ],
)
def test_projected(code: int, transform: Affine, size: float | None) -> None:
    expected = None if size is None else pytest.approx(size, rel=1e-5)
    assert pixel_size(CRS.from_epsg(code), transform, 8, 8) == expected


def test_unknown() -> None:
    assert pixel_size(None, UTM, 8, 8) is None
    assert pixel_size(UTM_33, None, 8, 8) is None
    # no latitude
    assert pixel_size(WGS84, Affine(1, 0, 0, 0, -1, 200), 8, 8) is None


@pytest.mark.parametrize(
    ('one', 'other', 'same'),
    [
        (10, 12.5, True),
        (12.5, 10, True),
        (10, 12.6, False),
        (10, 7.9, False),
        (None, 30, True),
        (30, None, True),
    ],
)
def test_same_size(one: float | None, other: float | None, same: bool) -> None:
    assert same_size(one, other) == same


@pytest.mark.parametrize('wanted', [None, 10.0, 10.09])
def test_nothing_to_resample(tmp_path: Path, wanted: float | None) -> None:
    write_masked(tmp_path / 'a.tif', [], 'float32')
    with rasterio.open(tmp_path / 'a.tif') as file, resampled(file, wanted) as other:
        assert other is file


def test_larger_pixels_are_means(tmp_path: Path) -> None:
    bands, numbers, _ = write_masked(tmp_path / 'a.tif', [], 'float32')
    with rasterio.open(tmp_path / 'a.tif') as file, resampled(file, 40.0) as larger:
        assert (larger.height, larger.width) == (2, 2)
        assert larger.transform == UTM @ Affine.scale(4)
        assert pixel_size(larger.crs, larger.transform, 2, 2) == 40
        image = read_bands(larger, bands)
    means = numbers.reshape(2, 2, 4, 2, 4).mean(axis=(2, 4))
    assert np.allclose(image, means, rtol=1e-6)


def test_smaller_pixels_are_interpolated(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    bands, numbers, missing = write_masked(path, ['nodata'], 'float32')
    with rasterio.open(path) as file, resampled(file, 5.0) as smaller:
        assert (smaller.height, smaller.width) == (16, 16)
        image = read_bands(smaller, bands)
    # centres of small pixels lie at 1/4 and 3/4 between those of the large ones
    weights = np.array([[9, 3], [3, 1]]) / 16
    expected = (numbers[:, 3:5, 3:5] * weights).sum(axis=(1, 2))
    assert np.allclose(image[:, 7, 7], expected)
    outside = np.repeat(np.repeat(missing, 2, axis=1), 2, axis=2)
    # nothing of the nodata value 99 is mixed in
    assert np.isnan(image[outside]).mean() > 0.5
    assert np.nanmax(image) < 60


def test_missing_pixels_that_the_user_states(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    bands, _, missing = write_masked(path, ['nodata'], 'int16')
    with rasterio.open(path, 'r+') as file:
        file.nodata = None
    with rasterio.open(path) as file, resampled(file, 20.0, nodata=99) as larger:
        image = read_bands(larger, bands, nodata=99)
    assert np.array_equal(np.isnan(image), missing[:, ::2, ::2])
    assert np.nanmax(image) < 60


def test_two_values_for_missing_pixels(tmp_path: Path) -> None:
    write_masked(tmp_path / 'a.tif', ['nodata'], 'int16')
    write_masked(tmp_path / 'b.tif', ['inside'], 'int16')
    with (
        rasterio.open(tmp_path / 'a.tif') as file,
        pytest.raises(SettingError, match=r'a\.tif declares 99 as its nodata value'),
        resampled(file, 20.0, nodata=-1),
    ):
        pass
    with (
        rasterio.open(tmp_path / 'b.tif') as file,
        pytest.raises(CorruptFileError, match=r'gdalwarp .* -dstnodata 17 .*b\.tif'),
        resampled(file, 20.0, nodata=17),
    ):
        pass
