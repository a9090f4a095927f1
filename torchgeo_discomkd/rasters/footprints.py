# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Outlines of images on the Earth, all in one coordinate reference system."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from shapely import MultiPolygon, Polygon

from .places import LONLAT, to_lonlat

# Points on each edge: a straight edge becomes a curve in another projection.
_POINTS = 20

# An outline is reduced to its corners if that is accurate to this part of a pixel.
_TOLERANCE = 0.1

# A step this many times the usual length crosses the edge of a projection.
_JUMP = 10


def make_footprint(
    crs: CRS, transform: Affine, shape: tuple[int, int], target: str = LONLAT
) -> Polygon | MultiPolygon | None:
    """Return the outline of an image, from the outer corners of its corner pixels.

    An outline across the antimeridian is split there into a MultiPolygon. One around a
    pole extends from -180 to 180 degrees and up to the pole. Edges have intermediate
    points if straight ones would be off by more than a tenth of a pixel.

    Args:
        crs: Coordinate reference system of the image.
        transform: From its pixels (column, row) to its coordinates, rotated or not.
        shape: Its height and width in pixels.
        target: Coordinate reference system of the outline, anything that PROJ knows.

    Returns:
        The outline, x (or longitude) first; None if *target* does not cover the image,
        or *crs* does not say where on the Earth it lies.
    """
    if to_lonlat(crs.to_wkt()) is None:
        return None
    a, b, c, d, e, f, *_ = transform
    columns, rows = _ring(*shape)
    xy = a * columns + b * rows + c, d * columns + e * rows + f
    points = np.stack(_transformer(crs.to_wkt(), target).transform(*xy), axis=1)
    if not np.isfinite(points).all():
        return None
    if _geographic(target):
        return _around_the_globe(points, shape)
    if _torn(points):
        globe = make_footprint(crs, transform, shape)
        return None if globe is None else _reproject(globe, target)
    return Polygon(_straighten(points, shape))


def overlap(one: Polygon | MultiPolygon, other: Polygon | MultiPolygon) -> float:
    """Return which share of the smaller of two outlines the other one covers.

    Args:
        one: An outline.
        other: An outline in the same coordinate reference system.

    Returns:
        0 to 1; 0 also if they only share an edge.

    Example:
        >>> overlap(shapely.box(0, 0, 2, 2), shapely.box(1, 0, 9, 9))
        0.5
    """
    # far from home, a projection may twist an outline
    one, other = shapely.make_valid(one), shapely.make_valid(other)
    smaller = min(one.area, other.area)
    return one.intersection(other).area / smaller if smaller > 0 else 0.0


def _ring(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return columns and rows of a closed ring around all pixels."""
    corners = np.array(
        [[0, 0], [width, 0], [width, height], [0, height], [0, 0]], float
    )
    part = np.linspace(0, 1, _POINTS, endpoint=False)[:, None]
    edges = [a + part * (b - a) for a, b in pairwise(corners)]
    ring = np.concatenate([*edges, corners[:1]])
    return ring[:, 0], ring[:, 1]


def _around_the_globe(
    points: NDArray[np.float64], shape: tuple[int, int]
) -> Polygon | MultiPolygon | None:
    points[:, 0] = np.unwrap(points[:, 0], period=360)
    first, last = points[0, 0], points[-1, 0]
    if abs(last - first) > 180:  # once around: a pole is inside
        pole = np.copysign(90, points[:, 1].mean())
        points = np.concatenate([points, [[last, pole], [first, pole]]])
    else:
        points = _straighten(points, shape)
    polygon = Polygon(points)
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return polygon
    parts = []
    for turn in range(int((west + 180) // 360), int((east + 180) // 360) + 1):
        world = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        part = shapely.intersection(polygon, world)
        parts.append(shapely.transform(part, lambda xy, t=turn: xy - [360 * t, 0]))
    return _collect(parts)


def _straighten(
    points: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Keep only the corners if the edges between them are straight."""
    corners = points[::_POINTS]
    part = np.linspace(0, 1, _POINTS, endpoint=False)[None, :, None]
    start, edge = corners[:-1, None], np.diff(corners, axis=0)[:, None]
    bend = np.abs(points[:-1].reshape(4, _POINTS, 2) - (start + part * edge)).max()
    pixels = np.array([shape[1], shape[0], shape[1], shape[0]])
    pixel = (np.hypot(*np.diff(corners, axis=0).T) / pixels).min()
    return corners if bend <= _TOLERANCE * pixel else points


def _torn(points: NDArray[np.float64]) -> bool:
    steps = np.hypot(*np.diff(points, axis=0).T).reshape(4, _POINTS)
    return bool((steps.max(axis=1) > _JUMP * np.median(steps, axis=1)).any())


def _reproject(
    globe: Polygon | MultiPolygon, target: str
) -> Polygon | MultiPolygon | None:
    transformer = _transformer(LONLAT, target)
    west, south, east, north = globe.bounds
    step = max(east - west, north - south) / _POINTS
    parts = []
    for part in shapely.get_parts(shapely.segmentize(globe, step)):
        xy = np.stack(transformer.transform(*shapely.get_coordinates(part).T), axis=1)
        if not np.isfinite(xy).all():
            return None
        parts.append(shapely.set_coordinates(part, xy))
    return _collect(parts)


def _collect(parts: list[Polygon]) -> Polygon | MultiPolygon | None:
    # a union, because parts that share an edge are not a valid MultiPolygon
    joined = shapely.get_parts(shapely.union_all(parts))
    polygons = [part for part in joined if isinstance(part, Polygon)]
    match polygons:
        case []:
            return None
        case [polygon]:
            return polygon
    return MultiPolygon(polygons)


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=16)
def _geographic(target: str) -> bool:
    return pyproj.CRS.from_user_input(target).is_geographic
