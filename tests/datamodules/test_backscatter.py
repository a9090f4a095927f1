# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Values that cannot be backscatter count as missing in all batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchgeo.datasets.utils import Sample

from tests.datasets.radar import filled, hole, write_radar
from tests.fakes import pack_folders
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import UnitError

UNITS = {'sar': 'dB'}


class Predictions(LightningModule):
    """Returns the images that a trainer hands to it."""

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        return batch['image_sar']


def open_data(root: Path, **kwargs: Any) -> PairedFoldersDataModule:
    return PairedFoldersDataModule(str(root), batch_size=3, units=UNITS, **kwargs)


def predict(root: Path, **kwargs: Any) -> Tensor:
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    datamodule = open_data(root, **kwargs)
    batches = trainer.predict(Predictions(), datamodule=datamodule)
    assert batches is not None
    return torch.cat([x for x in batches if isinstance(x, Tensor)])


@pytest.mark.parametrize('resident', [False, True])
def test_few_impossible_values_are_missing(tmp_path: Path, resident: bool) -> None:
    honest = predict(write_radar(tmp_path / 'a', hole(np.nan)))
    assert honest.isnan().sum() == 2 * 2 * len(honest)
    dirty = write_radar(tmp_path / 'b', hole(-9999))
    if resident:
        dirty = pack_folders(dirty, units=UNITS)
    found = predict(dirty, resident=resident)
    assert torch.equal(found.nan_to_num(0), honest.nan_to_num(0))
    assert torch.equal(found.isnan(), honest.isnan())


def test_many_impossible_values_are_refused(tmp_path: Path) -> None:
    root = write_radar(tmp_path / 'a', filled(-9999))
    message = r"'sar': .*12 % are -9999.* add --data\.nodata '\{sar: -9999\}'"
    with pytest.raises(UnitError, match=message):
        predict(root)


def test_transformed_values_are_left_alone(tmp_path: Path) -> None:
    def transform(sample: Sample) -> Sample:
        return sample | {'image_sar': sample['image_sar'] - 100}

    found = predict(write_radar(tmp_path / 'a'), transforms=transform)
    assert found.max() < -60
