# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.errors import SettingError, UnitError
from torchgeo_discomkd.rasters.scale import (
    check_scale,
    convert_scale,
    guess_scale,
    to_unit,
)

RNG = np.random.default_rng(0)
#: Land in dB, VV and VH.
DB = RNG.normal([[[-11]], [[-18]]], 3, (2, 32, 32)).astype(np.float32)
POWER = (10 ** (DB.astype(np.float64) / 10)).astype(np.float32)
#: Digital numbers of a detected image.
NUMBERS = RNG.integers(20, 900, (2, 32, 32)).astype(np.float32)


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
def test_db_stays_db(scale: str) -> None:
    assert np.array_equal(to_unit(DB, scale, 'dB', 'a.tif'), DB)


@pytest.mark.parametrize('scale', ['auto', 'linear'])
def test_linear_becomes_db(scale: str) -> None:
    assert np.allclose(to_unit(POWER, scale, 'dB', 'a.tif'), DB, atol=1e-4)


@pytest.mark.parametrize('scale', ['auto', 'db'])
def test_db_becomes_linear(scale: str) -> None:
    assert np.allclose(to_unit(DB, scale, 'linear', 'a.tif'), POWER, rtol=1e-5)


@pytest.mark.parametrize('unit', ['dB', 'linear'])
def test_contradictions(unit: str) -> None:
    with pytest.raises(UnitError, match=r'a\.tif is said to be in dB, but .*linear'):
        to_unit(POWER, 'db', unit, 'a.tif')
    with pytest.raises(UnitError, match=r'a\.tif is said to be linear .* as dB do'):
        to_unit(DB, 'linear', unit, 'a.tif')
    with pytest.raises(UnitError, match=r'a\.tif is neither .* calibrate'):
        to_unit(NUMBERS, 'auto', unit, 'a.tif')


def test_other_units_are_left_alone() -> None:
    check_scale('auto', 'unknown')
    assert to_unit(NUMBERS, 'auto', 'unknown', 'a.tif') is NUMBERS
    with pytest.raises(SettingError, match="in the unit 'unknown'"):
        check_scale('db', 'unknown')
    with pytest.raises(SettingError, match="scale='dB': use 'auto'"):
        check_scale('dB', 'dB')


def test_nothing_but_missing_pixels() -> None:
    image = np.full((2, 3, 3), np.nan, np.float32)
    assert np.isnan(to_unit(image, 'auto', 'dB', 'a.tif')).all()
    assert np.isnan(to_unit(image, 'linear', 'dB', 'a.tif')).all()
