# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles whose numbers have to be decoded, and names that have to be understood."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.transform import from_origin

from tests.fakes import pack_folders, write_arrays, write_tile
from torchgeo_discomkd.datasets import (
    PairedArrays,
    PairedFolders,
    band_statistics,
    cached_statistics,
)
from torchgeo_discomkd.datasets.pack.format import STATISTICS
from torchgeo_discomkd.errors import (
    BandError,
    MissingValueError,
    ModalityError,
    UnitError,
)

from .radar import (
    COUNT,
    Encode,
    Values,
    amplitude,
    backscatter,
    filled,
    grey,
    hole,
    power,
    times,
    write,
    write_radar,
)

FILL = -9999
PLACE = {'crs': 'EPSG:32631', 'transform': from_origin(5e5, 4e6, 10, 10)}


def samples(root: Path, **kwargs: Any) -> Values:
    """Return the training images of 'sar', float64 (N, C, H, W)."""
    images = [s['image_sar'] for s in PairedFolders(str(root), **kwargs)]
    return torch.stack(images).double().numpy()


@pytest.fixture(scope='module')
def expected(tmp_path_factory: pytest.TempPathFactory) -> Values:
    """Training images of the plain tiles, in dB."""
    return samples(write_radar(tmp_path_factory.mktemp('plain')))


@pytest.mark.parametrize(
    ('writing', 'units', 'step'),
    [
        ({'encode': amplitude}, 'amplitude', 1e-4),
        ({'encode': amplitude}, 'Amplitude', 1e-4),
        ({'encode': times(1)}, 'DB', 0),
        ({'encode': times(10), 'dtype': 'int16'}, 'db_x10', 0.1),
        ({'encode': times(100), 'dtype': 'int16'}, 'db_x100', 0.01),
        ({'encode': times(100), 'dtype': 'int16', 'scale': 0.01}, None, 0.01),
        ({'encode': times(100), 'dtype': 'int16', 'scale': 0.01}, 'dB', 0.01),
        # the tag first, then the unit
        ({'encode': times(1000), 'dtype': 'int16', 'scale': 0.1}, 'db_x100', 0.001),
    ],
)
def test_same_backscatter(
    tmp_path: Path,
    expected: Values,
    writing: dict[str, Any],
    units: str | None,
    step: float,
) -> None:
    root = write_radar(tmp_path, **writing)
    kwargs: dict[str, Any] = {} if units is None else {'units': {'sar': units}}
    np.testing.assert_allclose(samples(root, **kwargs), expected, atol=step / 2 + 1e-5)
    assert PairedFolders(str(root), **kwargs).units == {'sar': 'dB'}


def test_linear_power_is_kept(tmp_path: Path, expected: Values) -> None:
    root = write_radar(tmp_path, power)
    found = samples(root, units={'sar': 'LINEAR'})
    np.testing.assert_allclose(found, 10 ** (expected / 10), rtol=1e-5)
    assert PairedFolders(str(root)).units == {'sar': 'linear'}


def test_noise_removal_leaves_negative_power(tmp_path: Path) -> None:
    root = write_radar(tmp_path, lambda v: power(v) - 0.01)
    dataset = PairedFolders(str(root), units={'sar': 'linear'})
    assert min(cached_statistics(dataset)['sar'].low) < 0


@pytest.mark.parametrize(
    ('fill', 'writing', 'units'),
    [
        (FILL, {}, 'dB'),
        (0, {}, 'dB'),
        # a number before the scale of the file, and before the unit
        (-32768, {'dtype': 'int16', 'scale': 0.01}, 'dB'),
        (-32768, {'dtype': 'int16'}, 'db_x100'),
    ],
)
def test_stated_number_is_missing(
    tmp_path: Path, expected: Values, fill: float, writing: dict[str, Any], units: str
) -> None:
    factor = 1 if fill in (FILL, 0) else 100
    root = write_radar(tmp_path, lambda v: filled(fill)(factor * v), **writing)
    options: dict[str, Any] = {'nodata': {'sar': fill}, 'units': {'sar': units}}
    found = samples(root, **options)
    assert np.isnan(found[:, :, :2]).all()
    np.testing.assert_allclose(found[:, :, 2:], expected[:, :, 2:], atol=0.0051)
    dataset = PairedFolders(str(root), **options)
    with pytest.warns(UserWarning, match=r'of 3584 per band: VV 448, VH 448\.'):
        statistics = cached_statistics(dataset)['sar']
    mean = expected[:, :, 2:].mean(axis=(0, 2, 3))
    np.testing.assert_allclose(statistics.mean, mean, atol=0.001)


def test_nodata_of_the_files_and_stated(tmp_path: Path, expected: Values) -> None:
    root = write_radar(
        tmp_path, lambda v: filled(0, 1)(filled(FILL, 3)(v)), nodata=FILL
    )
    found = samples(root, nodata={'sar': 0})
    assert np.isnan(found[:, :, :3]).all()
    np.testing.assert_allclose(found[:, :, 3:], expected[:, :, 3:], rtol=1e-6)


def test_each_modality_has_its_own(tmp_path: Path, expected: Values) -> None:
    write_radar(tmp_path, amplitude)
    write_radar(tmp_path, filled(-1), names=('B4', 'B8'), modality='ms')
    dataset = PairedFolders(
        str(tmp_path), nodata={'ms': -1}, units={'sar': 'amplitude'}
    )
    assert dataset.units == {'ms': 'unknown', 'sar': 'dB'}
    sample = dataset[3]
    assert torch.isnan(sample['image_ms']).sum() == 2 * 2 * 16
    np.testing.assert_allclose(sample['image_sar'], expected[3], atol=1e-4)
    assert dataset.report()[-2:] == [
        'ms: bands by name; unit unknown; nodata -1',
        'sar: bands by name; unit amplitude, converted to dB',
    ]
    for option in ({'nodata': {'s1': 0}}, {'units': {'s1': 'dB'}}):
        with pytest.raises(ModalityError, match=r"Unknown modalities \['s1'\]"):
            PairedFolders(str(tmp_path), **option)


@pytest.mark.parametrize(
    ('writing', 'options', 'message'),
    [
        (
            {'encode': filled(FILL)},
            {},
            r"12 % are -9999, .* does not declare: add --data\.nodata '\{sar: -9999\}'",
        ),
        (
            {
                'encode': lambda v: filled(-32768)(100 * v),
                'dtype': 'int16',
                'scale': 0.01,
            },
            {},
            r"12 % are -32768, .* add --data\.nodata '\{sar: -32768\}'",
        ),
        (
            {'encode': times(100), 'dtype': 'int16'},
            {},
            r"dB times 100, .* add --data\.units '\{sar: db_x100\}'",
        ),
        ({}, {'units': {'sar': 'db_x100'}}, r'dB, .* correct .* unit db_x100'),
        ({}, {'units': {'sar': 'amplitude'}}, r'missing .* unit amplitude'),
        # -4.5 dB on average
        (
            {'encode': lambda v: 100 * (v + 6.5), 'dtype': 'int16'},
            {},
            r"dB times 100, .* add --data\.units '\{sar: db_x100\}'",
        ),
        (
            {'encode': times(10), 'dtype': 'int16'},
            {},
            r"dB times 10, .* add --data\.units '\{sar: db_x10\}'",
        ),
        ({'encode': power}, {'units': {'sar': 'dB'}}, 'said to be in dB, but ranges'),
        ({}, {'units': {'sar': 'linear'}}, 'said to be linear power, but ranges'),
        (
            {'encode': lambda v: 1000 * amplitude(v), 'dtype': 'uint16'},
            {'units': {'sar': 'amplitude'}},
            'said to be in dB, but ranges from 4',
        ),
    ],
)
def test_impossible_backscatter(
    tmp_path: Path, writing: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    dataset = PairedFolders(str(write_radar(tmp_path, **writing)), **options)
    for _ in range(2):
        # stored statistics are checked too
        with pytest.raises((UnitError, MissingValueError), match=message):
            cached_statistics(dataset)


@pytest.mark.parametrize(
    ('encode', 'unit', 'fill'),
    [(np.copy, 'dB', FILL), (np.copy, 'dB', 31), (power, 'linear', FILL)],
)
def test_few_impossible_values_are_not_measured(
    tmp_path: Path, encode: Encode, unit: str, fill: float
) -> None:
    def make(name: str, value: float) -> PairedFolders:
        root = write_radar(tmp_path / name, lambda v: hole(value)(encode(v)))
        return PairedFolders(str(root), units={'sar': unit})

    honest, dirty = make('NaN', np.nan), make('fill', fill)
    packed = PairedFolders(str(pack_folders(Path(dirty.root), units={'sar': unit})))
    measured = band_statistics(honest, 'sar')
    assert measured.missing == (28, 28)
    for dataset in (dirty, packed):
        assert band_statistics(dataset, 'sar') == measured
        with pytest.warns(UserWarning, match='or outside -60 to 30 dB.*VV 28, VH 28'):
            assert cached_statistics(dataset)['sar'] == measured


def test_statistics_of_a_pack_of_an_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = pack_folders(write_radar(tmp_path / 'a', hole(FILL)), units={'sar': 'dB'})
    dataset = PairedFolders(str(pack))
    rows = dataset.stored_statistics('sar', dataset.split_hash())
    assert rows is not None
    # mean and minimum, with values that nobody measured
    dirty = rows.copy()
    dirty[STATISTICS.index('mean')], dirty[STATISTICS.index('minimum')] = -90, FILL
    monkeypatch.setattr(dataset, 'stored_statistics', lambda *_: dirty)
    with pytest.warns(UserWarning, match='or outside'):
        mean = cached_statistics(dataset)['sar'].mean
    np.testing.assert_allclose(mean, rows[STATISTICS.index('mean')], rtol=1e-12)


@pytest.mark.parametrize(
    ('encode', 'unit'),
    [(filled(0, 8), 'dB'), (lambda v: filled(0, 8)(power(v)), 'linear')],
)
def test_half_of_the_pixels_are_zero(tmp_path: Path, encode: Encode, unit: str) -> None:
    dataset = PairedFolders(str(write_radar(tmp_path, encode)))
    assert dataset.units == {'sar': unit}
    message = r"50 % of band V. of 'sar' have .*, 0 \(.* --data\.nodata '\{sar: 0\}'\)"
    with pytest.warns(UserWarning, match=message) as caught:
        cached_statistics(dataset)
    assert [b in str(w.message) for b, w in zip(('VV', 'VH'), caught, strict=True)] == (
        [True, True]
    )


def test_grey_values_are_left_alone(tmp_path: Path) -> None:
    # a shadow of exactly 0, as 8-bit images have
    root = write_radar(
        tmp_path, lambda v: filled(0)(grey(v)), dtype='uint8', names=None
    )
    dataset = PairedFolders(str(root))
    assert dataset.units == {'sar': 'unknown'}
    assert cached_statistics(dataset)['sar'].minimum == (0, 0)


@pytest.mark.parametrize('names', [('HH', 'HV'), ('VV', 'VV'), ('VH', '')])
def test_one_later_file_of_other_bands(tmp_path: Path, names: tuple[str, str]) -> None:
    root = write_radar(tmp_path)
    path = root / 'sar' / 'Water' / '5.tif'
    write(path, backscatter()[COUNT + 5].astype('float32'), names, **PLACE)
    listed = ', '.join(name or 'unnamed' for name in names)
    message = rf'5\.tif names its bands {listed}, not VV, VH'
    with pytest.raises(BandError, match=message):
        for split in ('train', 'val', 'test'):
            list(PairedFolders(str(root), split, units={'sar': 'dB'}))


@pytest.mark.parametrize(
    'names', [None, ('vv', 'vh'), ('Sigma0_VV_db', 'Sigma0_VH_db'), ('', 'VH')]
)
def test_later_file_of_the_same_bands(
    tmp_path: Path, names: tuple[str, str] | None, expected: Values
) -> None:
    root = write_radar(tmp_path)
    for index, values in enumerate(backscatter()):
        if index % 2:
            label, number = divmod(index, COUNT)
            path = root / 'sar' / ('Crop', 'Water')[label] / f'{number}.tif'
            write(path, values.astype('float32'), names, **PLACE)
    np.testing.assert_array_equal(samples(root), expected)


def test_two_bands_of_one_name(tmp_path: Path, expected: Values) -> None:
    root = write_radar(tmp_path, names=('VV', 'VV'))
    message = r"\['VV', 'VV'\].*: give each .* name with band_names"
    with pytest.raises(BandError, match=message):
        PairedFolders(str(root))
    # they contradict the names in the files, which are wrong
    dataset = PairedFolders(str(root), band_names={'sar': ['a', 'b']})
    np.testing.assert_array_equal(dataset[2]['image_sar'], expected[2])


def test_partly_named(tmp_path: Path, expected: Values) -> None:
    root = write_radar(tmp_path, names=('', 'VH'))
    dataset = PairedFolders(str(root), bands={'sar': ['VH']})
    assert dataset.bands == {'sar': ('VH',)}
    np.testing.assert_array_equal(dataset[2]['image_sar'], expected[2][1:])
    dataset = PairedFolders(str(root))
    assert dataset.bands == {'sar': ('B1', 'VH')}
    assert dataset.units == {'sar': 'dB'}
    np.testing.assert_array_equal(dataset[2]['image_sar'], expected[2])


@pytest.mark.parametrize('suffix', ['tif', 'npy'])
def test_polarization_in_the_name_of_the_file(tmp_path: Path, suffix: str) -> None:
    for index, values in enumerate(backscatter()):
        label, number = divmod(index, COUNT)
        for modality, band in (('vv', 0), ('vh', 1)):
            stem = f's1a-iw-grd-{modality}-{number:03}'
            path = tmp_path / modality / ('Crop', 'Water')[label] / f'{stem}.{suffix}'
            write_tile(path, values[band : band + 1].astype('float32'))
    patterns = {m: f's1a-iw-grd-{m}-(.+)' for m in ('vv', 'vh')}
    dataset = PairedFolders(str(tmp_path), stem_pattern=patterns)
    assert dataset.bands == {'vh': ('VH',), 'vv': ('VV',)}
    assert dataset.units == {'vh': 'dB', 'vv': 'dB'}
    # a copy of the other polarization in its place
    for modality, other in (('vv', 'vh'), ('vh', 'vv')):
        for path in (tmp_path / modality / 'Water').iterdir():
            path.rename(path.with_name(path.name.replace(modality, other)))
    with pytest.raises(BandError, match=r'names its bands V., not V.: use the same'):
        list(
            PairedFolders(
                str(tmp_path), stem_pattern=dict.fromkeys(patterns, '.+-(.+)')
            )
        )


def test_transparent_pixels_of_a_png(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ('A', 'B'):
        for number in range(COUNT):
            array = rng.integers(1, 255, (2, 8, 8)).astype(np.uint8)
            array[1] = 255
            array[1, 2] = 0
            write_tile(tmp_path / 'sar' / label / f'{number}.png', array)
    dataset = PairedFolders(str(tmp_path))
    assert dataset.bands == {'sar': ('B1',)}
    image = dataset[0]['image_sar']
    assert image.shape == (1, 8, 8)
    assert torch.isnan(image[0, 2]).all()
    assert torch.isfinite(image).sum() == 56
    assert dataset.report()[-1] == (
        'sar: bands by order; mask from the file; unit unknown'
    )


@pytest.mark.parametrize(
    ('units', 'factor', 'unit'),
    [
        ('db_x10', 0.1, 'dB'),
        ('DB_X100', 0.01, 'dB'),
        ('Db', 1, 'dB'),
        ('K', 1, 'K'),
        (None, 1, 'unknown'),
    ],
)
def test_arrays(tmp_path: Path, units: str | None, factor: float, unit: str) -> None:
    root = write_arrays(tmp_path)
    path = root / 'SAR_data_normalized.npy'
    array = np.load(path)
    array[:, :, 0] = FILL
    np.save(path, array)
    options: dict[str, Any] = {'nodata': {'sar': FILL}}
    if units is not None:
        options['units'] = {'sar': units}
    dataset = PairedArrays(str(root), **options)
    assert dataset.units == {'ms': 'unknown', 'sar': unit}
    image = dataset.__getitems__([1])[0]['image_sar']
    assert torch.isnan(image[:, 0]).all()
    row = np.load(root / 'train_idx.npy')[1]
    np.testing.assert_allclose(image[:, 1:], factor * array[row, :, 1:], rtol=1e-6)
    with pytest.raises(ModalityError, match=r"Unknown modalities \['s1'\]"):
        PairedArrays(str(root), nodata={'s1': 0})


def test_amplitude_in_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path)
    path = root / 'SAR_data_normalized.npy'
    decibels = np.load(path).astype(np.float64) - 12
    np.save(path, amplitude(decibels))
    dataset = PairedArrays(str(root), units={'sar': 'amplitude'})
    row = np.load(root / 'train_idx.npy')[0]
    np.testing.assert_allclose(dataset[0]['image_sar'], decibels[row], rtol=1e-5)
    assert dataset.units['sar'] == 'dB'
