# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Settings that differ from those that a training began with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.callbacks.runs import batches, create_task, create_trainer, fit
from torchgeo_discomkd.errors import CheckpointError
from torchgeo_discomkd.losses import CTKD
from torchgeo_discomkd.tasks import Distillation

from .distillation import tiny, write_teacher

STUDENT = (
    *('--model', 'FusionClassification', '--model.in_channels', '{sar: 2}'),
    *('--data.modalities', '[sar]', '--trainer.logger', 'false'),
)


def test_settings_that_resuming_would_ignore(tmp_path: Path) -> None:
    fit(tmp_path)
    last = tmp_path / 'last.ckpt'
    before = last.read_bytes()
    for name, value, message in (
        ('lr', 1e-3, 'lr=0.01, but the task has 0.001'),
        ('normalization', 'percentile', "='standardize', but the task has 'perc"),
    ):
        task = create_task(**{name: value})
        with pytest.raises(CheckpointError, match=f'{message}.*would ignore'):
            fit(tmp_path, task, max_epochs=2, ckpt_path=last)
    assert last.read_bytes() == before
    # evaluating does not need them
    loader = batches()
    task = create_task(lr=1e-3)
    create_trainer(tmp_path).test(task, loader, ckpt_path=last, verbose=False)


def test_settings_that_resuming_changes(tmp_path: Path) -> None:
    fit(tmp_path)
    task = create_task(class_weights=[1.0, 50.0], label_smoothing=0.1)
    fit(tmp_path, task, max_epochs=2, ckpt_path=tmp_path / 'last.ckpt')
    assert task.criterion.weight is not None
    assert task.criterion.weight.tolist() == [1, 50]
    assert task.criterion.label_smoothing == 0.1


def test_another_rate_of_a_loss(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / 'teacher.safetensors', {'ms': 2}, ('0', '1'))

    def student(**settings: float) -> Distillation:
        return tiny(teacher, loss=CTKD(**settings), lr=0.01)

    fit(tmp_path / 'run', student())
    last = tmp_path / 'run' / 'last.ckpt'
    with pytest.raises(CheckpointError, match=r'lr of the loss=0\.001, .* 0\.05'):
        fit(tmp_path / 'run', student(temperature_lr=0.05), ckpt_path=last)
    task = student(distillation_weight=0.5)
    fit(tmp_path / 'run', task, max_epochs=2, ckpt_path=last)
    assert task.loss.weights(1) == (0.1, 0.5)


def test_another_rate_of_an_optimizer(fit_pairs: Callable[..., Path]) -> None:
    optimizer = (*STUDENT, '--optimizer', 'SGD', '--optimizer.lr')
    last = fit_pairs(*optimizer, '0.01') / 'last.ckpt'
    resume = ('--ckpt_path', str(last))
    message = r'goes on with lr=0\.01 of the checkpoint, not with 0\.5'
    with pytest.warns(UserWarning, match=message):
        fit_pairs(*optimizer, '0.5', *resume, epochs=2)
    # a schedule has changed it
    step = ('--lr_scheduler', 'StepLR', '--lr_scheduler.step_size', '1')
    last = fit_pairs(*optimizer, '0.01', *step, name='step') / 'last.ckpt'
    fit_pairs(
        *optimizer, '0.01', *step, '--ckpt_path', str(last), name='step', epochs=2
    )
    groups = torch.load(last)['optimizer_states'][0]['param_groups']
    assert groups[0]['lr'] == pytest.approx(1e-4)
