# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Places on the Earth that coordinates stand for."""

from functools import lru_cache

import pyproj
from pyproj.exceptions import ProjError

#: Coordinate reference system of longitude and latitude.
LONLAT = 'EPSG:4326'


@lru_cache(maxsize=256)
def to_lonlat(wkt: str) -> pyproj.Transformer | None:
    """Return what turns x and y into longitude and latitude in degrees.

    Args:
        wkt: Coordinate reference system of x and y.

    Returns:
        None if the system does not say where on the Earth it lies, such as one with a
        local origin, one that is neither projected nor in degrees, or that of a planet.
    """
    try:
        crs = pyproj.CRS.from_wkt(wkt)
        if not (crs.is_projected or crs.is_geographic):
            return None
        return pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True)
    except ProjError:
        return None
