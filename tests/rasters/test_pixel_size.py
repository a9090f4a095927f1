# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod, Transformer
from rasterio import CRS

from tests.classify.scene.scenes import UTM
from torchgeo_discomkd.errors import CorruptFileError, SettingError
from torchgeo_discomkd.rasters.decoding import read_bands
from torchgeo_discomkd.rasters.pixel_size import (
    ground_steps,
    pixel_size,
    resampled,
    same_size,
)

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


def place(code: int, longitude: float, latitude: float, pixel: float) -> Affine:
    """Return the transform of an image with a corner at a place."""
    transformer = Transformer.from_crs(4326, code, always_xy=True)
    x, y = transformer.transform(longitude, latitude)
    return Affine(pixel, 0, x, 0, -pixel, y)


@pytest.mark.parametrize(
    ('code', 'shape', 'size'),
    [
        # metres of Web Mercator are half as long as they say, and less by the ellipsoid
        (3857, (2, 2), 10.017),
        # true lengths along meridians only, true areas only
        (4087, (2, 2), 20 * 0.5013**0.5),
        (6933, (2, 2), 20),
        # the centre of the image counts
        (3857, (2, 10**6), 10.017),
        (32633, (2, 2), 20),
        (3035, (2, 2), 20),
    ],
)
def test_metres_on_the_ground(code: int, shape: tuple[int, int], size: float) -> None:
    transform = place(code, 15, 60, 20)
    crs = CRS.from_epsg(code)
    assert pixel_size(crs, transform, *shape) == pytest.approx(size, rel=1e-4)
    turned = transform @ Affine.rotation(30)
    assert pixel_size(crs, turned, 2, 2) == pytest.approx(size, rel=1e-4)


def test_steps_on_the_ground() -> None:
    steps = ground_steps(CRS.from_epsg(4087), place(4087, 15, 60, 20), 2, 2)
    assert steps is not None
    assert np.allclose(steps, [[10.025, 0], [0, -20]], atol=0.02)
    # nothing is measured beyond the pole
    beyond = Affine(20, 0, 0, 0, -20, 1e12)
    assert pixel_size(CRS.from_epsg(3857), beyond, 2, 2) == 20
    assert pixel_size(CRS.from_epsg(4087), beyond, 2, 2) == 20


def test_web_mercator_is_resampled_to_metres_on_the_ground(tmp_path: Path) -> None:
    write_masked(tmp_path / 'a.tif', [], 'float32')
    with rasterio.open(tmp_path / 'a.tif', 'r+') as file:
        file.crs, file.transform = CRS.from_epsg(3857), place(3857, 15, 60, 20)
    with rasterio.open(tmp_path / 'a.tif') as file, resampled(file, 10.0) as same:
        assert same is file
    with rasterio.open(tmp_path / 'a.tif') as file, resampled(file, 20.0) as larger:
        assert (larger.height, larger.width) == (4, 4)


def test_unknown() -> None:
    assert pixel_size(None, UTM, 8, 8) is None
    assert pixel_size(UTM_33, None, 8, 8) is None
    local = CRS.from_wkt('LOCAL_CS["arbitrary",UNIT["metre",1]]')
    assert pixel_size(local, UTM, 8, 8) is None
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
