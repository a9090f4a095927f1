# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Training that is not finite stops, and nothing of it is written."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from tests.conftest import fit_discomkd
from tests.fakes import write_pairs, write_tile
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import NonFiniteError
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.models.finite import not_finite
from torchgeo_discomkd.models.normalization import Normalization
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification
from torchgeo_discomkd.tasks.loss_history import LossHistory
from torchgeo_discomkd.tasks.step_watch import Step, StepWatch

NAN, INF = torch.nan, torch.inf


def step(number: int, *values: float, loss: float = 1.0, device: str = 'cpu') -> Step:
    names = ('a_loss', 'b_loss', 'sar_logits')[: len(values)]
    vector = torch.tensor(values, device=device)
    return Step(number, 0, number, names, vector, torch.tensor(loss, device=device))


@pytest.mark.parametrize(
    ('wrong', 'match'),
    [
        (step(7, 1.0, NAN, 3.0), r'step 7 \(epoch 0, batch 7\): b_loss is nan$'),
        (step(7, INF, 1.0, NAN), 'a_loss is inf; so are logits of sar$'),
        (step(7, 1.0, 2.0, loss=INF), 'the sum of its terms is inf'),
    ],
)
def test_the_first_step_is_found(wrong: Step, match: str) -> None:
    watch = StepWatch()
    for good in range(3):
        watch.add(step(good, 1.0, 2.0, 3.0))
    watch.add(wrong)
    watch.add(step(8, NAN, NAN, NAN, loss=NAN))
    found = watch.first_not_finite()
    assert found is wrong
    with pytest.raises(AssertionError, match=match):
        raise AssertionError(found.describe())
    assert watch.first_not_finite() is None


def test_a_device_is_waited_for_rarely() -> None:
    watch = StepWatch()
    watch.add(step(0, 1.0))
    assert watch.is_due
    watch.forget()
    for number in range(StepWatch.EVERY):
        assert not watch.is_due
        watch.add(step(number, 1.0, device='meta'))
    assert watch.is_due


def test_weights_that_are_not_finite_are_named() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), Normalization(1))
    assert not_finite(module) == []
    module[0].weight.data.fill_(-INF)
    module[1].running_var.fill_(NAN)
    assert not_finite(module) == ['0.weight', '1.running_var']
    # limits of a normalisation are no weights
    assert not_finite(module[2]) == []


class Spoil(Callback):
    """Make a weight infinite before a step of the second epoch."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 2):
            next(pl_module.parameters()).data[0] = INF


class Grow(Callback):
    """Make weights so large, but finite, that validation overflows."""

    def on_validation_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        next(pl_module.parameters()).data.fill_(1e38)


@pytest.mark.parametrize('where', ['weights', 'scores'])
def test_such_a_classifier_is_never_written(where: str, tmp_path: Path) -> None:
    task = FusionClassification({'sar': 2}, 2, 'test_resnet')
    if where == 'weights':
        next(task.model.parameters()).data[0] = NAN
    scores = {'val_F1Score': NAN if where == 'scores' else 0.5}
    with pytest.raises(NonFiniteError, match='not written'):
        task.save_classifier('sar', tmp_path / 'sar.safetensors', scores, 0)
    assert not list(tmp_path.iterdir())


def test_a_training_that_turns_nan_keeps_its_last_finite_epoch(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [trained / 'last.ckpt', trained / 'best' / 'sar.safetensors']
    before = [path.read_bytes() for path in files]
    resume = ['--config', str(trained / 'config.yaml'), '--ckpt_path', str(files[0])]
    with pytest.raises(SystemExit) as stop:
        main(
            [
                *('fit', *resume, '--trainer.max_epochs', '3'),
                '--trainer.callbacks+=tests.tasks.test_watched.Spoil',
            ]
        )
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    assert 'the loss is not finite in step 6 (epoch 1, batch 2): classific' in error
    assert 'Samples of ms, by their index: [' in error
    assert f'{files[0]} has the weights of the last complete epoch' in error
    assert [path.read_bytes() for path in files] == before
    load_classifier(files[1])


def test_weights_are_checked_where_losses_are_not_yet_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_pairs(tmp_path / 'pairs', count=20)
    with pytest.raises(SystemExit):
        fit_discomkd(
            *(pairs, tmp_path / 'run', '--trainer.limit_train_batches', '1'),
            *('--optimizer', 'SGD', '--optimizer.lr', '3e38'),
        )
    assert 'after step 0 (epoch 0), weights are not finite' in capsys.readouterr().err
    assert not list((tmp_path / 'run').rglob('*.safetensors'))
    assert not (tmp_path / 'run' / 'last.ckpt').exists()


def test_a_checkpoint_is_checked_between_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = DisCoMKD(num_classes=2, model='test_resnet')
    monkeypatch.setattr(DisCoMKD, 'global_step', 3)
    task.on_save_checkpoint({})
    next(task.parameters()).data[0] = NAN
    with pytest.raises(NonFiniteError, match=r'after step 2 .* are not finite: '):
        task.on_save_checkpoint({})


def test_values_that_overflow_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_pairs(tmp_path / 'pairs', count=20)
    for tile in (pairs / 'ms').rglob('*.tif'):
        write_tile(tile, np.full((13, 8, 8), 3e38, np.float32))
    with pytest.raises(SystemExit):
        fit_discomkd(pairs, tmp_path / 'run', '--model.normalization', 'none')
    error = capsys.readouterr().err
    assert 'the largest value is 3e+38' in error
    assert 'so are logits of ms. ' in error
    assert not (tmp_path / 'run' / 'best').exists()


def test_answers_of_validation_are_finite(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit_pairs(
            '--trainer.callbacks+=tests.tasks.test_watched.Grow',
            *('--trainer.limit_train_batches', '1'),
        )
    error = capsys.readouterr().err
    assert 'val_ms_loss, val_loss are not finite in epoch 0' in error
    assert 'Traceback' not in error


def test_losses_in_words() -> None:
    task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
    chance = task.chance_levels()
    assert chance['modality_loss'] == pytest.approx(4 * 0.6931, abs=1e-3)
    assert chance['classification_loss'] == pytest.approx(2 * 1.0986, abs=1e-3)
    history = LossHistory()
    for _ in range(2):
        history.add(chance)
    assert history.in_words(chance) == []
    history.add(chance | {'classification_loss': 0.1, 'auxiliary_loss': 400.0})
    exploded, stuck = history.in_words(chance)
    assert 'train_auxiliary_loss is 400 (guessing gives 4.39)' in exploded
    assert 'discriminator (train_adversarial_loss' in stuck
    assert 'modality classifiers' in stuck
    assert 'classification' not in stuck


def test_soft_targets_are_met_by_guessing() -> None:
    options = {'num_classes': 3, 'model': 'test_resnet', 'formulation': 'released'}
    task = DisCoMKD({'ms': 13, 'sar': 2}, **options)
    assert set(task.chance_levels()) == {'classification_loss', 'auxiliary_loss'}


def test_the_end_of_fit_tells_what_learned_nothing(
    fit_pairs: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, 'lightning.pytorch'):
        fit_pairs('--model.lr', '0', '--trainer.limit_train_batches', '1', epochs=3)
    assert 'No better than guessing in any of 3 epochs' in caplog.text


def test_a_term_without_weight_has_no_level_of_guessing() -> None:
    task = DisCoMKD({'ms': 3, 'sar': 2}, 2, model='test_resnet', adversarial_weight=0.0)
    assert set(task.chance_levels()) == {
        *('classification_loss', 'modality_loss', 'auxiliary_loss')
    }
