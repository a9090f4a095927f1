# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from numpy.typing import NDArray

from tests.fakes import write_tile
from torchgeo_discomkd.classify import (
    CombinedPredictor,
    Predictor,
    TilesSummary,
    classify_combined,
    classify_tiles,
    match_tiles,
)
from torchgeo_discomkd.errors import (
    ClassifierFileError,
    LayoutError,
    ModalityError,
    PairingError,
    SettingError,
)
from torchgeo_discomkd.metadata import ImageProfile
from torchgeo_discomkd.models import ModalityMetadata
from torchgeo_discomkd.rasters import find_images
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.tables import Combination

from .tile_data import CLASSES, by_vv, db, make_metadata, make_predictor

WEIGHTS = {'ms': 1.5, 'sar': 0.5}


def by_first(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of land: the mean of the first band over 4000."""
    land = np.nanmean(images[:, 0], axis=(1, 2)) / 4000
    return np.stack([1 - land, land], axis=1).astype(np.float32)


def make_optical(profile: ImageProfile | None = None) -> Predictor:
    images = ModalityMetadata(3, ('B2', 'B3', 'B4'), 'reflectance', (8, 8), profile)
    metadata = replace(make_metadata(), modalities={'ms': images})
    return Predictor(metadata, 'ms', 'by B2', None, 'cpu', by_first)


def make_both(profile: ImageProfile | None = None) -> CombinedPredictor:
    combination = Combination({('ms', 'sar'): (WEIGHTS['ms'], WEIGHTS['sar'])})
    predictors = {'ms': make_optical(profile), 'sar': make_predictor()}
    return CombinedPredictor(predictors, combination)


def optical(mean: float, size: int = 8) -> NDArray[np.uint16]:
    return np.full((3, size, size), mean, np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tiles a to e: both, both, SAR only, optical only, SAR with a broken optical."""
    for name, level in (('a', 2000), ('b', 3000), ('d', 1000)):
        write_tile(tmp_path / 'S2' / f'{name}.tif', optical(level), crs='EPSG:32631')
    (tmp_path / 'S2' / 'e.tif').write_text('hello')
    for name, level in (('a', -14), ('b', -17), ('c', -13), ('e', -16)):
        write_tile(tmp_path / 'S1' / f'{name}.tif', db(level), crs='EPSG:32631')
    return tmp_path


def images_of(folder: Path) -> dict[str, list[ImageFiles]]:
    predictors = make_both().predictors
    return {
        m: find_images([folder / name], predictors[m].bands)
        for m, name in (('ms', 'S2'), ('sar', 'S1'))
    }


def run(
    folder: Path,
    predictor: CombinedPredictor | None = None,
    skip: Mapping[str, list[str]] | None = None,
    name: str = 'out.parquet',
    **options: object,
) -> tuple[geopandas.GeoDataFrame, TilesSummary]:
    tiles = match_tiles(images_of(folder), skip=skip)
    summary = classify_combined(
        predictor or make_both(),
        tiles,
        folder / name,
        progress=False,
        **options,  # ty: ignore[invalid-argument-type]
    )
    return geopandas.read_parquet(folder / name), summary


def alone(folder: Path, modality: str) -> pd.DataFrame:
    """Return the table of one classifier, by stem."""
    output = folder / f'{modality}.parquet'
    predictor = make_both().predictors[modality]
    classify_tiles(predictor, images_of(folder)[modality], output, progress=False)
    frame = geopandas.read_parquet(output)
    return frame.set_index(frame.path.map(lambda path: Path(path).stem))


@pytest.mark.parametrize('batch_size', [128, 2, 1])
def test_each_tile_uses_the_sensors_that_it_has(folder: Path, batch_size: int) -> None:
    frame, summary = run(folder, batch_size=batch_size, workers=2)
    assert frame.modalities.tolist() == ['ms+sar', 'ms+sar', 'sar', 'ms', 'sar']
    unused = frame.unused.fillna('').tolist()
    assert unused[:4] == ['', '', 'ms: no tile', 'sar: no tile']
    assert unused[4].startswith('ms: unreadable: ')
    assert frame.path.tolist() == [
        *(f'{folder}/S2/{n}.tif;{folder}/S1/{n}.tif' for n in 'ab'),
        *(f'{folder}/S1/c.tif', f'{folder}/S2/d.tif'),
        f'{folder}/S2/e.tif;{folder}/S1/e.tif',
    ]
    assert frame.status.tolist() == ['ok'] * 5
    assert frame.geometry.notna().all()
    assert summary.modalities == {'ms+sar': 2, 'sar': 2, 'ms': 1}
    assert summary.failed == 0
    frame.index = list('abcde')
    columns = [*(f'probability_{c}' for c in CLASSES), 'label', 'confidence', 'entropy']
    ms, sar = alone(folder, 'ms'), alone(folder, 'sar')
    for name, one in (('c', sar), ('d', ms), ('e', sar)):
        assert frame.loc[name, columns].tolist() == one.loc[name, columns].tolist()
    # by hand: the odds are those of each classifier to the power of its weight
    odds = (ms.probability_Land / (1 - ms.probability_Land)) ** WEIGHTS['ms']
    odds *= (sar.probability_Land / (1 - sar.probability_Land)) ** WEIGHTS['sar']
    expected = (odds / (1 + odds))[['a', 'b']]
    np.testing.assert_allclose(frame.probability_Land[['a', 'b']], expected, rtol=1e-5)
    assert frame.label.tolist() == ['Land', 'Land', 'Land', 'Water', 'Water']


def test_clouds_and_missing_pixels(folder: Path) -> None:
    holes = db(-14)
    holes[:, :5] = np.nan
    write_tile(folder / 'S1' / 'b.tif', holes, crs='EPSG:32631')
    frame, _ = run(folder, skip={'ms': ['a', 'e.tif'], 'sar': ['e']}, max_nodata=0.6)
    assert frame.modalities.fillna('').tolist() == ['sar', 'ms', 'sar', 'ms', '']
    assert frame.unused.tolist() == [
        *('ms: skipped', 'sar: nodata', 'ms: no tile', 'sar: no tile'),
        'ms: skipped; sar: skipped',
    ]
    assert frame.status[4] == 'no_modality: ms: skipped; sar: skipped'
    assert frame.label.isna().tolist() == [False] * 4 + [True]


def profile(level: float) -> ImageProfile:
    """Training tiles whose means were around *level*."""
    means = ((level - 200.0, level + 200.0),) * 3
    quantiles = (tuple(np.linspace(level - 500, level + 500, 9).tolist()),) * 3
    return ImageProfile(quantiles, means, ((0.0, 400.0),) * 3, 100)


def test_unusual_images_are_used_if_there_is_nothing_else(folder: Path) -> None:
    both = make_both(profile(2000))
    with pytest.warns(UserWarning, match='1 of 5 tiles are unusual'):
        frame, _ = run(folder, both)
    # b (3000) and d (1000) differ from the training tiles
    assert frame.modalities.tolist() == ['ms+sar', 'sar', 'sar', 'ms', 'sar']
    assert frame.unused[1].startswith('ms: unusual: ')
    assert frame.unusual.notna().tolist() == [False] * 3 + [True, False]
    assert frame.unusual[3].startswith('ms: ')
    radar = ImageProfile(
        *(((-40.0, *range(-30, -23), 0.0),) * 2, ((-50.0, 0.0),) * 2),
        *(((0.0, 5.0),) * 2, 100),
    )
    images = replace(make_metadata().modalities['sar'], profile=radar)
    sar = make_predictor(replace(make_metadata(), modalities={'sar': images}))
    both = replace(both, predictors={**both.predictors, 'sar': sar})
    frame, summary = run(folder, both, name='strict.parquet', strict=True)
    used = frame.modalities.fillna('').tolist()
    assert used == ['ms+sar', 'sar', 'sar', '', 'sar']
    assert frame.status[3].startswith('no_modality: ms: unusual: ')
    assert summary.failed == 1


@pytest.mark.parametrize(
    ('east', 'pixel', 'share'),
    [
        (6e5, 10, '0%'),
        # a neighbour: the tiles are 80 m wide
        (500080, 10, '0%'),
        (500060, 10, '25%'),
        (500040, 10, None),
        # larger pixels around the same place
        (499950, 20, None),
    ],
)
def test_images_that_lie_apart_are_no_tile(
    folder: Path, east: float, pixel: float, share: str | None
) -> None:
    with rasterio.open(folder / 'S1' / 'a.tif', 'r+') as file:
        file.transform = rasterio.Affine(pixel, 0, east, 0, -pixel, 4e6)
    frame, _ = run(folder, crs='EPSG:32631')
    assert frame.label.isna().tolist() == [share is not None] + [False] * 4
    if share is not None:
        status = f'place: the images of ms and sar share {share} of the smaller one'
        assert frame.status[0] == f'{status}, and 50% are needed'


@pytest.mark.parametrize('suffix', ['.csv', '.gpkg', '.geojson'])
def test_formats_have_the_columns(folder: Path, suffix: str) -> None:
    tiles = match_tiles(images_of(folder))
    output = folder / f'out{suffix}'
    classify_combined(make_both(), tiles, output, progress=False)
    if suffix == '.csv':
        frame = pd.read_csv(output)
    else:
        layer = {'.gpkg': 'tiles', '.geojson': None}[suffix]
        frame = geopandas.read_file(output, layer=layer)
    assert frame.modalities.tolist() == ['ms+sar', 'ms+sar', 'sar', 'ms', 'sar']
    assert frame.unused[2] == 'ms: no tile'


def test_resumed_table_is_the_same(folder: Path) -> None:
    whole, _ = run(folder, batch_size=2)
    both = make_both()
    calls = 0

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise KeyboardInterrupt
        return by_vv(images)

    sar = replace(both.predictors['sar'], _compute=compute)
    stopped = replace(both, predictors={**both.predictors, 'sar': sar})
    with pytest.raises(KeyboardInterrupt):
        run(folder, stopped, name='parts.parquet', batch_size=1)
    assert (folder / 'parts.parquet.partial').is_dir()
    other = replace(both, combination=Combination())
    with pytest.raises(SettingError, match=r"weights was 'ms 1\.5 sar 0\.5' and is"):
        run(folder, other, name='parts.parquet', resume=True)
    with pytest.raises(SettingError, match='skipped was'):
        run(folder, name='parts.parquet', resume=True, skip={'ms': ['a']})
    parts, summary = run(folder, name='parts.parquet', resume=True)
    pd.testing.assert_frame_equal(parts, whole)
    assert summary.modalities == {'ms+sar': 2, 'sar': 2, 'ms': 1}


def test_a_tile_that_gets_another_image_is_not_doubled(folder: Path) -> None:
    both = make_both()

    def stop(images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise KeyboardInterrupt

    ms = replace(both.predictors['ms'], _compute=stop)
    (folder / 'S2' / 'a.tif').rename(folder / 'later.tif')
    # the tile a is finished with SAR alone
    with pytest.raises(KeyboardInterrupt):
        run(
            folder,
            replace(both, predictors={**both.predictors, 'ms': ms}),
            batch_size=1,
        )
    (folder / 'later.tif').rename(folder / 'S2' / 'a.tif')
    with pytest.raises(SettingError, match=r'1 tiles .* such as \S+/S1/a\.tif: rest'):
        run(folder, resume=True)
    (folder / 'S2' / 'a.tif').unlink()
    # new tiles are no mistake
    write_tile(folder / 'S1' / 'f.tif', db(-14), crs='EPSG:32631')
    frame, _ = run(folder, resume=True)
    assert frame.path.is_unique
    assert frame.modalities.tolist() == ['sar', 'ms+sar', 'sar', 'ms', 'sar', 'sar']


def test_other_classes_are_refused() -> None:
    sar = make_predictor(replace(make_metadata(), classes=('Land', 'Water')))
    with pytest.raises(ClassifierFileError, match='the same classes in the same order'):
        CombinedPredictor({'ms': make_optical(), 'sar': sar})


def test_scale_needs_backscatter(folder: Path) -> None:
    _, summary = run(folder, scale='db')
    assert all('sar: ' not in r or 'dB as stated' in r for r in summary.readings)
    optical = make_optical()
    metadata = replace(
        optical.metadata, modalities={'sar': optical.metadata.modalities['ms']}
    )
    sar = replace(optical, modality='sar', metadata=metadata)
    with pytest.raises(SettingError, match="scale='db', but the classifier"):
        run(folder, CombinedPredictor({'ms': optical, 'sar': sar}), scale='db')


def files(*paths: str) -> list[ImageFiles]:
    return [ImageFiles((path,)) for path in paths]


def test_names_in_several_folders() -> None:
    ms = files('S2/Crop/1.tif', 'S2/Lake/1.tif', 'S2/Lake/2.tif')
    sar = files('S1/Lake/1.png', 'S1/Crop/1.png')
    tiles = match_tiles({'ms': ms, 'sar': sar})
    assert sorted(tile.path for tile in tiles) == [
        *('S2/Crop/1.tif;S1/Crop/1.png', 'S2/Lake/1.tif;S1/Lake/1.png'),
        'S2/Lake/2.tif',
    ]


def test_order_of_both_lists_is_kept() -> None:
    ms, sar = files(*'abdf'), files(*'bcdez')
    tiles = match_tiles({'ms': ms, 'sar': sar})
    names = [next(iter(tile.images.values())).name for tile in tiles]
    for own in ('abdf', 'bcdez'):
        assert [name for name in names if name in own] == list(own)


def test_names_with_a_sensor_in_them() -> None:
    images = {'ms': files('t1_s2.tif', 't2_s2.tif'), 'sar': files('s1_t1.tif')}
    with pytest.raises(PairingError, match=r'ms: t1_s2, sar: s1_t1.*--stem-pattern'):
        match_tiles(images)
    patterns = {'ms': '(.+)_s2', 'sar': 's1_(.+)'}
    tiles = match_tiles(images, patterns, skip={'ms': ['t1']})
    assert [t.path for t in tiles] == ['t1_s2.tif;s1_t1.tif', 't2_s2.tif']
    assert [t.skipped for t in tiles] == [{'ms'}, set()]


def test_names_to_skip_that_are_unknown() -> None:
    images = {'ms': files('t1_s2.tif', 't2_s2.tif'), 'sar': files('t1.tif')}
    names = ['t2_s2', 't8_s2', 't9_s2']
    with pytest.warns(UserWarning, match=r"2 of 3 names .* 'ms', such as t8_s2: noth"):
        tiles = match_tiles(images, {'ms': '(.+)_s2'}, {'ms': names})
    assert [t.skipped for t in tiles] == [set(), {'ms'}]


@pytest.mark.parametrize(
    ('patterns', 'skip', 'error', 'message'),
    [
        ({'ms': '('}, {}, SettingError, 'not a regular expression'),
        ({'ms': '(.+)_x'}, {}, SettingError, 'matches none of its 1 stems'),
        ({'dem': '(.+)'}, {}, ModalityError, "no classifier of 'dem'"),
        ({}, {'dem': ['a']}, ModalityError, "skip: there is no classifier of 'dem'"),
        ({}, {'ms': ['b', 'c']}, LayoutError, 'none of the 2 names'),
    ],
)
def test_mistakes_of_matching(
    patterns: dict[str, str],
    skip: dict[str, list[str]],
    error: type[Exception],
    message: str,
) -> None:
    images = {'ms': files('S2/a.tif'), 'sar': files('S1/a.tif')}
    with pytest.raises(error, match=message):
        match_tiles(images, patterns, skip)
