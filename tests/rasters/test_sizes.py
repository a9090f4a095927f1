# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.errors import TileSizeError
from torchgeo_discomkd.rasters.sizes import check_pixels, fit_size


def image(height: int, width: int) -> NDArray[np.float32]:
    """Return different values everywhere."""
    return np.arange(2 * height * width, dtype=np.float32).reshape(2, height, width)


def test_right_size() -> None:
    assert np.array_equal(fit_size(image(8, 6), (8, 6)), image(8, 6)[None])
    assert np.array_equal(fit_size(image(8, 6), None), image(8, 6)[None])


def test_smaller_is_padded_below_and_on_the_right() -> None:
    windows = fit_size(image(5, 3), (8, 6))
    assert windows.shape == (1, 2, 8, 6)
    assert np.array_equal(windows[0, :, :5, :3], image(5, 3))
    assert np.isnan(windows[0, :, 5:]).all()
    assert np.isnan(windows[0, :, :, 3:]).all()


def test_little_larger_is_cropped() -> None:
    windows = fit_size(image(10, 9), (8, 8))
    assert np.array_equal(windows, image(10, 9)[None, :, 1:9, 0:8])


def test_larger_is_covered_by_windows() -> None:
    tile = image(20, 8)
    windows = fit_size(tile, (8, 8))
    assert np.array_equal(
        windows, [tile[:, 0:8], tile[:, 6:14], tile[:, 12:20]], equal_nan=True
    )
    tile = image(16, 11)
    windows = fit_size(tile, (8, 8))
    corners = [(0, 0), (0, 3), (8, 0), (8, 3)]
    expected = [tile[:, y : y + 8, x : x + 8] for y, x in corners]
    assert np.array_equal(windows, expected)


def test_long_and_narrow() -> None:
    tile = image(4, 16)
    windows = fit_size(tile, (8, 8))
    assert windows.shape == (2, 2, 8, 8)
    assert np.array_equal(windows[1, :, :4], tile[:, :, 8:])
    assert np.isnan(windows[:, :, 4:]).all()


def test_empty_windows_are_left_out() -> None:
    tile = image(16, 16)
    tile[:, :8] = np.nan
    tile[:, 12, 12] = np.nan
    windows = fit_size(tile, (8, 8))
    expected = [tile[:, 8:, :8], tile[:, 8:, 8:]]
    assert np.array_equal(windows, expected, equal_nan=True)
    tile = np.full((2, 10, 8), np.nan, np.float32)
    tile[:, 0] = 1
    assert fit_size(tile, (8, 8)).shape == (0, 2, 8, 8)


def test_scene() -> None:
    check_pixels(2048, 2048)
    check_pixels(4096, 1024)
    with pytest.raises(TileSizeError, match='2048 x 2049 pixels, which is a scene'):
        check_pixels(2048, 2049)
