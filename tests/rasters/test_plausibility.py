# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.errors import UnitError
from torchgeo_discomkd.rasters.decoding import missing_to_nan
from torchgeo_discomkd.rasters.plausibility import (
    CLASSIFY,
    check_backscatter,
    limits,
    options_of,
    repeated_value,
    to_check,
)
from torchgeo_discomkd.rasters.scale import convert_scale

BANDS = ('VV', 'VH')
RNG = np.random.default_rng(0)
#: 100 x 100 pixels in dB.
DB = RNG.normal([[[-11]], [[-18]]], 3, (2, 100, 100)).astype(np.float32)
POWER = 10 ** (DB / 10)


def with_value(value: float, share: float, band: int = 0) -> NDArray[np.float32]:
    """Return :data:`DB` where the first part of a band has a value."""
    image = DB.copy()
    image[band].reshape(-1)[: round(share * DB[band].size)] = value
    return image


def test_limits() -> None:
    assert limits('dB') == (-60, 30)
    low, high = limits('linear')
    assert (low, high) == (-1, 1000)
    assert limits('reflectance') == (-np.inf, np.inf)


@pytest.mark.parametrize('unit', ['dB', 'linear'])
def test_backscatter_is_possible(unit: str) -> None:
    image = DB if unit == 'dB' else POWER
    assert check_backscatter(image, image, unit, BANDS) == []


@pytest.mark.parametrize('value', [-60.1, 30.1, -9999, 1e30])
def test_one_percent_may_be_outside(value: float) -> None:
    image = with_value(value, 0.01, band=1)
    assert check_backscatter(image, image, 'dB', BANDS) == []
    assert check_backscatter(image, image, 'DN', BANDS) == []
    image = with_value(value, 0.0101, band=1)
    message = r'VH, 1 %, are outside -60 to 30 dB'
    with pytest.raises(UnitError, match=message):
        check_backscatter(image, image, 'dB', BANDS)
    assert check_backscatter(image, image, 'DN', BANDS) == []


@pytest.mark.parametrize(('value', 'outside'), [(-60, False), (30, False), (31, True)])
def test_limits_are_possible(value: float, outside: bool) -> None:
    image = with_value(value, 0.02)
    error = pytest.raises(UnitError) if outside else nullcontext()
    with error:
        assert check_backscatter(image, image, 'dB', BANDS) == []


def test_missing_pixels_do_not_count() -> None:
    image = with_value(np.nan, 0.5)
    image[0, 50, :60] = 99
    # 60 of 5000
    with pytest.raises(UnitError, match='VV, 1 %, are outside'):
        check_backscatter(image, image, 'dB', BANDS)
    assert check_backscatter(image * np.nan, image * np.nan, 'dB', BANDS) == []


@pytest.mark.parametrize(
    ('raw', 'option'),
    [
        (with_value(-9999, 0.3), '30 % are -9999, .* add --nodata=-9999'),
        (np.rint(100 * DB), 'dB times 100, .* add --scale db_x100'),
        (np.rint(30 * DB), 'dB times 10, .* add --scale db_x10'),
        (DB * np.float32(-1e5), r'Calibrate .* state its unit: --scale'),
    ],
)
def test_likely_cause(raw: NDArray[np.float32], option: str) -> None:
    with pytest.raises(UnitError, match=option) as error:
        check_backscatter(raw, raw, 'dB', BANDS)
    low, high = np.percentile(raw[0], (25, 75))
    assert f'half of the band is between {low:.4g} and {high:.4g}' in str(error.value)


def test_power_is_checked_in_db() -> None:
    """As power, these values would be possible."""
    for raw, cause in (
        (with_value(-9999, 0.3), '--nodata=-9999'),
        (np.rint(100 * DB), '--scale db_x100'),
    ):
        values = convert_scale(raw, 'dB', 'linear')
        with pytest.raises(UnitError, match=cause):
            check_backscatter(raw, *to_check(raw, 'dB', values, 'linear'), BANDS)
    values, unit = to_check(POWER, 'linear', POWER, 'linear')
    assert values is POWER
    assert unit == 'linear'
    values, unit = to_check(np.rint(100 * DB), 'db_x100', POWER, 'linear')
    assert np.allclose(values, DB, atol=0.006)
    assert unit == 'dB'


def test_options_of_a_data_set() -> None:
    raw = with_value(-9999, 0.3)
    message = re.escape("add --data.nodata '{s1: -9999}'")
    with pytest.raises(UnitError, match=message):
        check_backscatter(raw, raw, 'dB', BANDS, options_of('s1'))
    raw = np.rint(100 * DB)
    message = re.escape("add --data.units '{s1: db_x100}'")
    with pytest.raises(UnitError, match=message):
        check_backscatter(raw, raw, 'dB', BANDS, options_of('s1'))
    assert CLASSIFY.nodata('-1') == '--nodata=-1'


def test_value_in_the_file() -> None:
    """The option takes the number in the file, not the value that it stands for."""
    linear = POWER.copy()
    linear[0, :20] = np.float32(0.01)
    [doubt] = check_backscatter(
        linear, convert_scale(linear, 'linear', 'dB'), 'dB', BANDS
    )
    assert doubt.startswith('20 % of VV have the same value, 0.01 (')
    # numbers -150 with scale 0.1 and offset -2
    [doubt] = check_backscatter(
        *[with_value(-17, 0.06, band=1)] * 2, 'dB', BANDS, scaling={1: (0.1, -2.0)}
    )
    assert doubt.startswith('6 % of VH have the same value, -150 (')
    assert doubt.endswith('add --nodata=-150)')


@pytest.mark.parametrize(('share', 'found'), [(0.049, False), (0.052, True)])
def test_share_of_a_repeated_value(share: float, found: bool) -> None:
    values = with_value(-30, share)[0].ravel()
    expected = (-30.0, pytest.approx(share, abs=1e-4)) if found else None
    assert repeated_value(values) == expected


@pytest.mark.parametrize(
    'values',
    [
        np.zeros(0),
        np.zeros(1),
        # quantised: grey, whole dB, a few levels
        RNG.integers(0, 256, 5000),
        np.clip(RNG.normal(100, 30, 5000), 0, 255).astype(np.uint8),
        np.rint(DB[0]).ravel(),
    ],
)
def test_not_repeated(values: NDArray[np.generic]) -> None:
    assert repeated_value(values.astype(np.float32)) is None


@pytest.mark.parametrize('count', [2, 3000])
def test_one_value_only(count: int) -> None:
    assert repeated_value(np.full(count, 7, np.float32)) == (7, 1)


@pytest.mark.parametrize('value', [-9999, -32768, np.finfo(np.float32).min])
@pytest.mark.parametrize('share', [0.02, 0.04, 0.3])
@pytest.mark.parametrize('image', [DB, POWER])
def test_advice_of_any_fill_value_works(
    image: NDArray[np.float32], share: float, value: float
) -> None:
    filled = image.copy()
    filled[0].reshape(-1)[: round(share * filled[0].size)] = value
    with pytest.raises(UnitError, match=r'add --nodata=\S+\.$') as caught:
        check_backscatter(filled, filled, 'dB', BANDS)
    stated = float(str(caught.value).rpartition('=')[2].removesuffix('.'))
    present = missing_to_nan(filled, stated)
    assert check_backscatter(present, present, 'dB', BANDS) == []


def test_values_outside_that_differ_are_no_fill_value() -> None:
    image = DB.copy()
    image[0, :3] = RNG.normal(-70, 1, (3, 100))
    with pytest.raises(UnitError, match='Calibrate the image'):
        check_backscatter(image, image, 'dB', BANDS)
