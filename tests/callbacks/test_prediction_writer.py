# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyogrio
import pytest
import torch
from geopandas import GeoDataFrame
from lightning.pytorch import Trainer
from shapely import box
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchgeo.datasets.utils import Sample

from torchgeo_discomkd.callbacks import PredictionWriter
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import OutputExistsError, SettingError
from torchgeo_discomkd.tasks import DisCoMKD

COLUMNS = ['path', 'label', 'confidence', 'entropy']
COLUMNS += ['probability_dry', 'probability_flooded', 'status', 'unusual', 'geometry']


class Tiles(Dataset[Sample]):
    """Five SAR tiles."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        return {'image_sar': torch.full((2, 8, 8), float(index))}


class Stream(IterableDataset[Sample]):
    """Two SAR tiles that nobody can count."""

    def __iter__(self) -> Any:
        yield from (Tiles()[0], Tiles()[1])


def make_task() -> DisCoMKD:
    torch.manual_seed(0)
    return DisCoMKD(num_classes=2, model='test_resnet', labels=['dry', 'flooded'])


def predict(root: Path, data: Any = None, **kwargs: Any) -> DisCoMKD:
    task = make_task()
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        default_root_dir=root,
        enable_progress_bar=False,
        callbacks=PredictionWriter(**kwargs),
    )
    loader = DataLoader(Tiles() if data is None else data, batch_size=2)
    trainer.predict(task, loader, return_predictions=False)
    return task


def expected_probabilities(task: DisCoMKD) -> Tensor:
    images = torch.stack([Tiles()[i]['image_sar'] for i in range(5)])
    with torch.no_grad():
        return task.eval()(images, 'sar').softmax(1)


def test_rows_are_those_of_the_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = expected_probabilities(predict(tmp_path))
    path = tmp_path / 'predictions' / 'sar.csv'
    assert f'5 predictions: {path}\n' in capsys.readouterr().out
    table = pd.read_csv(path)
    assert list(table) == [*COLUMNS[:-1], 'WKT']
    assert table['path'].tolist() == [0, 1, 2, 3, 4]
    assert set(table['status']) == {'ok'}
    actual = torch.tensor(table[COLUMNS[4:6]].to_numpy().tolist())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    confidence = torch.tensor(table['confidence'].tolist())
    torch.testing.assert_close(confidence, expected.amax(1), rtol=0, atol=1e-6)
    names = [['dry', 'flooded'][i] for i in expected.argmax(1)]
    assert table['label'].tolist() == names
    # the classifier of the modality that the data lacks leaves nothing behind
    assert [p.name for p in path.parent.iterdir()] == ['sar.csv']


@pytest.mark.parametrize('format', ['parquet', 'gpkg', 'geojson'])
def test_formats(format: str, tmp_path: Path) -> None:
    task = predict(tmp_path, folder=str(tmp_path), format=format, min_confidence=1.0)
    path = tmp_path / f'sar.{format}'
    if format == 'parquet':
        table = geopandas.read_parquet(path)
    else:
        layer = 'tiles' if format == 'gpkg' else None
        table = pyogrio.read_dataframe(path, layer=layer)
    assert [c for c in table if c != 'geometry'] == COLUMNS[:-1]
    assert set(table['label']) == {'uncertain'}
    actual = torch.tensor(table[COLUMNS[4:6]].to_numpy().tolist())
    expected = expected_probabilities(task)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_tables_are_not_overwritten(tmp_path: Path) -> None:
    predict(tmp_path)
    path = tmp_path / 'predictions' / 'sar.csv'
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r'sar\.csv exists'):
        predict(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ['sar.csv']
    predict(tmp_path, overwrite=True, min_confidence=1.0)
    assert 'uncertain' in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ['sar.csv']


class Failing(Tiles):
    """Tiles of which one is lost."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __getitem__(self, index: int) -> Sample:
        if index == self.index:
            raise OSError('lost')
        return super().__getitem__(index)


def test_partial_tables_are_marked_as_such(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='lost'):
        predict(tmp_path, Failing(4))
    folder = tmp_path / 'predictions'
    assert [p.name for p in folder.iterdir()] == ['sar.csv.partial']
    (shard,) = folder.glob('*/*.parquet')
    assert pd.read_parquet(shard)['path'].tolist() == ['0', '1', '2', '3']
    with pytest.raises(OutputExistsError, match=r'sar\.csv\.partial exists'):
        predict(tmp_path)
    predict(tmp_path, overwrite=True)
    assert [p.name for p in folder.iterdir()] == ['sar.csv']
    assert len(pd.read_csv(folder / 'sar.csv')) == 5


def test_mistake_at_the_start_does_not_stand_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='lost'):
        predict(tmp_path, Failing(0))
    predict(tmp_path)
    assert len(pd.read_csv(tmp_path / 'predictions' / 'sar.csv')) == 5


@pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices")
def test_samples_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'index'"):
        predict(tmp_path, Stream())


def test_labelled_tiles_have_names_and_outlines(pairs: Path, tmp_path: Path) -> None:
    task = make_task()
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        callbacks=PredictionWriter(format='parquet'),
    )
    data = PairedFoldersDataModule(str(pairs), eval_batch_size=3)
    trainer.predict(task, datamodule=data, return_predictions=False)
    dataset = data.predict_dataset
    for modality in ('ms', 'sar'):
        table = geopandas.read_parquet(tmp_path / f'predictions/{modality}.parquet')
        names = [dataset.identifier(i) for i in range(len(dataset))]
        assert table['path'].tolist() == names
        assert table.crs == 'EPSG:4326'
        # tiles of 8 x 8 pixels of 10 m whose upper left corner is at (5e5, 4e6)
        outlines = table.to_crs('EPSG:32631').geometry
        true = box(5e5, 4e6 - 80, 5e5 + 80, 4e6)
        assert (outlines.symmetric_difference(true).area < 1).all()


def test_classes_of_a_checkpoint(trained_once: Path, tmp_path: Path) -> None:
    checkpoint = trained_once / 'run' / 'last.ckpt'
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        callbacks=PredictionWriter(folder=str(tmp_path)),
    )
    task = DisCoMKD(num_classes=2, model='test_resnet')
    loader = DataLoader(Tiles(), batch_size=2)
    trainer.predict(task, loader, ckpt_path=checkpoint, return_predictions=False)
    with (tmp_path / 'sar.csv').open() as file:
        header = next(csv.reader(file))
    assert header[4:6] == ['probability_Crop', 'probability_Water']


SCRIPT = """
import sys
import torch
from lightning.pytorch import Trainer
from tests.callbacks.test_prediction_writer import make_task
from torchgeo_discomkd.callbacks import PredictionWriter
from torchgeo_discomkd.datamodules import SARTilesDataModule

tiles, folder, devices = sys.argv[1:]
torch.set_num_threads(1)
trainer = Trainer(
    accelerator='cpu', devices=int(devices), strategy='ddp', logger=False,
    enable_progress_bar=False, callbacks=PredictionWriter(folder),
)
data = SARTilesDataModule(
    tiles, bands=('VV', 'VH'), unit='dB', size=(8, 8), batch_size=2
)
trainer.predict(make_task(), datamodule=data, return_predictions=False)
"""


@pytest.mark.slow
def test_several_processes(pairs: Path, tmp_path: Path) -> None:
    (pairs / 'sar' / 'Crop' / 'Crop_3.tif').write_bytes(b'')
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)

    def run(devices: int) -> GeoDataFrame:
        folder = tmp_path / str(devices)
        arguments = [str(pairs / 'sar'), str(folder), str(devices)]
        command = [sys.executable, '-W', 'ignore', str(script), *arguments]
        root = Path(__file__).parents[2]
        environment = {'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
        subprocess.run(command, check=True, env=environment, cwd=root)
        assert [p.name for p in folder.iterdir()] == ['sar.parquet']
        return geopandas.read_parquet(folder / 'sar.parquet')

    one, two = run(1), run(2)
    assert len(one) == 40
    # one after the other: the tiles of the first process, then those of the second
    assert (
        two['path'].tolist() == one['path'].tolist()[::2] + one['path'].tolist()[1::2]
    )
    two = two.sort_values('path', ignore_index=True)
    one = one.sort_values('path', ignore_index=True)
    assert two['status'].tolist() == one['status'].tolist()
    assert one['status'].str.startswith('unreadable').sum() == 1
    pd.testing.assert_frame_equal(
        pd.DataFrame(one.drop(columns='geometry')),
        pd.DataFrame(two.drop(columns='geometry')),
        atol=1e-6,
        rtol=0,
    )
    both = one.geometry.geom_equals(two.geometry)
    assert (both | (one.geometry.isna() & two.geometry.isna())).all()
