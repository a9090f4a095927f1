# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from tests.fakes import write_tile
from torchgeo_discomkd.classify.predictor import Predictor, load_predictor
from torchgeo_discomkd.classify.tiles import TilesSummary, classify_tiles
from torchgeo_discomkd.errors import LayoutError, SettingError
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.rasters import read_image
from torchgeo_discomkd.rasters.finding import find_images

from .tile_data import (
    CLASSES,
    by_vv,
    db,
    make_metadata,
    make_predictor,
    write_model,
    write_tiles,
)


def run(
    tmp_path: Path,
    *inputs: str | Path,
    predictor: Predictor | None = None,
    name: str = 'out.parquet',
    **kwargs: object,
) -> tuple[geopandas.GeoDataFrame, TilesSummary]:
    """Classify into a GeoParquet file and read it."""
    sources = find_images(inputs, ('VV', 'VH'))
    predictor = predictor or make_predictor()
    summary = classify_tiles(
        predictor, sources, tmp_path / name, progress=False, **kwargs
    )
    return geopandas.read_parquet(tmp_path / name), summary


def land(vv: Sequence[float]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(np.array(vv) + 15)))


@pytest.mark.parametrize(('batch_size', 'workers'), [(256, 1), (3, 4), (1, 2)])
def test_table(tmp_path: Path, batch_size: int, workers: int) -> None:
    means = write_tiles(tmp_path / 'tiles', 11)
    frame, summary = run(
        tmp_path, tmp_path / 'tiles', batch_size=batch_size, workers=workers
    )
    assert frame.path.tolist() == [
        str(tmp_path / 'tiles' / f'{i:05d}.tif') for i in range(11)
    ]
    expected = land(means)
    assert np.allclose(frame.probability_Land, expected, atol=1e-5)
    assert np.allclose(frame.probability_Water, 1 - expected, atol=1e-5)
    assert frame.label.tolist() == ['Land' if p > 0.5 else 'Water' for p in expected]
    assert np.allclose(frame.confidence, np.maximum(expected, 1 - expected), atol=1e-5)
    assert frame.status.tolist() == ['ok'] * 11
    assert summary.counts == {'ok': 11}
    assert summary.failed == 0
    assert str(summary).endswith('out.parquet: 11 tiles, 0 without a label (11 ok)')


def test_several_utm_zones_in_one_crs(tmp_path: Path) -> None:
    write_tiles(tmp_path / 'tiles', 4)
    frame, _ = run(tmp_path, tmp_path / 'tiles')
    assert frame.crs == 'EPSG:4326'
    # the central meridians of the zones 32 and 31
    west = [geometry.bounds[0] for geometry in frame.geometry]
    assert np.allclose(west, [9, 3, 9, 3])
    frame, _ = run(tmp_path, tmp_path / 'tiles', name='b.parquet', crs='EPSG:3035')
    assert frame.crs == 'EPSG:3035'
    assert np.allclose(frame.area, 6400, rtol=0.03)


def test_real_classifier_file(tmp_path: Path) -> None:
    write_tiles(tmp_path / 'tiles', 3)
    model = write_model(tmp_path / 'sar.safetensors')
    predictor = load_predictor(model, device='cpu')
    frame, _ = run(tmp_path, tmp_path / 'tiles', predictor=predictor)
    images = np.stack([read_image(path) for path in frame.path])
    expected = load_classifier(model).probabilities(torch.from_numpy(images)).numpy()
    assert np.allclose(
        frame[[f'probability_{c}' for c in CLASSES]], expected, atol=1e-6
    )
    assert frame.label.tolist() == [CLASSES[i] for i in expected.argmax(axis=1)]


def test_every_bad_tile_is_a_row(tmp_path: Path) -> None:
    folder = tmp_path / 'tiles'
    write_tile(folder / 'a_good.tif', db(-10), crs='EPSG:32631')
    write_tile(folder / 'b_truncated.tif', db(-10, 64))
    path = folder / 'b_truncated.tif'
    path.write_bytes(path.read_bytes()[:5000])
    (folder / 'c_text.tif').write_text('hello')
    (folder / 'd_empty.npy').touch()
    write_tile(folder / 'e_one_band.tif', db(-10)[:1])
    write_tile(folder / 'f_ms.tif', np.full((13, 8, 8), 1500, np.uint16))
    nothing = np.zeros((2, 8, 8), np.float32)
    write_tile(folder / 'g_nodata.tif', nothing, nodata=0, crs='EPSG:32631')
    write_tile(folder / 'h_nan.tif', nothing * np.nan)
    write_tile(folder / 'i_numbers.tif', np.full((2, 8, 8), 300, np.uint16))
    write_tile(folder / 'j_scene.tif', np.zeros((2, 2100, 2000), np.uint8))
    write_tile(folder / 'k_small.tif', db(-20, 5))
    write_tile(folder / 'l_large.tif', db(-10, 20))
    holes = db(-10)
    holes[0, 0, 0], holes[1, 1, 1], holes[0, 2, 2] = np.nan, np.inf, -np.inf
    write_tile(folder / 'm_holes.tif', holes)
    write_tile(folder / 'n_last.tif', db(-20))
    (tmp_path / 'list.txt').write_text(f'{folder}\n{folder}/vanished.tif\n')
    frame, summary = run(tmp_path, tmp_path / 'list.txt', batch_size=4, workers=3)
    words = [status.partition(':')[0] for status in frame.status]
    assert words == [
        *('ok', 'unreadable', 'unreadable', 'unreadable', 'bands', 'bands'),
        *('nodata', 'nodata', 'unit', 'too_large', 'mixed_size', 'mixed_size'),
        *('ok', 'ok', 'unreadable'),
    ]
    failed = frame[~frame.status.isin(['ok', 'mixed_size'])]
    columns = ['label', 'confidence', 'entropy', 'probability_Land']
    assert failed[columns].isna().all(axis=None)
    rest = frame.drop(failed.index)
    assert rest.label.tolist() == ['Land', 'Water', 'Land', 'Land', 'Water']
    assert frame.geometry.notna().tolist() == [i in (0, 6) for i in range(15)]
    assert summary.failed == 10
    assert summary.counts['unreadable'] == 4
    assert (summary.example or '').startswith(f'{folder}/b_truncated.tif: unreadable: ')
    assert str(summary).endswith(
        '15 tiles, 10 without a label (3 ok, 2 mixed_size, 2 bands, 2 nodata, '
        '1 too_large, 1 unit, 4 unreadable)'
    )


def test_bad_tile_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / 'tiles'
    write_tile(folder / 'good.tif', db(-10))
    Path(os.fsdecode(os.fsencode(folder) + b'/h\xff.tif')).write_text('hello')
    frame, summary = run(tmp_path, folder)
    assert frame.label.fillna('').tolist() == ['Land', '']
    escaped = rf'{folder}/h\udcff.tif'
    assert frame.path[1] == escaped
    assert frame.status[1].startswith(f'unreadable: {escaped} cannot be read')
    assert summary.failed == 1


def test_file_vanishes_during_the_run(tmp_path: Path) -> None:
    write_tiles(tmp_path / 'tiles', 6)
    metadata = make_metadata()

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        (tmp_path / 'tiles' / '00005.tif').unlink(missing_ok=True)
        return by_vv(images)

    predictor = Predictor(metadata, 'sar', 'x', None, 'cpu', compute)
    frame, _ = run(tmp_path, tmp_path / 'tiles', predictor=predictor, batch_size=1)
    assert frame.status[4] == 'ok'
    assert frame.status[5].startswith('unreadable: ')


def test_windows_are_averaged(tmp_path: Path) -> None:
    # 8 x 16 pixels are two windows: water and land
    array = np.concatenate([db(-20), db(-10)], axis=2)
    write_tile(tmp_path / 'a.tif', array)
    write_tile(tmp_path / 'b.tif', db(-12))
    frame, _ = run(tmp_path, tmp_path / 'a.tif', tmp_path / 'b.tif')
    assert frame.status.tolist() == ['mixed_size', 'ok']
    expected = [land([-20, -10]).mean(), *land([-12])]
    assert np.allclose(frame.probability_Land, expected, atol=1e-5)


def test_no_tile_size_takes_any(tmp_path: Path) -> None:
    sizes = [(8, 8), (5, 9), (8, 8), (20, 3), (5, 9)]
    means = [-20, -18, -14, -12, -10]
    for i, (size, mean) in enumerate(zip(sizes, means, strict=True)):
        write_tile(tmp_path / 'tiles' / f'{i}.tif', db(mean, size))
    shapes = []

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        shapes.append(images.shape)
        return by_vv(images)

    metadata = make_metadata(size=None)
    predictor = Predictor(metadata, 'sar', 'x', None, 'cpu', compute)
    frame, _ = run(tmp_path, tmp_path / 'tiles', predictor=predictor)
    assert frame.status.tolist() == ['ok'] * 5
    assert np.allclose(frame.probability_Land, land(means), atol=1e-5)
    assert shapes == [(2, 2, 8, 8), (2, 2, 5, 9), (1, 2, 20, 3)]


def test_model_of_fixed_size(tmp_path: Path) -> None:
    metadata = make_metadata(size=None)
    predictor = Predictor(metadata, 'sar', 'x', (8, 8), 'cpu', by_vv)
    write_tile(tmp_path / 'a.tif', db(-10, 5))
    frame, _ = run(tmp_path, tmp_path / 'a.tif', predictor=predictor)
    assert frame.status.tolist() == ['mixed_size']


def test_linear_tiles(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', 10 ** (db(-12) / 10))
    write_tile(tmp_path / 'b.tif', db(-12))
    inputs = tmp_path / 'a.tif', tmp_path / 'b.tif'
    frame, _ = run(tmp_path, *inputs)
    assert np.allclose(frame.probability_Land, land([-12]), atol=1e-4)
    frame, _ = run(tmp_path, *inputs, scale='linear', name='2.parquet')
    assert [s[:5] for s in frame.status] == ['ok', 'unit:']
    frame, _ = run(tmp_path, *inputs, scale='db', name='3.parquet')
    assert [s[:5] for s in frame.status] == ['unit:', 'ok']
    with pytest.raises(SettingError, match="in the unit 'unknown'"):
        run(
            *(tmp_path, *inputs),
            predictor=make_predictor(make_metadata('unknown')),
            scale='db',
            name='4.parquet',
        )


def test_swapped_bands(tmp_path: Path) -> None:
    for i in range(5):
        write_tile(tmp_path / 'tiles' / f'{i}.tif', db(-10, seed=i)[::-1])
    with pytest.warns(UserWarning, match=r'In 5 of the first 5 .* --bands 2,1'):
        frame, _ = run(tmp_path, tmp_path / 'tiles')
    assert set(frame.label) == {'Water'}
    frame, _ = run(tmp_path, tmp_path / 'tiles', bands=['2', '1'], name='2.parquet')
    assert set(frame.label) == {'Land'}


def test_named_bands_win(tmp_path: Path) -> None:
    array = db(-10)[::-1]
    write_tile(tmp_path / 'a.tif', array, descriptions=['VH', 'VV'])
    frame, _ = run(tmp_path, tmp_path / 'a.tif')
    assert frame.label.tolist() == ['Land']


def test_one_swapped_tile_of_three_is_no_reason_to_warn(tmp_path: Path) -> None:
    for i in range(3):
        write_tile(tmp_path / 'tiles' / f'{i}.tif', db(-10)[:: -1 if i == 1 else 1])
    frame, _ = run(tmp_path, tmp_path / 'tiles')
    assert len(frame) == 3


def test_files_by_band(tmp_path: Path) -> None:
    array = db(-10)
    for i, band in enumerate(('VV', 'VH')):
        write_tile(tmp_path / 'tiles' / f'x_{band}.tif', array[[i]])
    frame, _ = run(tmp_path, tmp_path / 'tiles')
    folder = tmp_path / 'tiles'
    assert frame.path.tolist() == [f'{folder}/x_VV.tif;{folder}/x_VH.tif']
    assert np.allclose(frame.probability_Land, land([-10]), atol=1e-5)


def test_same_stem_in_several_folders(tmp_path: Path) -> None:
    for name, mean in (('one', -20), ('two', -10)):
        write_tile(tmp_path / name / 'a.tif', db(mean))
    frame, _ = run(tmp_path, tmp_path / 'two', tmp_path / 'one')
    assert frame.label.tolist() == ['Land', 'Water']
    assert frame.path.tolist() == [f'{tmp_path}/two/a.tif', f'{tmp_path}/one/a.tif']


def test_uncertain(tmp_path: Path) -> None:
    for i, mean in enumerate((-20, -15.1, -10)):
        write_tile(tmp_path / 'tiles' / f'{i}.tif', db(mean))
    frame, summary = run(tmp_path, tmp_path / 'tiles', min_confidence=0.9)
    assert frame.label.tolist() == ['Water', 'uncertain', 'Land']
    assert frame.status.tolist() == ['ok'] * 3
    assert summary.failed == 0


def test_class_of_the_name_uncertain(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', db(-10))
    metadata = replace(make_metadata(), classes=('uncertain', 'Land'))
    predictor = make_predictor(metadata)
    with pytest.raises(SettingError, match="a class named 'uncertain'"):
        run(tmp_path, tmp_path / 'a.tif', predictor=predictor, min_confidence=0.5)
    frame, _ = run(tmp_path, tmp_path / 'a.tif', predictor=predictor)
    assert frame.label.tolist() == ['Land']


def test_part_of_the_pixels_is_missing(tmp_path: Path) -> None:
    array = db(-10)
    array[:, :4] = np.nan
    write_tile(tmp_path / 'a.tif', array)
    frame, _ = run(tmp_path, tmp_path / 'a.tif')
    assert frame.status.tolist() == ['ok']
    frame, _ = run(tmp_path, tmp_path / 'a.tif', max_nodata=0.5, name='2.parquet')
    assert frame.status.tolist() == ['nodata']


@pytest.mark.parametrize(
    'setting',
    [
        *({'batch_size': 0}, {'workers': 0}, {'min_confidence': 1.5}),
        *({'max_nodata': 0}, {'max_nodata': 1.1}, {'scale': 'dB'}),
    ],
)
def test_wrong_settings(tmp_path: Path, setting: dict[str, object]) -> None:
    write_tile(tmp_path / 'a.tif', db(-10))
    [name] = setting
    with pytest.raises(SettingError, match=name):
        run(tmp_path, tmp_path / 'a.tif', **setting)


def test_interrupt_and_resume(tmp_path: Path) -> None:
    write_tiles(tmp_path / 'tiles', 20)
    whole, _ = run(tmp_path, tmp_path / 'tiles', batch_size=3)
    calls = []

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return by_vv(images)

    broken = Predictor(make_metadata(), 'sar', 'by VV', None, 'cpu', compute)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / 'tiles', predictor=broken, name='b.csv', batch_size=3)
    assert not (tmp_path / 'b.csv').exists()
    sources = find_images([tmp_path / 'tiles'])
    with pytest.raises(SettingError, match="model was 'by VV' and is 'other'"):
        classify_tiles(
            make_predictor(description='other'),
            sources,
            tmp_path / 'b.csv',
            resume=True,
        )
    classified = []

    def count(images: NDArray[np.float32]) -> NDArray[np.float32]:
        classified.append(len(images))
        return by_vv(images)

    counting = Predictor(make_metadata(), 'sar', 'by VV', None, 'cpu', count)
    summary = classify_tiles(
        counting, sources, tmp_path / 'b.csv', resume=True, progress=False
    )
    assert sum(classified) == 11
    assert summary.counts == {'ok': 20}
    frame = pd.read_csv(tmp_path / 'b.csv')
    assert frame.path.tolist() == whole.path.tolist()
    assert frame.label.tolist() == whole.label.tolist()
    assert np.allclose(frame.probability_Land, whole.probability_Land, atol=1e-6)


def test_resume_without_a_finished_tile(tmp_path: Path) -> None:
    write_tiles(tmp_path / 'tiles', 6)
    calls = []

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return by_vv(images)

    broken = Predictor(make_metadata(), 'sar', 'by VV', None, 'cpu', compute)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / 'tiles', predictor=broken, batch_size=3)
    (tmp_path / 'tiles' / '00000.tif').unlink()
    with pytest.warns(UserWarning, match=r'keeps 1 rows .* such as .*00000\.tif'):
        frame, summary = run(tmp_path, tmp_path / 'tiles', resume=True)
    assert len(frame) == summary.total == 6


def test_resume_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiles(tmp_path / 'tiles', 2)
    monkeypatch.chdir(tmp_path)

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise LayoutError('stop')

    broken = Predictor(make_metadata(), 'sar', 'by VV', None, 'cpu', compute)
    with pytest.raises(LayoutError):
        run(tmp_path, 'tiles', predictor=broken)
    (tmp_path / 'other').mkdir()
    monkeypatch.chdir(tmp_path / 'other')
    with pytest.raises(SettingError, match='folder was'):
        run(tmp_path, '../tiles', resume=True)


MEMORY = """
import resource, sys
from pathlib import Path
from tests.classify.tile_data import make_predictor
from torchgeo_discomkd.classify import classify_tiles
from torchgeo_discomkd.rasters.finding import find_images
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for count in map(int, sys.argv[2:]):
    sources = find_images([f'{sys.argv[1]}/{count}'])
    assert len(sources) == count
    output = f'{sys.argv[1]}/{count}.parquet'
    summary = classify_tiles(
        make_predictor(), sources, output, batch_size=16, workers=2, progress=False
    )
    assert summary.counts == {'ok': count}
    print(peak())
"""


def measure(tmp_path: Path, *counts: int) -> list[int]:
    """Return the peak of memory in MiB after each number of tiles."""
    write_tile(tmp_path / 'a.tif', db(-10), crs='EPSG:32631')
    for count in counts:
        (tmp_path / str(count)).mkdir()
        for i in range(count):
            (tmp_path / str(count) / f'{i:06d}.tif').symlink_to(tmp_path / 'a.tif')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', MEMORY, tmp_path, *map(str, counts)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(text) for text in result.stdout.split()]


@pytest.mark.slow
def test_memory_is_flat(tmp_path: Path) -> None:
    few, many = measure(tmp_path, 100, 1000)
    assert many - few < 20


@pytest.mark.slow
def test_memory_is_flat_for_many_tiles(tmp_path: Path) -> None:
    few, many = measure(tmp_path, 2000, 100_000)
    # the paths themselves, and one table of them
    assert many - few < 100
