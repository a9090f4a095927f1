# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest

from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.datasets.encoding import (
    Encoding,
    assume_unit,
    looks_like_sar,
    make_encoding,
)

from .radar import Encode, Values, amplitude, backscatter, filled, grey, power, times

DECIBELS = np.linspace(-35, 5, 81)


@pytest.mark.parametrize(
    ('unit', 'numbers'),
    [
        ('amplitude', 10 ** (DECIBELS / 20)),
        ('db_x10', 10 * DECIBELS),
        ('db_x100', 100 * DECIBELS),
    ],
)
def test_decoded_to_decibels(unit: str, numbers: Values) -> None:
    encoding = Encoding(unit)
    assert encoding.sample_unit == 'dB'
    decoded = encoding.decode(numbers.astype(np.float32))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, DECIBELS, rtol=1e-5, atol=1e-5)
    found = [encoding.encode(value) for value in DECIBELS.tolist()]
    np.testing.assert_allclose(found, numbers, rtol=1e-12)
    assert str(encoding) == f'unit {unit}, converted to dB'


@pytest.mark.parametrize('unit', ['dB', 'linear', 'unknown', 'reflectance'])
def test_other_units_are_kept(unit: str) -> None:
    encoding, image = Encoding(unit), np.float32([[0.5, np.nan]])
    assert encoding.sample_unit == unit
    assert encoding.decode(image) is image
    assert encoding.encode(-3.5) == -3.5
    assert str(encoding) == f'unit {unit}'


def test_no_amplitude_is_missing() -> None:
    found = Encoding('amplitude').decode(np.float32([0, -1, 1, np.nan]))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 0, np.nan])


@pytest.mark.parametrize(
    ('given', 'unit'),
    [
        (None, 'unknown'),
        ('DB', 'dB'),
        (' db ', 'dB'),
        ('Linear', 'linear'),
        ('AMPLITUDE', 'amplitude'),
        ('DB_x100', 'db_x100'),
        ('Kelvin', 'Kelvin'),
    ],
)
def test_words_for_units(given: str | None, unit: str) -> None:
    assert make_encoding(given, None) == Encoding(unit)


def test_text_says_what_is_assumed() -> None:
    text = str(Encoding('dB', nodata=-9999, assumed=True))
    assert text == (
        'unit dB (assumed from the values: state it with units); nodata -9999'
    )


def test_text_tells_all_numbers_apart() -> None:
    # it is part of the name of stored statistics
    numbers = [1234567, 1234568, -9999.125, -9999.13, 4294967295, -3.4028235e38]
    texts = {str(Encoding(nodata=number)) for number in numbers}
    assert len(texts) == len(numbers)


@pytest.mark.parametrize(
    ('modality', 'bands', 'expected'),
    [
        ('x', ['VV', 'VH'], True),
        ('x', ['Sigma0_VV_db', 'MS1_IVH'], True),
        ('x', ['VV', 'B2'], True),
        ('sar', ['B1', 'B2'], True),
        ('EuroSAT-SAR', ['B1', 'B2'], True),
        ('Sentinel-1', ['B1', 'B2'], True),
        ('s1_grd', ['B1'], True),
        ('Sentinel-2', ['B1', 'B2'], False),
        ('x', ['B1', 'B2'], False),
        ('sarcasm', ['B1', 'B2'], False),
        ('sar', ['VV', 'VH', 'angle'], False),
        ('sar', ['B4', 'B8'], False),
        ('sar', ['red', 'green'], False),
    ],
)
def test_what_looks_like_sar(modality: str, bands: list[str], expected: bool) -> None:
    assert looks_like_sar(modality, bands) == expected


def encoded(encode: Encode, dtype: str = 'float32') -> list[np.ndarray]:
    return [encode(v).astype(dtype).astype(np.float32) for v in backscatter()[:4]]


@pytest.mark.parametrize(
    ('encode', 'dtype', 'unit'),
    [
        (times(1), 'float32', 'dB'),
        (filled(np.nan, 9), 'float32', 'dB'),
        (filled(-9999, 9), 'float32', 'dB'),
        # more than half of the pixels are not measured
        (filled(0, 9), 'float32', 'dB'),
        # the check of the statistics names the factor
        (times(100), 'int16', 'dB'),
        (power, 'float32', 'linear'),
        # amplitude cannot be told apart from power
        (lambda v: amplitude(v - 5), 'float32', 'linear'),
        (lambda v: filled(0, 9)(power(v)), 'float32', 'linear'),
        (lambda v: 1000 * amplitude(v), 'uint16', 'unknown'),
        (grey, 'uint8', 'unknown'),
        (lambda v: grey(v) / 255, 'float32', 'unknown'),
        # standardised
        (lambda v: (v + 13) / 4, 'float32', 'unknown'),
        (times(np.nan), 'float32', 'unknown'),
        (times(0), 'float32', 'unknown'),
    ],
)
def test_assumed_unit(encode: Encode, dtype: str, unit: str) -> None:
    assert assume_unit(encoded(encode, dtype)) == unit


def test_one_band_that_is_no_backscatter() -> None:
    images = [np.concatenate([i, np.full_like(i[:1], 39.5)]) for i in encoded(times(1))]
    assert assume_unit(images) == 'unknown'


@pytest.mark.parametrize(
    ('data', 'folder', 'unit'),
    [('sen1floods11_pairs', 'S1_SAR', 'dB'), ('volkov_pairs', 'S1', 'unknown')],
)
def test_real_tiles(real_data: Path, data: str, folder: str, unit: str) -> None:
    dataset = PairedFolders(
        str(real_data / data), folders={'sar': folder}, missing='keep'
    )
    assert dataset.units == {'sar': unit}
