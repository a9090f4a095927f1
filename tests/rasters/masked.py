# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files whose missing pixels are declared in each of GDAL's ways."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from tests.classify.scene.scenes import UTM

#: Ways to declare missing pixels: a nodata value, one for each band together, a mask
#: inside or next to the file, and an alpha band in front of, between or after the two.
WAYS = ('nodata', 'NODATA_VALUES', 'inside', 'msk', 'alpha0', 'alpha1', 'alpha2')

SIZE = 8


def write_masked(
    path: Path, ways: Collection[str], dtype: str, **profile: Any
) -> tuple[list[int], NDArray[np.float64], NDArray[np.bool_]]:
    """Write two bands of 8x8 pixels, each way declaring other pixels of them missing.

    Missing are pixels of 2x2, so that larger pixels are missing, too. *profile* goes to
    rasterio, UTM pixels of 10 m are the default.

    Returns the positions of the two bands, their numbers and where they are missing.
    """
    rng = np.random.default_rng(0)
    numbers = rng.integers(10, 60, (2, SIZE, SIZE)).astype(dtype)
    missing = np.zeros(numbers.shape, bool)
    values = [100, 101]
    if 'nodata' in ways:
        # of one band only
        numbers[0, :2, :2], missing[0, :2, :2] = 99, True
        profile['nodata'] = 99
    if 'NODATA_VALUES' in ways:
        numbers[:, 2:4, 2:4], missing[:, 2:4, 2:4] = [[[100]], [[101]]], True
        # both bands must have their value
        numbers[0, 2:4, :2] = 100
    bands, alpha, layers = [0, 1], None, numbers
    for way in ways:
        if way.startswith('alpha'):
            alpha = int(way[-1])
            opacity = np.full((SIZE, SIZE), 255, dtype if dtype != 'int8' else np.int8)
            opacity[4:6, 4:6], missing[:, 4:6, 4:6] = 0, True
            layers = np.insert(numbers, alpha, opacity, axis=0)
            bands = [i for i in range(3) if i != alpha]
            values.insert(alpha, 255)
    profile = {'crs': 'EPSG:32633', 'transform': UTM} | profile
    shape = {'count': len(layers), 'height': SIZE, 'width': SIZE, 'dtype': dtype}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK='inside' in ways),
        rasterio.open(path, 'w', 'GTiff', **shape, **profile) as file,
    ):
        if alpha is not None:
            colours = [ColorInterp.gray, *[ColorInterp.undefined] * 2]
            colours[alpha] = ColorInterp.alpha
            file.colorinterp = colours
        file.write(layers)
        if {'inside', 'msk'} & {*ways}:
            valid = np.ones((SIZE, SIZE), bool)
            valid[6:, :2], missing[:, 6:, :2] = False, True
            file.write_mask(valid)
        if 'NODATA_VALUES' in ways:
            file.update_tags(NODATA_VALUES=' '.join(map(str, values)))
    return bands, numbers.astype(np.float64), missing
