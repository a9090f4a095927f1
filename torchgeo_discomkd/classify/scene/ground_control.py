# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Warp scenes that are located by ground control points to a grid, while reading."""

import numpy as np
from affine import Affine
from rasterio import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from ...errors import CorruptFileError
from ...rasters.decoding import check_single_mask, has_mask

# UTM ends here; the grids beyond are those of the ice services (NSIDC).
_UTM_SOUTH, _UTM_NORTH = -80, 84


def has_ground_control(file: DatasetReader) -> bool:
    """Return whether a file is located by ground control points and nothing else."""
    points, crs = file.gcps
    return bool(points) and crs is not None and file.transform == Affine.identity()


def warp_to_grid(file: DatasetReader, path: str) -> WarpedVRT:
    """Warp a file with ground control points to a regular grid, while it is read.

    The grid is that of the points' system if it is projected, otherwise UTM at the
    middle of the scene (polar stereographic beyond), so that pixels are square on the
    ground. GDAL chooses a pixel size like that of the file. Pixels keep their values
    (nearest neighbour): interpolation would smooth the speckle that the classifier was
    trained with. Pixels outside the scene are missing: the nodata value of the file,
    NaN, or 0 for integers.

    The points do not describe the terrain between them: in mountains, a
    terrain-corrected scene is located more precisely.

    Args:
        file: Open file for which :func:`has_ground_control` is true.
        path: Path of the file, for messages.

    Returns:
        The file on the grid, to be closed by the caller.

    Raises:
        CorruptFileError: If the points are on both sides of the antimeridian, where
            no polynomial of longitude fits, no grid can be fitted to them, or the file
            declares missing pixels in two ways.
    """
    check_single_mask(file)
    points, crs = file.gcps
    target = crs
    if crs.is_geographic:
        target = _metric_crs([p.x for p in points], [p.y for p in points])
        if np.ptp([p.x for p in points]) > 180:
            raise CorruptFileError(
                f'{path} has ground control points on both sides of the antimeridian: '
                f'warp it first, for example with "gdalwarp -t_srs {target} -tps".'
            )
    masked = has_mask(file)
    nodata = file.nodata
    if nodata is None and not masked:
        nodata = np.nan if np.dtype(file.dtypes[0]).kind == 'f' else 0
    try:
        return WarpedVRT(
            file,
            src_crs=crs,
            crs=target,
            src_nodata=nodata,
            nodata=nodata,
            resampling=Resampling.nearest,
            # a mask does not survive warping, an alpha band does
            add_alpha=masked,
        )
    except Exception as error:
        # rasterio has errors of GDAL that it does not make public
        if not type(error).__module__.startswith('rasterio'):
            raise
        raise CorruptFileError(
            f'{path} is located by {len(points)} ground control points, to which no '
            f'grid can be fitted ({error}): correct its georeference.'
        ) from error


def _metric_crs(longitudes: list[float], latitudes: list[float]) -> CRS:
    east = np.array(longitudes)
    if np.ptp(east) > 180:
        east = east % 360
    longitude = (float(east.min() + east.max()) / 2 + 180) % 360 - 180
    latitude = (min(latitudes) + max(latitudes)) / 2
    if latitude > _UTM_NORTH:
        return CRS.from_epsg(3413)
    if latitude < _UTM_SOUTH:
        return CRS.from_epsg(3031)
    zone = int((longitude + 180) // 6) + 1
    return CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)
