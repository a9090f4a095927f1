# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torchmetrics.classification import MulticlassF1Score

from torchgeo_discomkd.callbacks import BestClassifiers
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.models import fit_temperature, load_classifier
from torchgeo_discomkd.tasks import FusionClassification

from .runs import LABELS, create_task, create_trainer, fit, images


class Halved(Callback):
    """A callback of somebody else: all weights are halved while they are scored."""

    def __init__(self, start: str, end: str) -> None:
        self._kept: list[torch.Tensor] = []
        setattr(self, start, self._swap)
        setattr(self, end, self._restore)

    def _swap(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        self._kept = [x.detach().clone() for x in module.parameters()]
        for x in module.parameters():
            x.data.mul_(0.5)

    def _restore(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        for x, kept in zip(module.parameters(), self._kept, strict=True):
            x.data.copy_(kept)


def swa() -> StochasticWeightAveraging:
    return StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)


@pytest.mark.parametrize(
    'create',
    [
        lambda: [EMAWeightAveraging(decay=0.8)],
        lambda: [BestClassifiers(), WeightAveraging()],
        lambda: [swa()],
        lambda: [Halved('on_validation_start', 'on_validation_end')],
        lambda: [BestClassifiers(), Halved('on_validation_start', 'on_validation_end')],
        lambda: [
            BestClassifiers(),
            Halved('on_validation_batch_start', 'on_validation_batch_end'),
        ],
        lambda: [Halved('on_validation_batch_start', 'on_validation_batch_end')],
    ],
)
def test_file_has_the_weights_that_were_scored(
    create: Callable[[], list[Callback]], tmp_path: Path
) -> None:
    fit(tmp_path, max_epochs=2, callbacks=create())
    loaded = load_classifier(tmp_path / 'best' / 'sar.safetensors')
    logits = loaded(images('sar', seed=10))
    score = MulticlassF1Score(2, average='weighted')(logits, LABELS).item()
    assert loaded.metadata.scores['val_F1Score'] == pytest.approx(score, abs=1e-6)
    manifest = json.loads((tmp_path / 'manifest.json').read_text())
    assert manifest['best']['sar']['val_F1Score'] == pytest.approx(score, abs=1e-6)
    temperature = fit_temperature(logits, LABELS)
    assert loaded.metadata.temperature == pytest.approx(temperature, rel=1e-4)


def test_training_goes_on_with_its_own_weights(tmp_path: Path) -> None:
    ends = []
    for name in ('plain', 'halved'):
        task = create_task()
        halved = [Halved('on_validation_start', 'on_validation_end')]
        fit(tmp_path / name, task, callbacks=halved if name == 'halved' else [])
        ends.append(task.state_dict())
    one, two = ends
    assert all(torch.equal(x, two[name]) for name, x in one.items())


def test_nothing_is_written_before_an_average_has_begun(tmp_path: Path) -> None:
    late = EMAWeightAveraging(decay=0.8, update_starting_at_step=1000)
    with pytest.warns(UserWarning, match='no classifier file was written.*earlier'):
        trainer = fit(tmp_path / 'one', max_epochs=1, callbacks=[late])
    assert 'val_sar_F1Score' in trainer.callback_metrics
    assert not list(tmp_path.rglob('*.safetensors'))
    # the first step of the second epoch
    start = trainer.global_step
    late = EMAWeightAveraging(decay=0.8, update_starting_at_step=start)
    fit(tmp_path / 'two', max_epochs=2, callbacks=[late])
    loaded = load_classifier(tmp_path / 'two' / 'best' / 'sar.safetensors')
    assert loaded.metadata.epoch == 1


class EachEpoch(WeightAveraging):
    """As in Lightning's documentation: an average of the weights of each epoch."""

    def should_update(
        self, step_idx: int | None = None, epoch_idx: int | None = None
    ) -> bool:
        return epoch_idx is not None


@pytest.mark.parametrize(
    'create',
    [
        EachEpoch,
        lambda: EMAWeightAveraging(
            decay=0.5, update_every_n_steps=0, update_starting_at_epoch=0
        ),
    ],
)
def test_averages_per_epoch_begin_after_the_first(
    create: Callable[[], Callback], tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match='no classifier file was written'):
        fit(tmp_path / 'short', callbacks=[create()], max_epochs=1)
    fit(tmp_path, callbacks=[create()], max_epochs=2)
    path = tmp_path / 'best' / 'sar.safetensors'
    assert load_classifier(path).metadata.epoch == 1
    # resumed before any improvement, the average goes on
    path.unlink()
    last = tmp_path / 'last.ckpt'
    fit(tmp_path, callbacks=[create()], max_epochs=3, ckpt_path=last)
    assert load_classifier(path).metadata.epoch == 2


def test_average_that_served_another_training_has_not_begun(tmp_path: Path) -> None:
    average = EMAWeightAveraging(decay=0.8)
    fit(tmp_path / 'one', callbacks=[average])
    # Lightning makes no update before the last step of the first training
    with pytest.warns(UserWarning, match='served another training, create a new one'):
        fit(tmp_path / 'two', callbacks=[average])
    found = [p.parts[-3] for p in tmp_path.rglob('sar.safetensors')]
    assert found == ['one']


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        ({'max_epochs': 2, 'check_val_every_n_epoch': 2}, 'check_val_every_n_epoch=2'),
        ({'max_epochs': -1, 'max_steps': 3}, 'max_epochs is -1'),
        ({'check_val_every_n_epoch': None, 'val_check_interval': 4}, 'is null'),
        ({'model': 'test_vit'}, 'no batch normalisation'),
    ],
)
def test_averages_that_would_never_be_scored(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    task = create_task()
    if settings.pop('model', None):
        task.model = torch.nn.Linear(2, 2)
    with pytest.raises(SettingError, match=f'{reason}.* Use WeightAveraging'):
        fit(tmp_path, task, callbacks=[swa()], **settings)
    assert not list(tmp_path.iterdir())


def test_averages_that_are_scored_are_fine(tmp_path: Path) -> None:
    trainer = create_trainer(tmp_path, max_epochs=3, check_val_every_n_epoch=2)
    trainer.callbacks.append(swa())  # ty: ignore[unresolved-attribute]
    BestClassifiers().setup(trainer, create_task(), 'fit')


def test_task_that_does_not_keep_its_weights(tmp_path: Path) -> None:
    class Forgetful(FusionClassification):
        def on_validation_batch_start(self, *args: Any) -> None:
            pass

    task = Forgetful({'sar': 2}, num_classes=2, model='test_resnet')
    with pytest.raises(SettingError, match='must call that of its base class'):
        fit(tmp_path, task)
    assert not (tmp_path / 'best').exists()
