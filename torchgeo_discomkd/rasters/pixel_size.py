# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The size of a pixel on the ground, and reading at another one."""

import math
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod
from rasterio import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from ..errors import SettingError
from .decoding import check_single_mask, has_mask
from .places import to_lonlat

#: Relative difference from which the sizes of two pixels are not the same.
TOLERANCE = 0.25

# Relative difference below which an image is not resampled.
_SAME = 0.01

# Relative difference up to which lengths of a projection are those on the ground.
_TRUE = 0.01

# Length of a degree on the Earth in metres.
_DEGREE = 111_320.0

_EARTH = Geod(ellps='WGS84')


def pixel_size(
    crs: CRS | None, transform: Affine | None, height: int, width: int
) -> float | None:
    """Return the side of a pixel in metres.

    Args:
        crs: Coordinate reference system.
        transform: From pixel (column, row) to its coordinates.
        height: Number of rows.
        width: Number of columns.

    Returns:
        Square root of the area of the pixel in the centre on the ground, see
        :func:`ground_steps`. None if it is unknown.
    """
    steps = ground_steps(crs, transform, height, width)
    if steps is None:
        return None
    (a, b), (c, d) = steps.tolist()
    return math.sqrt(abs(a * d - b * c))


def ground_steps(
    crs: CRS | None, transform: Affine | None, height: int, width: int
) -> NDArray[np.float64] | None:
    """Return how far the next pixels are from the one in the centre, on the ground.

    A metre of a projection need not be one on the ground: in Web Mercator at 60 degrees
    of latitude it is half of one.

    Args:
        crs: Coordinate reference system.
        transform: From pixel (column, row) to its coordinates.
        height: Number of rows.
        width: Number of columns.

    Returns:
        Metres along both coordinates to the next column and to the next row, float64
        (2, 2): those of the projection if they are right within 1 %, as in UTM. None if
        they are unknown.
    """
    if crs is None or transform is None:
        return None
    steps = np.array([[transform.a, transform.d], [transform.b, transform.e]])
    centre = np.array(transform @ (width / 2, height / 2))
    if crs.is_geographic:
        shrink = math.cos(math.radians(centre[1]))
        return _DEGREE * steps * (shrink, 1) if shrink > 0 else None
    if not crs.is_projected:
        return None
    nominal = steps * crs.linear_units_factor[1]
    measured = _measure(crs, centre, steps)
    if measured is None or np.allclose(
        np.hypot(*measured.T), np.hypot(*nominal.T), rtol=_TRUE, atol=0
    ):
        return nominal
    return measured


def _measure(
    crs: CRS, centre: NDArray[np.float64], steps: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Measure steps from a point in metres to the east and to the north."""
    if (transformer := to_lonlat(crs.to_wkt())) is None:
        return None
    points = transformer.transform(*np.array([centre, *(centre + steps)]).T)
    if not np.isfinite(points).all():
        return None
    east, north = points
    azimuths, _, lengths = _EARTH.inv(east[[0, 0]], north[[0, 0]], east[1:], north[1:])
    if not (lengths > 0).all():
        # beyond a pole
        return None
    angles = np.radians(azimuths)
    return np.array([np.sin(angles), np.cos(angles)]).T * lengths[:, None]


def same_size(one: float | None, other: float | None) -> bool:
    """Return whether two sizes differ by at most a quarter, or one is unknown.

    Args:
        one: Side of a pixel in metres.
        other: Side of another.
    """
    if one is None or other is None:
        return True
    return max(one, other) <= (1 + TOLERANCE) * min(one, other)


@contextmanager
def resampled(
    file: DatasetReader | WarpedVRT, wanted: float | None, nodata: float | None = None
) -> Generator[DatasetReader | WarpedVRT]:
    """Read a file as if its pixels had another size, in its own projection.

    GDAL reads the overview that comes closest. Larger pixels are the mean of those that
    they cover, smaller ones are interpolated, both in the unit of the file.

    Args:
        file: The open file.
        wanted: Side of a pixel in metres; None to leave the file as it is.
        nodata: A number in the file that stands for missing pixels although the file
            does not say so.

    Yields:
        The file itself if its pixels already have this size, or it is unknown.

    Raises:
        CorruptFileError: If the file declares missing pixels in two ways.
        SettingError: If *nodata* is not the value that the file declares.
    """
    own = pixel_size(file.crs, file.transform, file.height, file.width)
    factor = 1.0 if wanted is None or own is None else wanted / own
    if math.isclose(factor, 1, rel_tol=_SAME):
        yield file
        return
    # NaN stays missing whatever else is
    declared = None if file.nodata is None or math.isnan(file.nodata) else file.nodata
    if nodata is not None and declared not in (None, nodata):
        raise SettingError(
            f'{file.name} declares {file.nodata:g} as its nodata value, and resampling '
            f'can leave out only one: omit nodata={nodata:g}, or resample the file '
            'with gdalwarp.'
        )
    check_single_mask(file, nodata)
    with WarpedVRT(
        file,
        crs=file.crs,
        transform=file.transform @ Affine.scale(factor),
        height=max(round(file.height / factor), 1),
        width=max(round(file.width / factor), 1),
        resampling=Resampling.average if factor > 1 else Resampling.bilinear,
        src_nodata=file.nodata if nodata is None else nodata,
        # a mask does not survive warping, an alpha band does
        add_alpha=has_mask(file),
        # a pixel may be missing in one band only
        UNIFIED_SRC_NODATA='NO',
    ) as other:
        yield other
