# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.errors import SettingError, UnitError
from torchgeo_discomkd.rasters.scale import (
    Scale,
    check_scale,
    check_unit,
    convert_scale,
    find_unit,
    guess_scale,
)

RNG = np.random.default_rng(0)
#: Land in dB, VV and VH.
DB = RNG.normal([[[-11]], [[-18]]], 3, (2, 32, 32)).astype(np.float32)
POWER = (10 ** (DB.astype(np.float64) / 10)).astype(np.float32)
#: Digital numbers of a detected image.
NUMBERS = RNG.integers(20, 900, (2, 32, 32)).astype(np.float32)


def to_unit(image: NDArray[np.float32], scale: Scale, unit: str) -> NDArray[np.float32]:
    """Convert an image to the unit of a classifier, as readers do."""
    return convert_scale(image, find_unit(image, scale, unit, 'a.tif'), unit)


def test_values_by_hand() -> None:
    power = np.array([[[1, 0.1, 100]]], np.float32)
    db = np.array([[[0, -10, 20]]], np.float32)
    assert np.allclose(convert_scale(power, 'linear', 'dB'), db)
    assert np.allclose(convert_scale(db, 'dB', 'linear'), power)
    assert convert_scale(db, 'dB', 'linear').dtype == np.float32
    assert convert_scale(power, 'linear', 'dB').dtype == np.float32
    assert convert_scale(db, 'dB', 'dB') is db


def test_power_that_has_no_db_is_missing() -> None:
    power = np.array([[[0, -0.001, np.nan, 1]]], np.float32)
    db = convert_scale(power, 'linear', 'dB')
    assert np.array_equal(db, [[[np.nan, np.nan, np.nan, 0]]], equal_nan=True)


def test_there_and_back() -> None:
    back = convert_scale(convert_scale(DB, 'dB', 'linear'), 'linear', 'dB')
    assert np.allclose(back, DB, atol=1e-4)


def noisy_water() -> NDArray[np.float32]:
    """Return linear power from which noise was removed: a fifth is negative."""
    return RNG.normal(0.004, 0.005, (2, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ('image', 'unit'),
    [
        (DB, 'dB'),
        (np.round(DB), 'dB'),
        (POWER, 'linear'),
        (noisy_water(), 'linear'),
        (np.zeros((2, 4, 4), np.float32), 'linear'),
        (NUMBERS, None),
        (np.array([[[1, 2, 3, 30]]], np.float32), None),
        (np.full((2, 4, 4), np.nan, np.float32), None),
    ],
)
def test_guess(image: NDArray[np.float32], unit: str | None) -> None:
    assert guess_scale(image) == unit
    holes = np.where(RNG.random(image.shape) < 0.3, np.float32(np.nan), image)
    assert guess_scale(holes) == unit


@pytest.mark.parametrize('scale', ['auto', 'db'])
def test_db_stays_db(scale: Scale) -> None:
    assert np.array_equal(to_unit(DB, scale, 'dB'), DB)


@pytest.mark.parametrize('scale', ['auto', 'linear'])
def test_linear_becomes_db(scale: Scale) -> None:
    assert np.allclose(to_unit(POWER, scale, 'dB'), DB, atol=1e-4)


@pytest.mark.parametrize('scale', ['auto', 'linear'])
def test_noise_removal_leaves_negative_power(scale: Scale) -> None:
    image = noisy_water()
    assert np.percentile(image, 2) < 0
    assert to_unit(image, scale, 'linear') is image
    assert np.array_equal(np.isnan(to_unit(image, scale, 'dB')), image <= 0)


@pytest.mark.parametrize('scale', ['auto', 'db'])
def test_db_becomes_linear(scale: Scale) -> None:
    assert np.allclose(to_unit(DB, scale, 'linear'), POWER, rtol=1e-5)


@pytest.mark.parametrize('unit', ['dB', 'linear'])
def test_contradictions(unit: str) -> None:
    with pytest.raises(UnitError, match=r'a\.tif is said to be in dB, but .*linear'):
        to_unit(POWER, 'db', unit)
    with pytest.raises(
        UnitError, match=r'a\.tif is said to be linear .* like values in'
    ):
        to_unit(DB, 'linear', unit)
    with pytest.raises(UnitError, match=r'a\.tif is neither .* calibrate'):
        to_unit(NUMBERS, 'auto', unit)


def test_other_units_are_left_alone() -> None:
    check_scale('auto', 'unknown')
    assert to_unit(NUMBERS, 'auto', 'unknown') is NUMBERS
    with pytest.raises(SettingError, match="in the unit 'unknown'"):
        check_scale('db', 'unknown')
    with pytest.raises(SettingError, match="scale='dB': use one of auto"):
        check_scale('dB', 'dB')


def test_nothing_but_missing_pixels() -> None:
    image = np.full((2, 3, 3), np.nan, np.float32)
    assert np.isnan(to_unit(image, 'auto', 'dB')).all()
    assert np.isnan(to_unit(image, 'linear', 'dB')).all()


@pytest.mark.parametrize(
    ('minimum', 'maximum', 'unit'),
    [(-25, 3, 'dB'), (-1e-9, 3, 'dB'), (-0.02, 4, 'linear'), (-5, 9, 'unknown')],
)
def test_plausible(minimum: float, maximum: float, unit: str) -> None:
    check_unit(minimum, maximum, unit, 'x')


def test_linear_power_where_db_is_expected() -> None:
    with pytest.raises(UnitError, match=r'Band VV is said to be in dB, but .* 0\.01'):
        check_unit(0.01, 0.4, 'dB', 'Band VV')
    with pytest.raises(UnitError, match='10 \\* log10'):
        check_unit(0, 0.4, 'dB', 'Band VV')


def test_db_where_linear_power_is_expected() -> None:
    with pytest.raises(UnitError, match=r'Band VV is said to be linear .* -20 to 1'):
        check_unit(-20, 1, 'linear', 'Band VV')


@pytest.mark.parametrize(
    ('minimum', 'maximum', 'unit', 'advice'),
    [
        (-29.6, -4.3, 'db_x100', "state the unit 'dB'"),
        (20, 383, 'dB', 'like digital numbers: calibrate'),
        (-9999, 0.4, 'linear', 'if it stands for missing pixels'),
        (-9999, 0.4, 'amplitude', 'if it stands for missing pixels'),
        (-0.02, 0.4, 'amplitude', 'like values in dB'),
    ],
)
def test_advice_for_a_wrong_unit(
    minimum: float, maximum: float, unit: str, advice: str
) -> None:
    with pytest.raises(UnitError, match=advice):
        check_unit(minimum, maximum, unit, 'x')
