# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tests.classify.scene.scenes import UTM
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.metadata import ImageProfile
from torchgeo_discomkd.rasters.doubts import (
    check_profile,
    describe_file,
    describe_files,
    describe_unit,
    doubt_pixel_size,
    doubt_values,
)
from torchgeo_discomkd.rasters.opening import open_raster
from torchgeo_discomkd.rasters.scale import Unit

from .masked import write_masked
from .test_pixel_size import UTM_33
from .test_unusual import BANDS, PROFILE

LOCATED = replace(PROFILE, pixel_size=10.0)
PATTERN = np.where(np.arange(64) % 2, 1, -1).reshape(8, 8)


def windows(usual: int, unusual: int, missing: int = 0) -> NDArray[np.float32]:
    """Return so many windows that are usual, with a low VV, and missing."""
    window = np.stack([-11 + 3 * PATTERN, -18 + 2.95 * PATTERN]).astype(np.float32)
    low, nothing = window.copy(), window * np.float32(np.nan)
    low[0] -= 50
    parts = [window] * usual + [low] * unusual + [nothing] * missing
    return np.stack(parts)


@pytest.mark.parametrize(
    ('usual', 'unusual', 'missing', 'doubt'),
    [
        (1, 0, 0, None),
        (0, 1, 0, 'VV mean -61, in training -19 to -6'),
        (0, 1, 5, 'VV mean -61, in training -19 to -6'),
        # a tenth of the windows, and at least two
        (4, 1, 0, None),
        (18, 2, 0, None),
        (17, 2, 0, '11 % of the windows are unusual (VV mean -61, in'),
        (17, 2, 40, '11 % of the windows are unusual (VV mean -61, in'),
        (0, 4, 0, '100 % of the windows are unusual'),
        (0, 0, 3, None),
    ],
)
def test_share_of_unusual_windows(
    usual: int, unusual: int, missing: int, doubt: str | None
) -> None:
    found = doubt_values(windows(usual, unusual, missing), BANDS, PROFILE)
    assert len(found) == (doubt is not None)
    assert all(text.startswith(doubt or '') for text in found)
    assert doubt_values(windows(usual, unusual, missing), BANDS, None) == []


@pytest.mark.parametrize(
    ('size', 'doubts'),
    [
        (8.0, []),
        (12.5, []),
        (30.0, ['pixels of 30 m, in training 10 m']),
        (7.9, ['pixels of 7.9 m, in training 10 m']),
    ],
)
def test_pixel_size(size: float, doubts: list[str]) -> None:
    transform = UTM @ UTM.scale(size / 10)
    assert doubt_pixel_size(UTM_33, transform, (8, 8), LOCATED) == doubts
    for profile in (None, PROFILE):
        assert doubt_pixel_size(UTM_33, transform, (8, 8), profile) == []
    assert doubt_pixel_size(None, transform, (8, 8), LOCATED) == []


@pytest.mark.parametrize(
    ('profile', 'strict', 'resample', 'message'),
    [
        (None, True, False, 'strict=True: .* train again'),
        (None, False, True, 'resample=True: .* train again'),
        (PROFILE, True, True, 'resample=True: .* how large the pixels'),
    ],
)
def test_profile_that_is_needed(
    profile: ImageProfile | None, strict: bool, resample: bool, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        check_profile(profile, strict, resample)
    check_profile(profile, False, False)
    check_profile(LOCATED, strict, resample)


def test_description_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_masked(path, ['nodata', 'inside'], 'int16')
    with rasterio.open(path, 'r+') as file:
        file.scales, file.offsets = (0.01, 0.1), (0, -3)
    with rasterio.open(path) as file:
        assert describe_file(file, [0], True, None) == [
            'bands by name',
            'scale 0.01 from the file',
            'nodata 99 from the file',
            'mask from the file',
        ]
        assert describe_file(file, [1], False, -1, 10.0) == [
            'bands by order',
            'scale 0.1 and offset -3 from the file',
            'nodata 99 from the file',
            'mask from the file',
            'nodata -1 as stated',
            'pixels of 10 m',
        ]


def test_description_of_files_names_the_bands_that_differ() -> None:
    vv, vh = ['bands by name', 'nodata -9999'], ['bands by name', 'scale 0.01']
    assert describe_files(('VV', 'VH'), [vv, vh]) == [
        'one file for each band',
        'VV: nodata -9999',
        'VH: scale 0.01',
    ]
    assert describe_files(('VV', 'VH'), [vv, vv]) == [
        'one file for each band',
        'nodata -9999',
    ]


@pytest.mark.parametrize('way', ['inside', 'msk', 'alpha2', 'NODATA_VALUES'])
def test_description_of_a_mask(tmp_path: Path, way: str) -> None:
    bands, _, _ = write_masked(tmp_path / 'a.tif', [way], 'int16')
    with open_raster(tmp_path / 'a.tif') as file:
        parts = describe_file(file, bands, False, None)
    assert parts == ['bands by order', 'mask from the file']


@pytest.mark.parametrize(
    ('given', 'unit', 'stated', 'text'),
    [
        ('dB', 'dB', False, 'dB by its values'),
        ('linear', 'dB', False, 'linear power by its values, converted to dB'),
        ('db_x100', 'dB', True, 'dB x 100 as stated, converted to dB'),
        ('amplitude', 'linear', True, 'amplitude as stated, converted to linear power'),
        (None, '', False, 'values taken as they are (unknown)'),
        (None, 'reflectance', False, 'values taken as they are (reflectance)'),
    ],
)
def test_description_of_a_unit(
    given: Unit | None, unit: str, stated: bool, text: str
) -> None:
    assert describe_unit(given, unit, stated) == text
