# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio import CRS
from shapely import MultiPolygon, Polygon

from torchgeo_discomkd.rasters.footprints import make_footprint, overlap

CORNERS = [(0, 0), (64, 0), (64, 64), (0, 64), (0, 0)]


def utm_to_lonlat(zone: int, east: float, north: float) -> tuple[float, float]:
    """Invert UTM (north) by the series of Snyder, Map Projections (1987), p. 63-64."""
    a, f, k0 = 6378137.0, 1 / 298.257223563, 0.9996
    e2 = f * (2 - f)
    ep2 = e2 / (1 - e2)
    m = north / k0
    mu = m / (a * (1 - e2 / 4 - 3 * e2**2 / 64 - 5 * e2**3 / 256))
    e1 = (1 - math.sqrt(1 - e2)) / (1 + math.sqrt(1 - e2))
    phi = (
        mu
        + (3 * e1 / 2 - 27 * e1**3 / 32) * math.sin(2 * mu)
        + (21 * e1**2 / 16 - 55 * e1**4 / 32) * math.sin(4 * mu)
        + 151 * e1**3 / 96 * math.sin(6 * mu)
    )
    c = ep2 * math.cos(phi) ** 2
    t = math.tan(phi) ** 2
    n = a / math.sqrt(1 - e2 * math.sin(phi) ** 2)
    r = a * (1 - e2) / (1 - e2 * math.sin(phi) ** 2) ** 1.5
    d = (east - 500000) / (n * k0)
    lat = phi - n * math.tan(phi) / r * (
        d**2 / 2
        - (5 + 3 * t + 10 * c - 4 * c**2 - 9 * ep2) * d**4 / 24
        + (61 + 90 * t + 298 * c + 45 * t**2 - 252 * ep2 - 3 * c**2) * d**6 / 720
    )
    lon = (
        d
        - (1 + 2 * t + c) * d**3 / 6
        + (5 - 2 * c + 28 * t - 3 * c**2 + 8 * ep2 + 24 * t**2) * d**5 / 120
    ) / math.cos(phi)
    return 6 * zone - 183 + math.degrees(lon), math.degrees(lat)


def epsg(code: int) -> CRS:
    return CRS.from_epsg(code)


def north_up(west: float, north: float, pixel: float) -> Affine:
    return Affine(pixel, 0, west, 0, -pixel, north)


def points(polygon: object) -> np.ndarray:
    assert isinstance(polygon, Polygon)
    return shapely.get_coordinates(polygon)


@pytest.mark.parametrize('zone', [31, 32])
@pytest.mark.parametrize('angle', [0, 30])
def test_utm_zones_in_one_crs(zone: int, angle: float) -> None:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    transform = Affine(10 * cos, 10 * sin, 640000, 10 * sin, -10 * cos, 5300000)
    found = points(make_footprint(epsg(32600 + zone), transform, (64, 64)))
    expected = []
    for column, row in CORNERS:
        dx, dy = 10 * column, -10 * row
        east, north = 640000 + cos * dx - sin * dy, 5300000 + sin * dx + cos * dy
        expected.append(utm_to_lonlat(zone, east, north))
    # a ten millionth of a degree is a centimetre
    assert np.allclose(found, expected, rtol=0, atol=1e-7)


def test_corner_at_equator_and_central_meridian() -> None:
    found = points(make_footprint(epsg(32631), north_up(5e5, 0, 10), (64, 64)))
    assert np.allclose(found[0], [3, 0], atol=1e-9)
    assert found[1, 0] > 3
    assert found[2, 1] < 0


def test_same_crs_and_height_before_width() -> None:
    found = points(
        make_footprint(epsg(32631), north_up(5e5, 4e6, 10), (20, 10), 'EPSG:32631')
    )
    expected = [
        *((500000, 4000000), (500100, 4000000), (500100, 3999800)),
        *((500000, 3999800), (500000, 4000000)),
    ]
    assert np.allclose(found, expected, rtol=0, atol=1e-6)


def test_neighbouring_zone() -> None:
    found = points(
        make_footprint(epsg(32631), north_up(7e5, 5e6, 10), (64, 64), 'EPSG:32632')
    )
    for (column, row), (east, north) in zip(CORNERS, found, strict=True):
        lonlat = utm_to_lonlat(31, 7e5 + 10 * column, 5e6 - 10 * row)
        assert np.allclose(utm_to_lonlat(32, east, north), lonlat, atol=1e-7)


def test_edges_of_a_large_image_are_bent() -> None:
    found = make_footprint(epsg(32631), north_up(3e5, 6e6, 10), (10980, 10980))
    assert len(points(found)) == 81
    middle = shapely.Point(*utm_to_lonlat(31, 3e5 + 54900, 6e6))
    assert found is not None
    assert found.boundary.distance(middle) < 1e-7
    straight = Polygon(points(found)[::20])
    assert straight.boundary.distance(middle) > 1e-3


@pytest.mark.parametrize('code', [32601, 32660])
def test_antimeridian(code: int) -> None:
    # 3 degrees off the central meridian
    east = 500000 + (-1 if code == 32601 else 1) * 334000
    found = make_footprint(epsg(code), north_up(east - 3200, 3200, 100), (64, 64))
    assert isinstance(found, MultiPolygon)
    assert found.is_valid
    west, east_part = sorted(found.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180
    assert west.bounds[2] < -179.9
    assert east_part.bounds[2] == 180
    assert east_part.bounds[0] > 179.9
    # 6.4 km in degrees, twice
    assert found.area == pytest.approx((6400 / 111_100) ** 2, rel=0.02)


def test_antimeridian_in_other_projections() -> None:
    source = epsg(32601), north_up(166000 - 3200, 3200, 100), (64, 64)
    mercator = make_footprint(*source, 'EPSG:3857')
    assert isinstance(mercator, MultiPolygon)
    assert mercator.area == pytest.approx(6400**2, rel=0.03)
    utm = make_footprint(*source, 'EPSG:32660')
    assert isinstance(utm, Polygon)
    assert utm.area == pytest.approx(6400**2, rel=0.03)


@pytest.mark.parametrize('west', [179.9, -180.1, 539.9])
def test_geographic_across_the_antimeridian(west: float) -> None:
    found = make_footprint(epsg(4326), north_up(west, 1, 0.01), (20, 20))
    assert isinstance(found, MultiPolygon)
    boxes = [shapely.box(179.9, 0.8, 180, 1), shapely.box(-180, 0.8, -179.9, 1)]
    assert shapely.symmetric_difference(found, MultiPolygon(boxes)).area < 1e-9


def test_longitudes_beyond_180() -> None:
    found = make_footprint(epsg(4326), north_up(200, 1, 1), (1, 1))
    assert found is not None
    assert found.equals(shapely.box(-160, 0, -159, 1))


@pytest.mark.parametrize('west', [-180, 0])
def test_whole_globe(west: float) -> None:
    found = make_footprint(epsg(4326), north_up(west, 90, 1), (180, 360))
    assert found is not None
    assert found.is_valid
    assert found.equals(shapely.box(-180, -90, 180, 90))


@pytest.mark.parametrize(('code', 'pole'), [(3413, 90), (3031, -90)])
def test_around_a_pole(code: int, pole: float) -> None:
    found = make_footprint(epsg(code), north_up(-1e5, 1e5, 1000), (200, 200))
    assert found is not None
    assert found.is_valid
    assert found.intersects(shapely.Point(0, pole))
    assert found.bounds[0] == -180
    assert found.bounds[2] == 180
    latitudes = shapely.get_coordinates(found)[:, 1] * math.copysign(1, pole)
    # 100 km to the edges, 141 km to the corners, 111 km to a degree
    assert 88.6 < latitudes.min() < 88.8
    for lon in range(-180, 181, 15):
        assert found.intersects(shapely.Point(lon, pole * 0.998))
        assert not found.intersects(shapely.Point(lon, pole * 0.98))


def test_polar_image_next_to_the_pole() -> None:
    found = make_footprint(epsg(3413), north_up(-3e5, -2e5, 1000), (64, 64))
    assert isinstance(found, Polygon)
    west, south, east, north = found.bounds
    assert east - west < 20
    assert 85 < south < north < 88


def test_polar_image_in_mercator_is_not_torn() -> None:
    # across 180 degrees, which is at 45 degrees to the axes in this projection
    source = epsg(3413), north_up(-4e5, 4e5, 1000), (64, 64)
    found = make_footprint(*source, 'EPSG:3857')
    assert isinstance(found, MultiPolygon)
    assert found.is_valid
    assert {abs(x) for x in (found.bounds[0], found.bounds[2])} == {20037508.342789244}
    assert all(part.bounds[2] - part.bounds[0] < 2e6 for part in found.geoms)


def test_out_of_reach() -> None:
    # a gnomonic projection shows less than one half of the globe
    source = epsg(4326), north_up(10, 10, 0.1), (64, 64)
    target = '+proj=gnom +lat_0=0 +lon_0=180'
    assert make_footprint(*source, target) is None


def test_flipped_image() -> None:
    transform = Affine(10, 0, 5e5, 0, 10, 4e6)
    found = make_footprint(epsg(32631), transform, (10, 10), 'EPSG:32631')
    assert found is not None
    assert found.equals(shapely.box(5e5, 4e6, 5e5 + 100, 4e6 + 100))


def test_overlap_of_a_twisted_outline() -> None:
    twisted = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    assert overlap(twisted, shapely.box(0, 0, 1, 2)) == pytest.approx(0.5)
    assert overlap(twisted, Polygon([(0, 0), (1, 0), (2, 0)])) == 0
