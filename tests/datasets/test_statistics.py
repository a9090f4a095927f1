# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import os
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchgeo.datamodules.eurosat import MEAN, STD

from tests.fakes import pack_folders, write_pairs, write_tile
from torchgeo_discomkd.datasets import (
    BandStatistics,
    PairedArrays,
    PairedFolders,
    band_statistics,
    cached_statistics,
    statistics,
    statistics_rows,
)
from torchgeo_discomkd.errors import MissingValueError, TileSizeError, UnitError

from .conftest import statistics_of
from .radar import filled, write_radar


def pixels(dataset: PairedFolders, modality: str) -> np.ndarray:
    stack = torch.stack([s[f'image_{modality}'] for s in dataset])
    return stack.double().numpy().transpose(1, 0, 2, 3).reshape(stack.shape[1], -1)


def test_equal_to_numpy(root: Path) -> None:
    dataset = PairedFolders(str(root))
    result = statistics_of(dataset)
    assert list(result) == ['ms', 'sar']
    for modality, found in result.items():
        x = pixels(dataset, modality)
        assert found.bands == dataset.bands[modality]
        assert np.allclose(found.mean, x.mean(1), rtol=1e-12)
        assert np.allclose(found.std, x.std(1), rtol=1e-12)
        assert found.low == tuple(np.percentile(x, 2, axis=1))
        assert found.high == tuple(np.percentile(x, 98, axis=1))
        assert found.minimum == tuple(x.min(1))
        assert found.maximum == tuple(x.max(1))
        assert found.missing == (0,) * len(x)
        assert found.count == x.shape[1]


def test_missing_pixels_are_left_out_and_counted(root: Path) -> None:
    dataset = PairedFolders(str(root))
    array = np.full((2, 4, 4), -5, np.float32)
    array[0, :2] = -9999
    array[1, 0, 0] = np.nan
    write_tile(root / f'sar/{dataset.identifier(3)}.tif', array, nodata=-9999)
    whole = np.full((2, 4, 4), np.nan, np.float32)
    whole[1] = 3
    write_tile(root / f'sar/{dataset.identifier(0)}.tif', whole)
    with pytest.warns(UserWarning, match=r"'sar' .* of 448 per band: B1 24, B2 1\. "):
        found = cached_statistics(dataset)['sar']
    x = pixels(dataset, 'sar')
    assert found.missing == (24, 1)
    assert np.allclose(found.mean, np.nanmean(x, axis=1), rtol=1e-12)
    assert np.allclose(found.std, np.nanstd(x, axis=1), rtol=1e-12)
    assert np.allclose(found.low, np.nanpercentile(x, 2, axis=1))
    assert found.minimum == tuple(np.nanmin(x, axis=1))
    assert found.maximum == tuple(np.nanmax(x, axis=1))


def test_small_deviation_from_a_large_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ('A', 'B'):
        for number in range(10):
            array = 4e6 + rng.integers(0, 4, (1, 8, 8))
            write_tile(tmp_path / 'x' / name / f'{number}.npy', array)
    dataset = PairedFolders(str(tmp_path))
    found = band_statistics(dataset, 'x')
    assert found.std[0] == pytest.approx(pixels(dataset, 'x').std(), rel=1e-9)


def test_percentiles_of_a_sample(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PairedFolders(str(root))
    exact = band_statistics(dataset, 'ms')
    monkeypatch.setattr(statistics, 'MAXIMUM_SAMPLE', 28 * 20)
    found = band_statistics(dataset, 'ms')
    assert found == band_statistics(dataset, 'ms')
    assert found.mean == exact.mean
    assert found.low != exact.low
    assert np.allclose(found.low, exact.low, rtol=0.03)
    assert np.allclose(found.high, exact.high, rtol=0.03)
    monkeypatch.setattr(statistics, 'MAXIMUM_SAMPLE', 1)
    assert band_statistics(dataset, 'ms').count == exact.count


def test_band_without_a_valid_pixel(tmp_path: Path) -> None:
    array = np.zeros((2, 2, 2), np.float32)
    array[1] = np.nan
    for name in ('A', 'B'):
        for number in range(10):
            write_tile(tmp_path / 'x' / name / f'{number}.tif', array)
    with pytest.raises(MissingValueError, match="All 56 pixels of band B2 of 'x'"):
        statistics_of(PairedFolders(str(tmp_path)))


def test_units(root: Path) -> None:
    with pytest.raises(UnitError, match="Values of band B1 of 'ms' are outside -60"):
        cached_statistics(PairedFolders(str(root), units={'sar': 'dB', 'ms': 'linear'}))
    cached_statistics(PairedFolders(str(root), units={'sar': 'dB'}))
    with pytest.raises(UnitError, match="Band B1 of 'ms' is said to be in dB"):
        cached_statistics(PairedFolders(str(root), units={'ms': 'dB'}))
    with pytest.raises(UnitError, match="Band B1 of 'sar' is said to be linear"):
        cached_statistics(PairedFolders(str(root), units={'sar': 'linear'}))
    cached_statistics(PairedFolders(str(root)))
    with pytest.raises(UnitError, match="Band B1 of 'ms' is said to be in dB"):
        cached_statistics(PairedFolders(str(root), units={'ms': 'dB'}))


def test_mixed_tile_sizes(root: Path) -> None:
    dataset = PairedFolders(str(root))
    write_tile(root / f'sar/{dataset.identifier(9)}.tif', np.zeros((2, 4, 5), np.uint8))
    with pytest.raises(TileSizeError, match='4x5'):
        statistics_of(dataset)


def test_json(root: Path) -> None:
    found = band_statistics(PairedFolders(str(root)), 'sar')
    assert BandStatistics.from_json(found.to_json()) == found
    values = asdict(found)
    broken: list[Any] = [
        '',
        '[]',
        '{}',
        json.dumps({**values, 'mean': [1.0]}),
        json.dumps({**values, 'median': [1.0, 2.0]}),
        json.dumps({**values, 'std': None}),
    ]
    for text in broken:
        with pytest.raises(ValueError, match='not band statistics'):
            BandStatistics.from_json(text)


def cache(root: Path) -> list[Path]:
    return sorted((root / '.torchgeo_discomkd').iterdir())


def test_cache_is_shared_by_data_sets_of_single_modalities(root: Path) -> None:
    result = cached_statistics(PairedFolders(str(root)))
    files = cache(root)
    assert len(files) == 2
    assert all(f.name.startswith('statistics-') for f in files)
    for path in files:
        values = json.loads(path.read_text())
        values['mean'] = [7.0] * len(values['bands'])
        path.write_text(json.dumps(values))
    for modality, expected in result.items():
        dataset = PairedFolders(str(root), modalities=[modality])
        found = cached_statistics(dataset)[modality]
        assert set(found.mean) == {7.0}
        assert found.std == expected.std
    assert cache(root) == files
    assert PairedFolders(str(root)).modalities == ('ms', 'sar')


def test_cache_key(root: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {'split': 'test'},
        {'run': 1},
        {'bands': {'ms': ['B2']}},
        {'bands': {'ms': ['B2', 'B1']}},
    ]
    for arguments in variants:
        cached_statistics(PairedFolders(str(root), modalities=['ms'], **arguments))
    assert len(cache(root)) == len(variants)


def test_rescaled_data_are_computed_again(root: Path) -> None:
    before = cached_statistics(PairedFolders(str(root)))['ms']
    shutil.rmtree(root / 'ms')
    scaled = {'ms': (3, 6, 6)}
    write_pairs(root, count=20, shapes=scaled, seed=5)
    assert cached_statistics(PairedFolders(str(root)))['ms'] != before


def test_values_that_no_fingerprint_covers_are_computed_again(tmp_path: Path) -> None:
    path = tmp_path / 'SAR_data_normalized.npy'
    images = np.random.default_rng(0).random((24, 2, 32, 32), np.float32)
    np.save(path, images)
    os.utime(path, (0, 0))
    np.save(tmp_path / 'labels.npy', np.arange(24) % 2)
    np.save(tmp_path / 'train_idx.npy', np.arange(24))
    before = PairedArrays(str(tmp_path))
    cached_statistics(before)
    # beyond the bytes that are hashed
    images[20:] += 5
    np.save(path, images)
    after = PairedArrays(str(tmp_path))
    assert after.fingerprint() == before.fingerprint()
    assert cached_statistics(after) == statistics_of(after)


def test_one_rewritten_tile_is_enough(tmp_path: Path) -> None:
    # more tiles than a fingerprint reads
    root = write_pairs(tmp_path, count=40, shapes={'ms': (3, 6, 6)})
    for path in root.rglob('*.tif'):
        os.utime(path, (0, 0))
    before = PairedFolders(str(root))
    cached_statistics(before)
    path = root / f'ms/{before.identifier(3)}.tif'
    write_tile(path, np.full((3, 6, 6), 7, np.uint16), crs='EPSG:32631')
    after = PairedFolders(str(root))
    assert after.fingerprint() == before.fingerprint()
    assert cached_statistics(after) == statistics_of(after)


def test_broken_cache_is_computed_again(root: Path) -> None:
    dataset = PairedFolders(str(root))
    result = cached_statistics(dataset)
    for path in cache(root):
        path.write_text('{"bands": ')
    assert cached_statistics(dataset) == result
    assert cached_statistics(dataset) == result
    assert json.loads(cache(root)[0].read_text())['count'] > 0


def test_folder_that_cannot_be_written(root: Path) -> None:
    (root / '.torchgeo_discomkd').write_text('a file where the folder should be')
    dataset = PairedFolders(str(root))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert cached_statistics(dataset) == statistics_of(dataset)


def test_missing_pixels_of_cached_statistics_are_reported(root: Path) -> None:
    dataset = PairedFolders(str(root))
    array = np.full((2, 4, 4), np.nan, np.float32)
    write_tile(root / f'sar/{dataset.identifier(3)}.tif', array)
    for _ in range(2):
        with pytest.warns(UserWarning, match='B1 16, B2 16'):
            cached_statistics(dataset)


def test_real_eurosat_is_close_to_published_statistics(real_data: Path) -> None:
    dataset = PairedFolders(
        str(real_data), folders={'ms': 'eurosat_ms'}, band_names={'ms': list(MEAN)}
    )
    found = band_statistics(dataset, 'ms')
    assert found.bands[-2:] == ('B12', 'B8A')
    assert np.allclose(found.mean, list(MEAN.values()), rtol=0.1)
    assert np.allclose(found.std, list(STD.values()), rtol=0.25)


#: Shares of the pixels at which a profile has quantiles.
SHARES = [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1]


@pytest.mark.parametrize('nodata', [None, 0.0])
def test_figures_of_tiles_are_equal_to_numpy(
    tmp_path: Path, nodata: float | None
) -> None:
    root = write_radar(tmp_path, filled(0, 4), nodata=nodata)
    dataset = PairedFolders(str(root))
    # a tile of which one band is missing: its figures count for nothing
    array = dataset[5]['image_sar'].numpy()
    array[1] = np.nan
    write_tile(root / f'sar/{dataset.identifier(5)}.tif', array, nodata=nodata)
    found = band_statistics(dataset, 'sar')
    tiles = np.stack([s['image_sar'].double().numpy() for s in dataset])
    assert np.isnan(tiles).sum() == 256 + (0 if nodata is None else 64 * 27)
    for band, x in enumerate(tiles.swapaxes(0, 1)):
        present = np.array([np.isfinite(image).any() for image in x])
        means = [np.nanmean(image) for image in x[present]]
        stds = [np.nanstd(image) for image in x[present]]
        expected = np.nanquantile(x, SHARES)
        np.testing.assert_allclose(found.quantiles[band], expected, rtol=1e-6)
        for own, values in ((found.means, means), (found.stds, stds)):
            expected = np.percentile(values, [0.5, 99.5])
            np.testing.assert_allclose(own[band], expected, rtol=1e-9)
    # 4 of 16 rows, in one band of 13 tiles and one of 14
    share = 0.25 if nodata is None else 0
    assert found.repeated == ((0, share), (0, share))
    assert BandStatistics.from_json(found.to_json()) == found


def test_no_figure_is_lost_in_json_and_rows(root: Path) -> None:
    found = band_statistics(PairedFolders(str(root)), 'sar')
    assert 'NaN' not in found.to_json()
    rows = statistics_rows(found)
    assert rows.shape == (8 + 9 + 2 + 2 + 2, 2)
    np.testing.assert_array_equal(rows[8:17].T, found.quantiles)
    np.testing.assert_array_equal(rows[17:23].T, np.hstack([*figures(found)]))


def figures(found: BandStatistics) -> tuple[Any, ...]:
    return found.means, found.stds, found.repeated


def test_not_a_number_travels_in_json(root: Path) -> None:
    found = band_statistics(PairedFolders(str(root)), 'sar')
    values = asdict(found) | {'stds': ((np.nan, 2.0), (1.0, 2.0))}
    again = BandStatistics.from_json(json.dumps(values))
    assert np.isnan(again.stds[0][0])
    assert again.stds[1] == (1, 2)
    assert again.quantiles == found.quantiles


def test_cache_key_knows_how_files_are_read(tmp_path: Path) -> None:
    root = write_radar(tmp_path, names=('VV', 'VH'))
    variants: list[dict[str, Any]] = [
        {},
        {'units': {'sar': 'dB'}},
        {'nodata': {'sar': 1234567}},
        {'nodata': {'sar': 1234568}},
        {'units': {'sar': 'db_x10'}},
        {'units': {'sar': 'any'}},
    ]
    means = [
        cached_statistics(PairedFolders(str(root), **arguments))['sar'].mean
        for arguments in variants
    ]
    assert len(cache(root)) == len(variants)
    assert np.allclose(means[4], np.array(means[0]) / 10)


def test_statistics_of_a_pack_are_complete(tmp_path: Path) -> None:
    root = write_radar(tmp_path / 'data', filled(0, 4))
    expected = statistics_of(PairedFolders(str(root)))
    packed = PairedFolders(str(pack_folders(root)))
    for _ in range(2):
        with pytest.warns(UserWarning, match='25 % of band V') as caught:
            assert cached_statistics(packed) == expected
        assert len(caught) == 2
    # nothing was computed
    assert not (tmp_path / '.torchgeo_discomkd').exists()
