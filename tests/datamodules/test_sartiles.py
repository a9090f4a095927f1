# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from geopandas import GeoDataFrame
from lightning.pytorch import Trainer
from shapely.geometry.base import BaseGeometry

from tests.conftest import TINY
from tests.fakes import write_tile
from torchgeo_discomkd.callbacks import PredictionWriter
from torchgeo_discomkd.classify import classify_tiles, load_predictor
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datamodules import SARTilesDataModule
from torchgeo_discomkd.errors import ModalityError, SettingError
from torchgeo_discomkd.models import (
    load_classifier,
    load_metadata,
    save_classifier,
    store_temperature,
)
from torchgeo_discomkd.rasters import find_images
from torchgeo_discomkd.tasks import DisCoMKD, PretrainedClassification


@pytest.fixture
def file(trained_in_db: Path, tmp_path: Path) -> Path:
    run = shutil.copytree(trained_in_db, tmp_path / 'run')
    path = run / 'best' / 'sar.safetensors'
    store_temperature(path, 0.1, {})
    return path


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Good and bad tiles of many kinds; the good ones are like those of training."""
    folder, rng = tmp_path / 'tiles', np.random.default_rng(0)
    sizes = [*[(8, 8)] * 6, (8, 10), (20, 30), (5, 8), (16, 16)]
    for number, size in enumerate(sizes):
        values = rng.normal(-12, 1, (2, *size)).astype(np.float32)
        values[1] -= 1
        values[:, 0, 0] = np.nan
        crs = ('EPSG:32631', 'EPSG:32760', None)[number % 3]
        write_tile(folder / f'north/{number}.tif', values, crs=crs)
    linear = (10 ** rng.normal(-1.2, 0.1, (2, 8, 8))).astype(np.float32)
    linear[1] /= 1.3
    write_tile(folder / 'south' / '0.tif', linear)
    write_tile(folder / 'south' / 'nodata.tif', np.zeros((2, 8, 8), np.int16), nodata=0)
    write_tile(folder / 'south' / 'one.tif', linear[:1])
    write_tile(folder / 'south' / 'numbers.tif', np.full((2, 8, 8), 9999, np.uint16))
    np.save(folder / 'south' / 'array.npy', linear)
    (folder / 'south' / 'broken.tif').write_bytes(b'II*\0')
    return folder


def same_shape(one: BaseGeometry | None, two: BaseGeometry | None) -> bool:
    return one is two is None or (one is not None and one.equals(two))


def assert_same(one: GeoDataFrame, two: GeoDataFrame) -> None:
    assert one.crs == two.crs
    assert list(one) == list(two)
    geometries = zip(one.geometry, two.geometry, strict=True)
    assert all(same_shape(a, b) for a, b in geometries)
    plain = [pd.DataFrame(table.drop(columns='geometry')) for table in (one, two)]
    # one of both folds batch normalisations: another order of float32 operations
    pd.testing.assert_frame_equal(*plain, rtol=0, atol=5e-6)


def predict(file: Path, folder: Path, *args: str) -> GeoDataFrame:
    main(
        [
            *('predict', '--model', 'PretrainedClassification'),
            *('--model.classifiers', f'{{sar: {file}}}'),
            *('--data', 'SARTilesDataModule', '--trainer.accelerator', 'cpu'),
            *('--trainer.default_root_dir', str(folder), *args),
        ]
    )
    assert [p.name for p in (folder / 'predictions').iterdir()] == ['sar.parquet']
    return geopandas.read_parquet(folder / 'predictions' / 'sar.parquet')


def classify(
    file: Path, paths: Sequence[Path], output: Path, **kwargs: object
) -> GeoDataFrame:
    predictor = load_predictor(file, device='cpu')
    images = find_images(paths, predictor.bands)
    classify_tiles(predictor, images, output, progress=False, **kwargs)  # ty: ignore[invalid-argument-type]
    return geopandas.read_parquet(output)


@pytest.mark.parametrize('workers', ['0', '2'])
def test_predict_gives_the_rows_of_classify(
    workers: str, file: Path, tiles: Path, tmp_path: Path
) -> None:
    data = ['--data.paths', str(tiles), '--data.num_workers', workers]
    predicted = predict(file, tmp_path / 'out', *data, '--data.batch_size', '3')
    classified = classify(file, [tiles], tmp_path / 'classified.parquet')
    assert_same(predicted, classified)
    words = predicted['status'].str.partition(':')[0].value_counts().to_dict()
    assert words == {
        'ok': 8,
        'mixed_size': 4,
        'nodata': 1,
        'bands': 1,
        'unit': 1,
        'unreadable': 1,
    }
    assert predicted['label'].isna().sum() == 4


def test_settings_from_the_command_line(
    file: Path, tiles: Path, tmp_path: Path
) -> None:
    predicted = predict(
        file,
        tmp_path / 'out',
        *('--data.paths', f'[{tiles / "north/*.tif"}, {tiles / "south/0.tif"}]'),
        *('--data.file_bands', '[2, 1]', '--data.scale', 'db'),
        *('--data.crs', 'EPSG:32631', '--data.max_nodata', '0.02'),
        *('--trainer.callbacks+=PredictionWriter',),
        *('--trainer.callbacks.min_confidence', '0.6'),
    )
    classified = classify(
        file,
        [tiles / 'north/*.tif', tiles / 'south/0.tif'],
        tmp_path / 'classified.parquet',
        bands=['2', '1'],
        scale='db',
        crs='EPSG:32631',
        max_nodata=0.02,
        min_confidence=0.6,
    )
    assert_same(predicted, classified)
    assert predicted['status'].iloc[-1].startswith('unit')
    assert predicted['status'].iloc[8] == 'nodata'


def test_best_files_of_a_run(
    file: Path, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = file.parents[1]
    main(
        [
            *('predict', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
            *('--trainer.default_root_dir', str(run), '--data', 'SARTilesDataModule'),
            *('--data.paths', str(tiles)),
        ]
    )
    classified = classify(file, [tiles], tmp_path / 'classified.parquet')
    predicted = geopandas.read_parquet(run / 'predictions' / 'sar.parquet')
    assert_same(predicted, classified)
    assert '16 predictions' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        predict(file, run, '--data.paths', str(tiles))
    assert 'sar.parquet exists' in capsys.readouterr().err


def test_last_weights(file: Path, tiles: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        enable_progress_bar=False,
        callbacks=PredictionWriter(str(tmp_path / 'out')),
    )
    task = DisCoMKD(num_classes=2, model='test_resnet')
    data = SARTilesDataModule(str(tiles / 'north'), classifier=str(file))
    checkpoint = file.parents[1] / 'last.ckpt'
    trainer.predict(
        task, datamodule=data, ckpt_path=checkpoint, return_predictions=False
    )
    predicted = geopandas.read_parquet(tmp_path / 'out' / 'sar.parquet')
    # the run has one epoch: the last weights are the best ones, but not calibrated
    store_temperature(file, 1.0, {})
    classified = classify(file, [tiles / 'north'], tmp_path / 'c.parquet')
    assert_same(predicted, classified)


@pytest.mark.slow
def test_checkpoint_on_the_command_line(
    file: Path, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = file.parents[1] / 'last.ckpt'

    def run(checkpoint: Path, folder: Path, *args: str) -> GeoDataFrame:
        main(
            [
                *('predict', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
                *('--ckpt_path', str(checkpoint), '--data', 'SARTilesDataModule'),
                *('--data.paths', str(tiles), '--trainer.default_root_dir'),
                *(str(folder), *args),
            ]
        )
        return geopandas.read_parquet(folder / 'predictions' / 'sar.parquet')

    predicted = run(checkpoint, tmp_path / 'out')
    store_temperature(file, 1.0, {})
    assert_same(predicted, classify(file, [tiles], tmp_path / 'c.parquet'))
    # away from its run nothing says what the checkpoint takes
    alone = shutil.copy(checkpoint, tmp_path / 'alone.ckpt')
    with pytest.raises(SystemExit):
        run(alone, tmp_path / 'alone')
    assert '--data.classifier to its file' in capsys.readouterr().err
    assert_same(
        run(alone, tmp_path / 'alone', '--data.classifier', str(file)), predicted
    )


def predict_with(
    files: dict[str, Path], data: SARTilesDataModule
) -> SARTilesDataModule:
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    task = PretrainedClassification({name: str(path) for name, path in files.items()})
    trainer.predict(task, datamodule=data)
    return data


def test_what_the_classifier_says_is_adopted(
    file: Path, pairs: Path, tiles: Path
) -> None:
    data = SARTilesDataModule(str(tiles), classifier=str(file))
    spec = predict_with({'sar': file}, data).predict_dataset.spec
    metadata = load_metadata(file).modalities['sar']
    assert (spec.bands, spec.unit, spec.size) == (metadata.bands, 'dB', (8, 8))
    ms = file.with_name('ms.safetensors')
    data = SARTilesDataModule(str(pairs / 'ms'), modality='ms')
    data.adopt([load_metadata(file), load_metadata(ms)])
    predict_with({'sar': file, 'ms': ms}, data)
    assert len(data.predict_dataset.spec.bands) == 13
    assert data.predict_dataset[0]['image_ms'].max() > 500
    # other classifiers of the same modality are welcome as long as they agree
    data = SARTilesDataModule(str(tiles))
    data.adopt([load_metadata(file)] * 2)
    predict_with({'a': file, 'b': file}, data)
    # as often as one likes
    predict_with({'a': file}, data)


def test_no_tile_is_read_as_the_classifier_does_not_take_it(
    file: Path, tiles: Path
) -> None:
    bands = load_metadata(file).modalities['sar'].bands
    with pytest.raises(SettingError, match=r'bands and the unit .* are not known'):
        predict_with({'sar': file}, SARTilesDataModule(str(tiles), size=(8, 8)))
    with pytest.raises(SettingError, match=r'bands and the unit .* are not known'):
        predict_with({'sar': file}, SARTilesDataModule(str(tiles), bands=bands))
    # stated like that of another classifier
    data = SARTilesDataModule(str(tiles), bands=('VH', 'VV'), unit='dB')
    with pytest.raises(SettingError, match='bands of'):
        predict_with({'sar': file}, data)
    data = SARTilesDataModule(str(tiles), bands=bands, unit='dB')
    with pytest.raises(SettingError, match=r'classifier takes .*\(8, 8\)'):
        predict_with({'sar': file}, data)
    # stated completely, and right
    data = SARTilesDataModule(str(tiles), bands=bands, unit='dB', size=(8, 8))
    assert predict_with({'sar': file}, data).predict_dataset.spec.size == (8, 8)


def test_contradictions(
    file: Path, tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(**stated: object) -> SARTilesDataModule:
        return SARTilesDataModule(str(tiles), classifier=str(file), **stated)  # ty: ignore[invalid-argument-type]

    with pytest.raises(ModalityError, match=r"'x' alone.*\['sar'\]"):
        make(modality='x')
    with pytest.raises(SettingError, match=r'bands of.*--data\.bands'):
        make(bands=['VH', 'VV'])
    with pytest.raises(SettingError, match='unit of'):
        make(unit='linear')
    with pytest.raises(SettingError, match='size of'):
        make(size=(9, 9))
    with pytest.raises(SystemExit):
        main(
            [
                *('test', '--model', 'PretrainedClassification'),
                *('--model.classifiers', f'{{sar: {file}}}', '--trainer.accelerator'),
                *('cpu', '--data', 'SARTilesDataModule', '--data.paths', str(tiles)),
            ]
        )
    assert 'no labels' in capsys.readouterr().err


def test_negative_power_where_noise_was_removed(
    file: Path, tmp_path: Path, tiles: Path
) -> None:
    metadata = load_metadata(file)
    # what training tiles look like is known in dB only
    sar = replace(metadata.modalities['sar'], unit='linear', profile=None)
    classifier = load_classifier(file).classifier
    linear = tmp_path / 'linear.safetensors'
    save_classifier(linear, classifier, replace(metadata, modalities={'sar': sar}))
    values = np.random.default_rng(0).uniform(0.01, 0.1, (2, 8, 8))
    values[1] /= 3
    values[0, 3, 3] = -0.001
    write_tile(tmp_path / 'low.tif', values.astype(np.float32))
    paths = [tmp_path / 'low.tif', tiles]
    data = ['--data.paths', f'[{paths[0]}, {paths[1]}]']
    predicted = predict(linear, tmp_path / 'out', *data)
    assert_same(predicted, classify(linear, paths, tmp_path / 'c.parquet'))
    assert predicted['status'][0] == 'ok'


def test_without_a_trainer(tiles: Path) -> None:
    bands = ('VV', 'VH')
    data = SARTilesDataModule(
        str(tiles / 'north'), bands=bands, unit='dB', size=(8, 8), batch_size=4
    )
    data.setup('predict')
    batches = list(data.predict_dataloader())
    assert sum(len(batch['path']) for batch in batches) == 10
    assert data.predict_dataset.spec.bands == bands


def test_nothing_but_bad_tiles(file: Path, tiles: Path, tmp_path: Path) -> None:
    paths = [tiles / 'south' / f'{name}.tif' for name in ('broken', 'nodata', 'one')]
    data = ['--data.paths', f'[{", ".join(map(str, paths))}]']
    predicted = predict(file, tmp_path / 'out', *data)
    assert_same(predicted, classify(file, paths, tmp_path / 'c.parquet'))
    assert predicted['label'].isna().all()


def test_probabilities_of_a_large_tile(file: Path, tiles: Path, tmp_path: Path) -> None:
    shutil.copy(tiles / 'north' / '9.tif', tmp_path / 'large.tif')
    table = predict(file, tmp_path, '--data.paths', str(tmp_path / 'large.tif'))
    with rasterio.open(tmp_path / 'large.tif') as source:
        image = torch.from_numpy(source.read())
    parts = [image[:, y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]
    expected = load_classifier(file).probabilities(torch.stack(parts)).mean(0)
    actual = table[['probability_Crop', 'probability_Water']].to_numpy()[0]
    np.testing.assert_allclose(actual, expected, atol=1e-6)
