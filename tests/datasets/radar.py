# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Writers of the same SAR tiles in the many ways in which such files circulate."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

type Values = NDArray[np.float64]

#: From dB to the numbers in a file.
type Encode = Callable[[Values], Values]

#: Number of tiles of each class: 7 for training, 1 for validation, 3 for test.
COUNT = 11

_MEANS = np.array([-10.0, -17.0]).reshape(2, 1, 1)


def backscatter() -> list[Values]:
    """Return VV and VH in dB, (2, 16, 16) each, of one class after the other."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(_MEANS - 2 * label, 1.5, (2, 16, 16))
        for label in (0, 1)
        for _ in range(COUNT)
    ]


def power(values: Values) -> Values:
    """Convert dB to linear power."""
    return 10 ** (values / 10)


def amplitude(values: Values) -> Values:
    """Convert dB to amplitude."""
    return 10 ** (values / 20)


def times(factor: float) -> Encode:
    """Return the multiplication by a factor."""
    return lambda values: values * factor


def filled(value: float, rows: int = 2) -> Encode:
    """Return a function that fills the first rows of an image with a value."""
    return lambda values: np.where(np.arange(16)[:, None] < rows, value, values)


def hole(value: float) -> Encode:
    """Return a function that sets two pixels of 256 to a value."""
    place = np.zeros((16, 16), bool)
    place[3, 4:6] = True
    return lambda values: np.where(place, value, values)


def grey(values: Values) -> Values:
    """Stretch dB to 8 bits."""
    return np.clip((values + 30) * 7, 0, 255)


def write_radar(
    root: Path,
    encode: Encode = np.copy,
    dtype: str = 'float32',
    names: Sequence[str] | None = ('VV', 'VH'),
    scale: float | None = None,
    nodata: float | None = None,
    crs: str | None = 'EPSG:32631',
    pixel: float = 10,
    corner: tuple[float, float] = (5e5, 4e6),
    modality: str = 'sar',
) -> Path:
    """Write ``<root>/<modality>/<Class>/<n>.tif`` of two classes; return *root*.

    Args:
        root: The folder.
        encode: From dB to the numbers in the files.
        dtype: Their type; integers are rounded.
        names: Names of the bands.
        scale: Scale that the files declare.
        nodata: Nodata value that they declare.
        crs: Coordinate reference system; None for files without georeference.
        pixel: Width and height of a pixel.
        corner: Upper left corner.
        modality: Name of the folder.
    """
    for index, values in enumerate(backscatter()):
        label, number = divmod(index, COUNT)
        array = encode(values)
        if np.dtype(dtype).kind in 'iu':
            array = np.rint(array)
        path = root / modality / ('Crop', 'Water')[label] / f'{number}.tif'
        path.parent.mkdir(parents=True, exist_ok=True)
        profile: dict[str, Any] = {'dtype': dtype, 'nodata': nodata}
        if crs is not None:
            profile |= {'crs': crs, 'transform': from_origin(*corner, pixel, pixel)}
        write(path, array.astype(dtype), names, scale, **profile)
    return root


def write(
    path: Path,
    array: NDArray[Any],
    names: Sequence[str] | None = None,
    scale: float | None = None,
    **profile: Any,
) -> None:
    """Write a GeoTIFF.

    Args:
        path: The file.
        array: Numbers, shape (C, H, W).
        names: Names of the bands.
        scale: Scale of all bands.
        **profile: Further arguments of rasterio.
    """
    count, height, width = array.shape
    shape = {'count': count, 'height': height, 'width': width, 'dtype': array.dtype}
    with rasterio.open(path, 'w', driver='GTiff', **(shape | profile)) as file:
        file.write(array)
        if names is not None:
            file.descriptions = tuple(names)
        if scale is not None:
            file.scales = (scale,) * count
