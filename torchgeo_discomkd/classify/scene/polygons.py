# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Turn a class map into polygons with their area."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from affine import Affine

from ...files import writing
from ...rasters.opening import open_raster
from ...rasters.places import to_lonlat
from ...tables.styles import add_layer_style, polygon_style
from .legend import Legend

if TYPE_CHECKING:
    from geopandas import GeoDataFrame, GeoSeries

_LAYER, _GEOMETRY = 'classes', 'geom'

_SQUARE_METRES_PER_HECTARE = 10_000

# Largest share by which a projection may get areas wrong; that of UTM is 0.2 %.
_TOLERANCE = 0.01

# Straight lines of one projection are curves in another: this many pieces follow them.
_PIECES = 256


def write_polygons(
    class_map: Path, legend: Legend, extent: tuple[float, float], output: Path
) -> None:
    """Write one multipolygon per class that occurs: value, class and area_ha.

    Cells that share an edge are joined, cells that touch at a corner are not. Parts
    beyond the scene are cut off. QGIS shows the colours of the map.

    Args:
        class_map: GeoTIFF with the values of *legend*.
        legend: Classes of the map.
        extent: Height and width of the scene, in cells of the map.
        output: GeoPackage, layer 'classes'; it must not exist.

    Raises:
        OutputError: If the file cannot be written.
    """
    from pyogrio.errors import DataSourceError

    classes = _trace(class_map, legend, extent)
    classes['area_ha'] = areas_in_hectares(classes.geometry)
    with writing(output), warnings.catch_warnings():
        # a map without georeference has polygons in pixels, as a warning has said
        warnings.filterwarnings('ignore', "'crs' was not provided")
        try:
            classes.to_file(
                output,
                driver='GPKG',
                layer=_LAYER,
                geometry_name=_GEOMETRY,
                engine='pyogrio',
                geometry_type='MultiPolygon',
                promote_to_multi=True,
            )
        except DataSourceError as error:
            raise OSError(str(error)) from error
        colors = dict(zip(legend.names, legend.colors, strict=True))
        style = polygon_style('class', colors, rest=None)
        add_layer_style(output, _LAYER, style)


def _trace(
    class_map: Path, legend: Legend, extent: tuple[float, float]
) -> 'GeoDataFrame':
    import geopandas
    import shapely
    from rasterio.features import shapes

    with open_raster(class_map) as file:
        band = rasterio.band(file, 1)
        # in the coordinates of the file, without the cells that the mask hides
        found = list(shapes(band, mask=band, connectivity=4))
        scene = _corners(file.transform, file.shape, extent)
        crs = file.crs
    pieces = geopandas.GeoDataFrame(
        {'value': np.array([value for _, value in found], np.int64)},
        geometry=[shapely.geometry.shape(geometry) for geometry, _ in found],
        crs=crs,
    )
    if scene is not None:
        pieces.geometry = pieces.intersection(shapely.Polygon(scene))
    # pieces of one class share no edge, so that no line has to be removed
    classes = pieces.dissolve('value', as_index=False, method='coverage')
    names = dict(enumerate(legend.names, 1))
    classes.insert(1, 'class', classes['value'].map(names).astype('str'))
    return classes


def _corners(
    transform: Affine, cells: tuple[int, int], extent: tuple[float, float]
) -> list[tuple[float, float]] | None:
    """Return what to keep of the map; None if no cell reaches beyond the scene."""
    if cells == extent:
        return None
    # where nothing is cut off, lines that coincide nearly must not meet
    bottom, right = (
        size if size < count else count + 1.0
        for size, count in zip(extent, cells, strict=True)
    )
    corners = [(-1.0, -1.0), (right, -1.0), (right, bottom), (-1.0, bottom)]
    return [transform @ corner for corner in corners]


def areas_in_hectares(geometry: 'GeoSeries') -> 'GeoSeries':
    """Measure areas on the ground.

    In a projected system that shows areas within 1 % at the middle of the geometries,
    such as UTM, areas are those of the plane. In any other (degrees, Web Mercator) they
    are measured in a cylindrical equal-area projection around the middle, which shows
    parallels and meridians as straight lines.

    Args:
        geometry: Polygons.

    Returns:
        Areas in hectares, float64; NaN if there is no coordinate reference system, or
        it does not say where on the Earth they lie.
    """
    crs = geometry.crs
    degrees = None if crs is None else to_lonlat(crs.to_wkt())
    if degrees is None or geometry.empty:
        return geometry.area * np.nan
    west, south, east, north = geometry.total_bounds
    middle = ((west + east) / 2, (south + north) / 2)
    longitude, latitude = degrees.transform(*middle)
    if crs.is_projected and _keeps_area(crs, longitude, latitude):
        metres = crs.axis_info[0].unit_conversion_factor
        return geometry.area * metres**2 / _SQUARE_METRES_PER_HECTARE
    pieces = geometry.segmentize(max(east - west, north - south) / _PIECES)
    plane = pieces.to_crs(f'+proj=cea +lon_0={longitude} +datum=WGS84 +units=m')
    return plane.area / _SQUARE_METRES_PER_HECTARE


def _keeps_area(crs: object, longitude: float, latitude: float) -> bool:
    from pyproj import Proj

    factors = Proj(crs).get_factors(longitude, latitude)
    return abs(factors.areal_scale - 1) <= _TOLERANCE
