# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Sequence

import pytest

from torchgeo_discomkd.errors import BandError
from torchgeo_discomkd.rasters.selection import named_bands, select_bands

SAR = ('VV', 'VH')
MS = tuple(f'B{i:02d}' for i in range(1, 14))

#: Sentinel-2 L1C in the order of EuroSAT, and in that of ESA.
EUROSAT = (*(f'B{i:02d}' for i in range(1, 13)), 'B8A')
L1C = (*MS[:8], 'B8A', *MS[8:12])


@pytest.mark.parametrize(
    ('descriptions', 'count', 'positions'),
    [
        (('VV', 'VH'), 2, [0, 1]),
        (('VH', 'VV'), 2, [1, 0]),
        (('vh', 'angle', 'vv'), 3, [2, 0]),
        (('Sigma0_VH_db', 'Sigma0_VV_db'), 2, [1, 0]),
        (('VV', 'VH', 'VV_VH ratio'), 3, [0, 1]),
        (('Band 1', 'Band 2'), 2, [0, 1]),
        (None, 2, [0, 1]),
    ],
)
def test_by_name_or_by_order(
    descriptions: tuple[str, ...] | None, count: int, positions: list[int]
) -> None:
    assert select_bands(descriptions, count, SAR) == positions


@pytest.mark.parametrize(
    ('descriptions', 'count', 'message'),
    [
        (None, 1, r'has 1 band, but the classifier needs 2 \(VV, VH\)'),
        (None, 3, 'has 3 bands, but the classifier needs 2'),
        (MS, 13, r'has 13 bands \(B01, .*B13\), but .*--bands'),
        (('VV', 'HV'), 2, r'has 2 bands \(VV, HV\)'),
        (('VV_VH', 'other'), 2, 'has 2 bands'),
        (('VV_asc', 'VV_desc', 'VH'), 3, 'has 3 bands'),
    ],
)
def test_missing_bands(
    descriptions: tuple[str, ...] | None, count: int, message: str
) -> None:
    with pytest.raises(BandError, match=message):
        select_bands(descriptions, count, SAR)


@pytest.mark.parametrize(
    ('descriptions', 'override', 'positions'),
    [
        (None, ['2', '1'], [1, 0]),
        (('VV', 'VH', 'x'), ['3', '1'], [2, 0]),
        (('a', 'b', 'c'), ['C', 'a'], [2, 0]),
        (('2', '1', 'c'), ['2', '1'], [0, 1]),
    ],
)
def test_override(
    descriptions: tuple[str, ...] | None, override: Sequence[str], positions: list[int]
) -> None:
    assert select_bands(descriptions, 3, SAR, override) == positions


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        (['1'], 'lists 1, but the classifier needs 2'),
        (['0', '1'], "no band '0': .* from 1 to 3"),
        (['1', '4'], "no band '4'"),
        (['VV', '1'], "no band 'VV': The file has 3 bands. Use"),
    ],
)
def test_wrong_override(override: Sequence[str], message: str) -> None:
    with pytest.raises(BandError, match=message):
        select_bands(None, 3, SAR, override)


def numbers(count: int) -> list[str]:
    """Return the names that a data set without names gives to its bands."""
    return [f'B{i}' for i in range(1, count + 1)]


@pytest.mark.parametrize('names', [EUROSAT, L1C, (*numbers(12), 'x'), numbers(13)])
def test_numbered_bands_are_taken_by_order(names: Sequence[str]) -> None:
    assert select_bands(names, 13, numbers(13)) == [*range(13)]
    assert select_bands((*names, 'mask'), 14, numbers(13), alpha=[13]) == [*range(13)]


@pytest.mark.parametrize(
    ('names', 'count', 'message'),
    [
        # these are not the first four bands of the training tiles
        (EUROSAT, 4, r'has 13 bands .* needs 4 \(B1, B2, B3, B4, numbers by position'),
        (L1C, 12, 'or state which ones to use with --bands'),
        # one of the two orders is wrong
        (('B3', 'B2', 'B1'), 3, 'add --bands 1,2,3 if the names are wrong'),
    ],
)
def test_numbers_are_no_names_of_a_sensor(
    names: Sequence[str], count: int, message: str
) -> None:
    with pytest.raises(BandError, match=message):
        select_bands(names, len(names), numbers(count))


def test_names_of_a_sensor_that_begin_with_b1() -> None:
    trained = ('B1', 'B2', 'B8A')
    assert select_bands(L1C, 13, trained) == [0, 1, 8]
    assert select_bands(L1C, 13, trained[:1], trained=trained) == [0]
    with pytest.raises(BandError, match=r'\(B04\), but the classifier needs 1 \(B1\)'):
        select_bands(('B04',), 1, trained[:1], trained=trained)
    # one file for each band of a classifier whose bands are numbered
    assert select_bands(('B04',), 1, ['B2'], trained=numbers(3)) == [0]


def test_named() -> None:
    assert named_bands(('VH', 'VV'), SAR)
    assert not named_bands(('VH', 'other'), SAR)
    assert not named_bands(None, SAR)
