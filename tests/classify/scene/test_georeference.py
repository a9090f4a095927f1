# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import CRS, Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_points

from torchgeo_discomkd.classify.scene import classify_scene
from torchgeo_discomkd.classify.scene.reader import open_scene
from torchgeo_discomkd.errors import CorruptFileError
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.rasters.tiles import TileSpec

from ...rasters.test_tiles import COARSE
from .scenes import make_predictor, random_scene, read, write_scene

#: Turned to the left by 30 degrees, pixels of 10 x 20 units.
TURNED = Affine(
    10 * math.cos(math.pi / 6),
    20 * math.sin(math.pi / 6),
    600_000,
    10 * math.sin(math.pi / 6),
    -20 * math.cos(math.pi / 6),
    5_000_000,
)


def corners(file: DatasetReader) -> list[tuple[float, float]]:
    """Return upper left, upper right and lower left corner."""
    ends = [(0, 0), (file.width, 0), (0, file.height)]
    return [file.transform @ end for end in ends]


@pytest.mark.parametrize(
    ('transform', 'crs', 'expected'),
    [
        # 8 rows and 10 columns of cells of 4 pixels, the last ones beyond the scene
        (
            Affine(10, 0, 500_000, 0, -10, 4_000_000),
            'EPSG:32633',
            [(500_000, 4_000_000), (500_400, 4_000_000), (500_000, 3_999_680)],
        ),
        (
            Affine(0.0001, 0, -0.78, 0, -0.0001, 38.12),
            'EPSG:4326',
            [(-0.78, 38.12), (-0.776, 38.12), (-0.78, 38.1168)],
        ),
        (
            TURNED,
            'EPSG:32631',
            [
                (600_000, 5_000_000),
                (600_346.41016, 5_000_200),
                (600_320, 4_999_445.74374),
            ],
        ),
        # south is up
        (
            Affine(10, 0, 500_000, 0, 10, 3_999_700),
            'EPSG:32733',
            [(500_000, 3_999_700), (500_400, 3_999_700), (500_000, 4_000_020)],
        ),
    ],
    ids=['north-up', 'geographic', 'rotated', 'south-up'],
)
def test_corners(
    tmp_path: Path, transform: Affine, crs: str, expected: list[tuple[float, float]]
) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 38), transform, crs)
    output, preview = tmp_path / 'map.tif', tmp_path / 'map.png'
    classify_scene(make_predictor(), source, output, preview=preview, progress=False)
    for path in (output, tmp_path / 'map_confidence.tif'):
        with rasterio.open(path) as file:
            assert (file.height, file.width) == (8, 10)
            assert file.crs == CRS.from_string(crs)
            found = corners(file)
        for point, other in zip(found, expected, strict=True):
            assert point == pytest.approx(
                other, abs=1e-5 if crs[-4:] != '4326' else 1e-12
            )


def test_without_crs_the_transform_is_kept(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 38), crs=None)
    with pytest.warns(
        UserWarning, match=r'has no coordinate reference system.*rio edit'
    ):
        classify_scene(
            make_predictor(),
            source,
            tmp_path / 'map.tif',
            polygons=tmp_path / 'map.gpkg',
            preview=tmp_path / 'map.png',
            progress=False,
        )
    with rasterio.open(tmp_path / 'map.tif') as file:
        assert file.crs is None
        assert file.transform == Affine(40, 0, 500_000, 0, -40, 4_000_000)


def test_without_georeference(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 38), None, None)
    with pytest.warns(UserWarning, match='is not georeferenced: the map will not be'):
        classify_scene(
            make_predictor(),
            source,
            tmp_path / 'map.tif',
            polygons=tmp_path / 'map.gpkg',
            preview=tmp_path / 'map.png',
            progress=False,
        )
    assert read(tmp_path / 'map.tif').all()
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(tmp_path / 'map.tif') as f,
    ):
        assert f.transform == Affine.identity()


def write_ground_control(
    path: Path, longitude: float, dtype: str, latitude: float = 48
) -> ImageFiles:
    """Write a turned scene of 200 x 300 pixels of about 10 m with a bright square."""
    array = np.full((2, 200, 300), -20.0)
    array[:, 80:120, 160:200] = -4
    array[1] -= 5
    array += np.random.default_rng(0).normal(0, 0.01, array.shape)
    array = 1000 * 10 ** (array / 10) if dtype == 'uint16' else array
    points = []
    for row in np.linspace(0, 200, 6):
        for column in np.linspace(0, 300, 6):
            x, y = place(longitude, row, column, latitude)
            points.append(GroundControlPoint(row, column, x, y, 0))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(
            path, 'w', driver='GTiff', width=300, height=200, count=2, dtype=dtype
        ) as file:
            file.write(array.astype(dtype))
            file.gcps = (points, CRS.from_epsg(4326))
    return ImageFiles((str(path),))


def place(
    longitude: float, row: float, column: float, latitude: float = 48
) -> tuple[float, float]:
    """Return longitude and latitude of a pixel."""
    x = longitude + column * 1.3e-4 + row * 3e-5
    return (x + 180) % 360 - 180, latitude - row * 9e-5 + column * 2e-5


def test_ground_control_points_are_warped_to_utm(tmp_path: Path) -> None:
    source = write_ground_control(tmp_path / 'scene.tif', 14.9, 'float32')
    summary = classify_scene(
        make_predictor(), source, tmp_path / 'map.tif', stride=4, progress=False
    )
    assert summary.nodata > 0
    with rasterio.open(tmp_path / 'map.tif') as file:
        assert file.crs == CRS.from_epsg(32633)
        # pixels are square, and about as large as those of the scene
        assert file.transform.a == -file.transform.e
        assert file.transform.a / 4 == pytest.approx(10, rel=0.1)
        classes = file.read(1)
        rows, columns = np.nonzero(classes == 3)
        middle = file.transform @ (columns.mean() + 0.5, rows.mean() + 0.5)
        outside = file.transform @ (0.5, 0.5)
    (longitude,), (latitude,) = transform_points(
        CRS.from_epsg(32633), CRS.from_epsg(4326), [middle[0]], [middle[1]]
    )
    expected = place(14.9, 100, 180)
    assert longitude == pytest.approx(expected[0], abs=3e-4)
    assert latitude == pytest.approx(expected[1], abs=2e-4)
    assert classes[0, 0] == 0
    assert outside[0] < middle[0]


@pytest.mark.parametrize(
    ('latitude', 'epsg'), [(85, 3413), (-20, 32733), (-85, 3031), (60, 32633)]
)
def test_grid_of_ground_control_points(
    tmp_path: Path, latitude: float, epsg: int
) -> None:
    source = write_ground_control(tmp_path / 'scene.tif', 14.9, 'float32', latitude)
    classify_scene(make_predictor(), source, tmp_path / 'map.tif', progress=False)
    with rasterio.open(tmp_path / 'map.tif') as file:
        assert file.crs == CRS.from_epsg(epsg)
        assert {1, 3} <= set(np.unique(file.read(1)))


def test_zeros_of_a_scene_are_left_out_when_pixels_become_larger(
    tmp_path: Path,
) -> None:
    source = write_ground_control(tmp_path / 'scene.tif', 14.9, 'float32')
    with rasterio.open(tmp_path / 'scene.tif', 'r+') as file:
        power = np.full((2, 200, 300), 0.1, np.float32)
        power += np.random.default_rng(0).normal(0, 0.001, power.shape)
        power[:, :, :101] = 0
        file.write(power)
    spec = TileSpec(('VV', 'VH'), 'dB', None, profile=COARSE, resample=True)
    with open_scene(source, spec) as reader:
        image = reader.read(0, reader.grid.height, 0, reader.grid.width)
    # outside the scene, and a third of it
    assert 0.3 < np.isnan(image).mean() < 0.8
    assert np.nanmin(image) > -10.2


def test_ground_control_points_of_integers(tmp_path: Path) -> None:
    # what lies outside is 0, which an integer scene has no other value for
    source = write_ground_control(tmp_path / 'scene.tif', 14.9, 'uint16')
    predictor = make_predictor(unit='DN', compute=by_digital_number)
    classify_scene(predictor, source, tmp_path / 'map.tif', stride=8, progress=False)
    classes = read(tmp_path / 'map.tif')
    assert classes[0, 0] == 0
    assert set(np.unique(classes)) == {0, 1, 3}


def by_digital_number(images: np.ndarray) -> np.ndarray:
    """Return City for bright windows and Water for dark ones."""
    bright = np.nanmean(images[:, 0], axis=(1, 2)) > 100
    return np.stack([~bright, bright & False, bright], axis=1).astype(np.float32)


def test_ground_control_points_over_the_antimeridian_are_refused(
    tmp_path: Path,
) -> None:
    source = write_ground_control(tmp_path / 'scene.tif', 179.99, 'float32')
    with pytest.raises(
        CorruptFileError, match=r'antimeridian: warp it first.*EPSG:326'
    ):
        classify_scene(make_predictor(), source, tmp_path / 'map.tif', progress=False)
    assert list(tmp_path.iterdir()) == [tmp_path / 'scene.tif']


@pytest.mark.parametrize('scale', [(0, -10), (10, 0), (0, 0)])
def test_pixels_without_extent(tmp_path: Path, scale: tuple[float, float]) -> None:
    # GDAL reads the first one as a ground control point
    grid = Affine(scale[0], 0, 500_000, 0, scale[1], 4_000_000)
    source = write_scene(tmp_path / 'scene.tif', random_scene(16, 16), transform=grid)
    with pytest.raises(CorruptFileError, match=r'scene\.tif .*correct its georef'):
        classify_scene(
            make_predictor(),
            source,
            tmp_path / 'map.tif',
            preview=tmp_path / 'map.png',
            progress=False,
        )
    assert [path.name for path in tmp_path.iterdir()] == ['scene.tif']
