# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Learning rates that decrease from the last layer of an encoder to the first."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchgeo_discomkd.errors import CheckpointError, SettingError
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification
from torchgeo_discomkd.tasks.layer_rates import check_same_decay


def test_rates_of_a_resnet() -> None:
    task = DisCoMKD({'ms': 3, 'sar': 2}, 2, 'test_resnet', lr=0.1, layer_decay=0.5)
    optimizer = task.configure_optimizers()
    rate = {p: group['lr'] for group in optimizer.param_groups for p in group['params']}
    assert len(rate) == len(list(task.parameters()))
    encoders = [encoder for _, encoder in task.encoders()]
    assert len(encoders) == 4
    for encoder in encoders:
        named = dict(encoder.named_parameters())
        # a stem and four blocks: the last at the full rate
        assert rate[named['conv1.0.weight']] == pytest.approx(0.1 / 2**4)
        blocks = [rate[named[f'layer{i}.0.conv1.weight']] for i in range(1, 5)]
        assert blocks == pytest.approx([0.1 / 8, 0.1 / 4, 0.1 / 2, 0.1])
    inside = {p for encoder in encoders for p in encoder.parameters()}
    assert {rate[p] for p in task.parameters() if p not in inside} == {0.1}


def test_without_decay_there_is_one_group() -> None:
    for decay in (None, 1.0):
        task = FusionClassification({'sar': 2}, 2, 'test_resnet', layer_decay=decay)
        [group] = task.configure_optimizers().param_groups
        assert len(group['params']) == len(list(task.parameters()))


def test_frozen_encoders_are_left_out() -> None:
    task = FusionClassification(
        {'ms': 3, 'sar': 2},
        2,
        'test_resnet',
        layer_decay=0.5,
        freeze_backbone={'ms': True},
    )
    groups = task.configure_optimizers().param_groups
    trained = {p for group in groups for p in group['params']}
    assert trained == {p for p in task.parameters() if p.requires_grad}


@pytest.mark.parametrize('decay', [0.0, -1.0, 1.5, float('nan')])
def test_factors_out_of_range(decay: float) -> None:
    task = FusionClassification({'sar': 2}, 2, 'test_resnet', layer_decay=decay)
    with pytest.raises(SettingError, match=r'layer_decay=.*above 0, at most 1'):
        task.configure_optimizers()


STUDENT = (
    *('--model', 'FusionClassification', '--model.in_channels', '{sar: 2}'),
    *('--data.modalities', '[sar]', '--trainer.logger', 'false'),
)


def test_resuming_with_other_rates_is_refused() -> None:
    checkpoint = {'hyper_parameters': {'layer_decay': 0.5}}
    check_same_decay(checkpoint, {'layer_decay': 0.5})
    # an earlier version knew no such rates
    check_same_decay({}, {'layer_decay': None})
    for began, own in ((checkpoint, None), ({}, 0.5)):
        with pytest.raises(CheckpointError, match='layer_decay='):
            check_same_decay(began, {'layer_decay': own})


@pytest.mark.slow
def test_training_resumes_with_the_same_rates(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    decay = ('--model.layer_decay', '0.5')
    folder = fit_pairs(*STUDENT, *decay, name='run')
    last = folder / 'last.ckpt'
    groups = torch.load(last)['optimizer_states'][0]['param_groups']
    assert sorted(g['lr'] for g in groups) == pytest.approx(
        [1e-4 * 0.5**i for i in (4, 3, 2, 1, 0)]
    )
    resume = ('--ckpt_path', str(last))
    with pytest.raises(SystemExit) as error:
        fit_pairs(*STUDENT, *resume, name='run', epochs=2)
    assert error.value.code == 2
    assert 'layer_decay=0.5, but the task has None' in capsys.readouterr().err
    fit_pairs(*STUDENT, *decay, *resume, name='run', epochs=2)
    assert torch.load(last)['epoch'] == 1


def test_other_optimizers_replace_no_rate_silently(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    args = (*STUDENT, '--model.lr', '0.5', '--optimizer', 'SGD', '--optimizer.lr')
    with pytest.raises(SystemExit) as error:
        fit_pairs(*args, '0.25')
    assert error.value.code == 2
    expected = 'lr=0.5 has no effect with --optimizer, which trains all parameters at'
    assert f'{expected} lr=0.25' in capsys.readouterr().err
    # it says the same, whatever a schedule makes of it
    step = ('--lr_scheduler', 'StepLR', '--lr_scheduler.step_size', '1')
    fit_pairs(*args, '0.5', *step, '--trainer.limit_train_batches', '1')


def test_other_optimizers_have_no_such_rates(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        fit_pairs(*STUDENT, '--model.layer_decay', '0.5', '--optimizer', 'Adam')
    assert error.value.code == 2
    assert 'layer_decay=0.5 has no effect' in capsys.readouterr().err
