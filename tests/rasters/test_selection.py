# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Sequence

import pytest

from torchgeo_discomkd.errors import BandError
from torchgeo_discomkd.rasters.selection import named_bands, select_bands

SAR = ('VV', 'VH')
MS = tuple(f'B{i:02d}' for i in range(1, 14))


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


def test_named() -> None:
    assert named_bands(('VH', 'VV'), SAR)
    assert not named_bands(('VH', 'other'), SAR)
    assert not named_bands(None, SAR)
