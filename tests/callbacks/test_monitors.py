# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger
from torch.optim.lr_scheduler import ReduceLROnPlateau

from torchgeo_discomkd.commands.fit import as_user_error
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import CTKD
from torchgeo_discomkd.tasks import DisCoMKD, Distillation, FusionClassification

from .runs import create_task, fit

SAR = {'num_classes': 2, 'model': 'test_resnet'}


@pytest.fixture(scope='module')
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp('teacher')
    fit(folder)
    return str(folder / 'best' / 'sar.safetensors')


@pytest.mark.parametrize('kind', ['alone', 'DisCoMKD', 'CTKD'])
def test_names_are_those_that_are_logged(
    kind: str, teacher: str, tmp_path: Path
) -> None:
    both = {'ms': 2, 'sar': 2}
    match kind:
        case 'alone':
            task: Any = create_task()
        case 'DisCoMKD':
            guided = {'transfer': True, 'transfer_guide': 'ms', 'transfer_warmup': 0}
            task = DisCoMKD(both, **SAR, **guided, students=True)
        case _:
            task = Distillation(teacher, CTKD(), in_channels={'sar': 2}, **SAR)
    trainer = fit(tmp_path, task)
    assert set(trainer.callback_metrics) == task.metric_names()


@pytest.mark.parametrize(
    ('callback', 'near', 'settings'),
    [
        (EarlyStopping('val_F1Score'), 'val_sar_F1Score', {}),
        (ModelCheckpoint(monitor='train_los'), 'train_loss', {}),
        (EarlyStopping('val_ms_F1Score', strict=False), 'val_sar_F1Score', {}),
        (EarlyStopping('val_loss'), 'no validation', {'limit_val_batches': 0}),
    ],
)
def test_name_that_is_not_logged(
    callback: Callback, near: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    name = type(callback).__name__
    with pytest.raises(SettingError, match=f'{name} monitors .*{near}'):
        fit(tmp_path, callbacks=[callback], **settings)
    assert not list(tmp_path.iterdir())


class Plateau(FusionClassification):
    """A task with a schedule, as of somebody else."""

    monitor = 'val_sar_F1Score'

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters())
        schedule = {'scheduler': ReduceLROnPlateau(optimizer), 'monitor': self.monitor}
        return {'optimizer': optimizer, 'lr_scheduler': schedule}


def test_schedule_of_a_name_that_is_not_logged(tmp_path: Path) -> None:
    task = create_task()
    task.configure_optimizers = lambda: Plateau.configure_optimizers(task)  # ty: ignore[invalid-assignment, invalid-argument-type]
    task.monitor = 'val_sar_F1Scor'  # ty: ignore[unresolved-attribute]
    with pytest.raises(SettingError, match='ReduceLROnPlateau monitors'):
        fit(tmp_path, task)
    assert not list(tmp_path.iterdir())


class Mine(Callback):
    """Logs a metric of its own."""

    def on_validation_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        task.log('mine', 1.0)


def test_names_that_are_fine(tmp_path: Path) -> None:
    task = Plateau({'sar': 2}, **SAR)
    callbacks = [
        EarlyStopping('val_loss'),
        EarlyStopping('lr-Adam', check_on_train_epoch_end=True),
        LearningRateMonitor('epoch'),
        ModelCheckpoint(monitor='step', mode='max', save_weights_only=True),
    ]
    fit(tmp_path, task, callbacks=callbacks, logger=CSVLogger(tmp_path))


def test_classes_of_somebody_else_may_log_more(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"monitors 'mine'.* A class of yours may"):
        fit(tmp_path / 'logged', callbacks=[Mine(), EarlyStopping('mine')])
    with (
        pytest.warns(UserWarning, match='not log'),
        pytest.raises(RuntimeError) as late,
    ):
        fit(tmp_path / 'not', callbacks=[Mine(), EarlyStopping('yours')])
    assert isinstance(as_user_error(late.value), SettingError)
