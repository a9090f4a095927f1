# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Sequence

import pytest

from torchgeo_discomkd.rasters.band_names import (
    canonical,
    clean_names,
    contradict,
    find_band,
    is_backscatter,
    only_numbered,
    polarization,
)


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        *((name, 'VV') for name in ('VV', 'vv', 'Sigma0_VV_db', 'IVV', 'MS1_IVV')),
        *((name, 'VV') for name in ('Gamma0_VV', 'sigma0vv', 'VVdb', 'vv_lin', 'q_vv')),
        ('s1a-iw-grd-vv-20210101t053400-20210101t053425-035961-043637-001', 'VV'),
        ('s1a-iw-grd-vh-20210101t053400-20210101t053425-035961-043637-002', 'VH'),
        ('Amplitude_VH', 'VH'),
        ('Intensity_HH_dB', 'HH'),
        ('Beta0-HV', 'HV'),
        ('VH (gamma0)', 'VH'),
        # several, or none
        ('VV_VH', None),
        ('VV/VH ratio', None),
        ('', None),
        ('B4', None),
        ('savvy', None),
        ('convexhull', None),
        ('angle', None),
        ('s1a-iw-grd-20210101', None),
    ],
)
def test_polarization(name: str, found: str | None) -> None:
    assert polarization(name) == found
    assert polarization(name.upper()) == found


@pytest.mark.parametrize(
    ('name', 'other', 'same'),
    [
        ('VV', 'Sigma0_VV_db', True),
        ('B1', 'B01', True),
        ('B8A', 'b8a', True),
        ('B8', 'B8A', False),
        ('B1', 'B11', False),
        ('VV', 'VH', False),
        ('Red', 'RED', True),
        ('Red', 'B4', False),
    ],
)
def test_canonical(name: str, other: str, same: bool) -> None:
    assert (canonical(name) == canonical(other)) == same


@pytest.mark.parametrize(
    ('names', 'numbered', 'backscatter'),
    [
        (('B1', 'B2'), True, False),
        (('Band 1', 'Band 2'), True, False),
        (('band_01', 'layer-2', '3'), True, False),
        (('B2', 'B1'), False, False),
        (('B1', 'B3'), False, False),
        (('VV', 'VH'), False, True),
        (('Sigma0_VV', 'Sigma0_VH'), False, True),
        (('VV', 'angle'), False, False),
        ((), True, False),
    ],
)
def test_kinds_of_names(
    names: Sequence[str], numbered: bool, backscatter: bool
) -> None:
    assert only_numbered(names) == numbered
    assert is_backscatter(names) == backscatter


def test_clean_names() -> None:
    assert clean_names([None, ' VV ', '']) == ('', 'VV', '')
    assert clean_names([None, '', '  ']) is None


@pytest.mark.parametrize(
    ('wanted', 'names', 'positions'),
    [
        # the same name counts more than one that means the same
        ('VV', ('Sigma0_VV', 'vv'), [1]),
        ('VV', ('Sigma0_VV', 'Gamma0_VV'), [0, 1]),
        ('VV', ('VV', 'VV', 'VH'), [0, 1]),
        # then a part of a name
        ('red', ('S2 red (664 nm)', 'infrared'), [0]),
        ('B04', ('B4', 'B40'), [0]),
        ('VH', ('VV', '', 'VV_VH ratio'), [2]),
        ('VH', ('VV', '', 'angle'), []),
        ('VV', (), []),
    ],
)
def test_find_band(wanted: str, names: Sequence[str], positions: list[int]) -> None:
    assert find_band(wanted, names) == positions


@pytest.mark.parametrize(
    ('names', 'expected', 'found'),
    [
        (('HH', 'HV'), ('VV', 'VH'), True),
        (('VV', 'HV'), ('VV', 'VH'), True),
        (('B4', 'B8'), ('VV', 'VH'), True),
        (('B03',), ('B4',), True),
        (('B04',), ('B4',), False),
        (('sigma0_vv', 'IVH'), ('VV', 'VH'), False),
        (('', 'VH'), ('VV', 'VH'), False),
        # words for what may be the same band
        (('red',), ('B4',), False),
        (('co', 'cross'), ('VV', 'VH'), False),
        # numbers contradict nothing
        (('VV', 'VH'), ('B1', 'B2'), False),
    ],
)
def test_contradict(names: Sequence[str], expected: Sequence[str], found: bool) -> None:
    assert contradict(names, expected) == found
