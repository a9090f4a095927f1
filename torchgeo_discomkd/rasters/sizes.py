# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Fit a tile to the size of a classifier by cropping or padding, not resampling."""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import TileSizeError

#: Maximum number of pixels in a tile: a larger image is a scene.
MAX_PIXELS = 2048 * 2048

#: Up to this multiple of the classifier's size a tile is cropped.
MAX_CROP = 1.25


def check_pixels(height: int, width: int) -> None:
    """Refuse an image that is too large for a tile.

    Args:
        height: Its number of rows.
        width: Its number of columns.

    Raises:
        TileSizeError: If it has more than 2048 x 2048 pixels.
    """
    if height * width > MAX_PIXELS:
        raise TileSizeError(
            f'The image has {height} x {width} pixels, which is a scene rather than a '
            'tile: classify it with --output map.tif.'
        )


def fit_size(
    image: NDArray[np.float32], size: tuple[int, int] | None
) -> NDArray[np.float32]:
    """Crop or pad a tile to the size of a classifier.

    Rows and columns are treated separately. If the tile is

    * smaller, missing pixels are added at the bottom and on the right;
    * larger by at most a quarter, its centre is cropped;
    * larger still, it is covered from edge to edge by the fewest evenly spaced windows
      of the size; the probabilities of a tile are the mean over its windows. Windows
      without a single valid pixel are dropped.

    Args:
        image: Shape (C, H, W), missing pixels NaN.
        size: Height and width h, w that the classifier takes; None if it takes any.

    Returns:
        Windows, float32, shape (N, C, h, w); N is 0 if all pixels are missing.
    """
    size = size or (image.shape[1], image.shape[2])
    missing = [
        (0, max(0, wanted - length))
        for length, wanted in zip(image.shape[1:], size, strict=True)
    ]
    if any(after for _, after in missing):
        image = np.pad(image, [(0, 0), *missing], constant_values=np.nan)
    rows, columns = map(_starts, image.shape[1:], size)
    windows = np.stack(
        [image[:, y : y + size[0], x : x + size[1]] for y in rows for x in columns]
    )
    return windows[np.isfinite(windows).any(axis=(1, 2, 3))]


def _starts(length: int, size: int) -> list[int]:
    if length <= MAX_CROP * size:
        return [(length - size) // 2]
    count = math.ceil(length / size)
    return [round(i * (length - size) / (count - 1)) for i in range(count)]
