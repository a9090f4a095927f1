# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets.utils import Sample

from torchgeo_discomkd.callbacks import PredictionWriter
from torchgeo_discomkd.errors import RunFolderExistsError
from torchgeo_discomkd.tasks import DisCoMKD


class Tiles(Dataset[Sample]):
    """Five SAR tiles."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        return {'image_sar': torch.full((2, 8, 8), float(index))}


def predict(folder: Path, batch_size: int = 2) -> DisCoMKD:
    torch.manual_seed(0)
    task = DisCoMKD(num_classes=2, model='test_resnet', labels=['dry', 'flooded'])
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        callbacks=PredictionWriter(),
    )
    trainer.predict(
        task, DataLoader(Tiles(), batch_size=batch_size), return_predictions=False
    )
    return task


def test_rows_are_those_of_the_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = predict(tmp_path)
    path = tmp_path / 'predictions' / 'sar.csv'
    assert f'5 predictions: {path}' in capsys.readouterr().out
    table = pd.read_csv(path)
    assert list(table) == ['sample', 'label', 'confidence', 'dry', 'flooded']
    assert table['sample'].tolist() == [0, 1, 2, 3, 4]
    images = torch.stack([Tiles()[i]['image_sar'] for i in range(5)])
    with torch.no_grad():
        expected = task.eval()(images, 'sar').softmax(1)
    actual = torch.from_numpy(table[['dry', 'flooded']].to_numpy()).float()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    names = [['dry', 'flooded'][i] for i in expected.argmax(1)]
    assert table['label'].tolist() == names


def test_tables_are_not_overwritten(tmp_path: Path) -> None:
    predict(tmp_path)
    path = tmp_path / 'predictions' / 'sar.csv'
    before = path.read_bytes()
    with pytest.raises(RunFolderExistsError, match=r'sar\.csv'):
        predict(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ['sar.csv']
