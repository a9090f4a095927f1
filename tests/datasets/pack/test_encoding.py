# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Packs of files whose numbers are decoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import pack_folders, write_arrays
from torchgeo_discomkd.datasets import PairedArrays, PairedFolders, write_pack
from torchgeo_discomkd.errors import PackError

from ..conftest import statistics_of
from ..radar import Values, amplitude, filled, times, write_radar
from .conftest import assert_same, assert_same_samples


def bordered(values: Values) -> Values:
    """Return dB times 100 with a border of -32768."""
    return filled(-32768)(100 * values)


#: Files, how they are stated, type of the pack and how it may be stated when opened.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    'assumed': ({}, {}, 'float32'),
    'nodata': ({'encode': filled(-9999)}, {'nodata': {'sar': -9999}}, 'float32'),
    'scale of the file': (
        {'encode': times(100), 'dtype': 'int16', 'scale': 0.01},
        {},
        'float32',
    ),
    'amplitude': ({'encode': amplitude}, {'units': {'sar': 'amplitude'}}, 'float32'),
    'multiples and nodata': (
        {'encode': bordered, 'dtype': 'int16'},
        {'units': {'sar': 'db_x100'}, 'nodata': {'sar': -32768}},
        'float32',
    ),
    'numbers': (
        {'encode': times(100), 'dtype': 'int16'},
        {'units': {'sar': 'numbers'}},
        'int16',
    ),
}


@pytest.mark.parametrize('case', list(CASES))
def test_opened_as_it_was_packed_or_without_a_word(tmp_path: Path, case: str) -> None:
    writing, options, dtype = CASES[case]
    root = write_radar(tmp_path / 'data', **writing)
    source = PairedFolders(str(root), **options)
    packed = str(pack_folders(root, **options))
    expected = statistics_of(source)
    for kwargs in (options, {}):
        dataset = PairedFolders(packed, **kwargs)
        assert_same(dataset, source)
        assert statistics_of(dataset) == expected
        assert dataset.images['sar'].header(0).dtype == dtype
    samples = PairedFolders(packed, units={'sar': source.units['sar']})
    assert_same_samples(samples, source)


def test_whole_numbers_without_missing_pixels_stay_small(tmp_path: Path) -> None:
    root = write_radar(tmp_path / 'data', times(100), 'int16')
    packed = pack_folders(root, nodata={'sar': -32768}, units={'sar': 'x'})
    assert PairedFolders(str(packed)).images['sar'].header(0).dtype == 'int16'


@pytest.mark.parametrize(
    ('case', 'options', 'packed', 'asked'),
    [
        ('assumed', {'nodata': {'sar': -9999}}, "None, 'units': 'dB'", '-9999'),
        ('assumed', {'units': {'sar': 'linear'}}, "None, 'units': 'dB'", 'linear'),
        ('assumed', {'units': {'sar': 'db_x10'}}, "None, 'units': 'dB'", 'db_x10'),
        ('nodata', {'nodata': {'sar': 0}}, "-9999, 'units': 'dB'", "'nodata': 0"),
        # the numbers in the pack are dB already
        ('amplitude', {'units': {'sar': 'linear'}}, "'units': 'amplitude'", 'linear'),
        ('amplitude', {'units': {'sar': 'db_x10'}}, "'units': 'amplitude'", 'db_x10'),
        ('numbers', {'units': {'sar': 'db_x100'}}, "'units': 'numbers'", 'db_x100'),
    ],
)
def test_opened_otherwise(
    tmp_path: Path, case: str, options: dict[str, Any], packed: str, asked: str
) -> None:
    writing, stated, _ = CASES[case]
    root = write_radar(tmp_path / 'data', **writing)
    path = str(pack_folders(root, **stated))
    message = rf"'sar' in .* packed with .*{packed}.*, not .*{asked}.*: pack the data"
    with pytest.raises(PackError, match=message):
        PairedFolders(path, **options)


def test_unit_that_was_unknown_may_be_stated_later(tmp_path: Path) -> None:
    root = write_radar(tmp_path / 'data', names=('a', 'b'))
    path = str(pack_folders(root))
    assert PairedFolders(path).units == {'sar': 'unknown'}
    assert PairedFolders(path, units={'sar': 'DB'}).units == {'sar': 'dB'}
    with pytest.raises(PackError, match=r"'units': 'unknown'.*, not .*amplitude"):
        PairedFolders(path, units={'sar': 'amplitude'})


def test_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    array = np.load(root / 'SAR_data_normalized.npy')
    array[:, :, 0] = -1
    np.save(root / 'SAR_data_normalized.npy', array)
    options: dict[str, Any] = {'units': {'sar': 'db_x10'}, 'nodata': {'sar': -1}}
    source, packed = PairedArrays(str(root), **options), tmp_path / 'x.safetensors'
    write_pack(source, packed)
    for kwargs in (options, {}):
        dataset = PairedArrays(str(packed), **kwargs)
        assert_same(dataset, source)
        assert statistics_of(dataset) == statistics_of(source)
    with pytest.raises(PackError, match=r"-1, 'units': 'db_x10'.*, not .*'nodata': -2"):
        PairedArrays(str(packed), nodata={'sar': -2})
