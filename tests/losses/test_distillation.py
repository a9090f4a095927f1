# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import (
    CTKD,
    DKD,
    KD,
    MLKD,
    DistillationLoss,
    OfficialMLKD,
    kd_loss,
    standardize_logits,
)

from .distillation import (
    KINDS,
    NO_TARGET,
    check,
    draw,
    kd,
    standardize,
    through_standardize,
)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('classes', [2, 5])
@pytest.mark.parametrize('seed', range(3))
def test_random_logits(kind: str, classes: int, seed: int) -> None:
    s = draw('ordinary' if kind == 'extreme' else kind, seed, classes=classes)
    if kind == 'extreme':
        s *= 1e4
    t = draw(kind, seed + 100, classes=classes)
    found = standardize_logits(torch.from_numpy(s))
    np.testing.assert_allclose(found.numpy(), standardize(s), rtol=1e-5, atol=1e-6)

    # the gradient of the loss on standardised logits, through the standardisation
    value, slope = kd(standardize(s), standardize(t), 2.0)
    check(
        lambda a, b: kd_loss(standardize_logits(a), standardize_logits(b), 2.0),
        s,
        t,
        (value, through_standardize(s, slope)),
    )


@pytest.mark.parametrize('which', ['student', 'teacher'])
def test_invariant_to_scale_and_shift(which: str) -> None:
    logits = {
        'student': torch.from_numpy(draw('ordinary', 0)).double(),
        'teacher': torch.from_numpy(draw('ordinary', 1)).double(),
    }
    expected = kd_loss(*(standardize_logits(x) for x in logits.values()))
    scale = torch.tensor([[0.1], [1], [5], [30], [1e3], [2]], dtype=torch.float64)
    logits[which] = scale * logits[which] + 7 * scale.flip(0)
    found = kd_loss(*(standardize_logits(x) for x in logits.values()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_divisor() -> None:
    # the standard deviation of (0, 2) is sqrt 2 with divisor C - 1, and 1 with C
    found = standardize_logits(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 1.0]]) / 2**0.5)


@pytest.mark.parametrize('value', [0.0, 0.1, -1e4 + 0.1, 1e-30])
@pytest.mark.parametrize('classes', [2, 7, 10])
def test_equal_logits(value: float, classes: int) -> None:
    logits = torch.full((2, classes), value, requires_grad=True)
    found = standardize_logits(logits)
    assert not found.any()
    loss = F.cross_entropy(found, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    teacher = torch.from_numpy(draw('ordinary', 0, rows=2, classes=classes))
    loss = kd_loss(standardize_logits(logits), standardize_logits(teacher))
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    logits = torch.from_numpy(draw('ordinary', 0)).to(dtype)
    found = standardize_logits(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, standardize_logits(logits.float()))


@pytest.mark.parametrize('shape', [(3,), (0, 3), (3, 1), (2, 3, 4)])
def test_shape(shape: Any) -> None:
    with pytest.raises(ValueError, match=r'give \(B, C\)'):
        standardize_logits(torch.ones(shape))


LOSSES = (KD, DKD, CTKD, MLKD, OfficialMLKD)


@dataclass(eq=False)
class MeanSquare(DistillationLoss):
    """A method of the user's own."""

    power: float = 2.0
    standardize: bool = False

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int
    ) -> Tensor:
        s, t = self.comparable(student_logits, teacher_logits.detach())
        return (s - t).abs().pow(self.power).mean()


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('standardize', [False, True])
def test_outside_of_a_task(loss: type[DistillationLoss], standardize: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(6, 5, generator=generator, requires_grad=True) for _ in range(2)
    )
    target = torch.arange(6) % 5
    further = {'strong': (student + 1, teacher)} if loss.two_views else {}
    method = loss(standardize=standardize)
    found = method(student, teacher, target, 0, **further)
    assert found.shape == ()
    found.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.any()
    assert teacher.grad is None


@pytest.mark.parametrize('standardize', [False, True])
def test_own_method(standardize: bool) -> None:
    s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
    loss = MeanSquare(standardize=standardize)
    assert loss.weights(3) == (1, 1)
    a, b = (standardize_logits(s), standardize_logits(t)) if standardize else (s, t)
    torch.testing.assert_close(loss(s, t, NO_TARGET, 0), F.mse_loss(a, b))
    config = loss.config()
    assert config['init_args'] == {'power': 2.0, 'standardize': standardize}
    assert isinstance(DistillationLoss.from_config(config), MeanSquare)
    with pytest.raises(SettingError, match=r'power=-1\.0: set --model\.loss\.power'):
        MeanSquare(-1.0)


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('preset', ['default', 'authors', 'official'])
def test_configuration(loss: type[DistillationLoss], preset: Any) -> None:
    first = loss.preset(preset, standardize=True)
    again = DistillationLoss.from_config(first.config())
    assert type(again) is type(first)
    assert again.config() == first.config()
    assert first.standardize
    short = first.config() | {'class_path': type(first).__name__}
    assert DistillationLoss.from_config(short).config() == first.config()


@pytest.mark.parametrize(
    'path', ['FitNet', 'torch.nn.Linear', 'nowhere.KD', 'losses.kd_loss', None]
)
def test_unknown_class(path: str | None) -> None:
    with pytest.raises(
        SettingError, match='not an imported subclass of DistillationLoss'
    ):
        DistillationLoss.from_config({'class_path': path})


@pytest.mark.parametrize(
    ('loss', 'preset', 'standardize', 'changed'),
    [
        (KD, 'authors', True, {}),
        (KD, 'official', False, {'temperature': 1.0}),
        (KD, 'official', True, {'temperature': 2.0}),
        (DKD, 'authors', True, {'first_epoch': 0}),
        (DKD, 'official', False, {}),
        (DKD, 'official', True, {'temperature': 2.0, 'distillation_weight': 9.0}),
        (
            CTKD,
            'authors',
            False,
            {'warmup_epochs': 5, 'first_epoch': 0, 'temperature_lr': 1e-4},
        ),
        (CTKD, 'official', False, {'temperature_lr': 0.05}),
        (CTKD, 'official', True, {'temperature_lr': 0.05, 'distillation_weight': 9.0}),
        (MLKD, 'authors', True, {'swapped_kl': True}),
    ],
)
def test_presets(
    loss: type[DistillationLoss],
    preset: Any,
    standardize: bool,
    changed: dict[str, Any],
) -> None:
    found = loss.preset(preset, standardize).config()
    default = loss().config()['init_args'] | {'standardize': standardize}
    assert found['init_args'] == default | changed
    assert type(loss.preset(preset, standardize)) is loss


def test_official_preset_of_mlkd() -> None:
    found = MLKD.preset('official', batch_weight=0.5)
    weights = {'cross_entropy_weight': 0.1, 'distillation_weight': 0.9}
    expected = {'temperature': 4.0, 'class_weight': 1.0, 'batch_weight': 0.5}
    assert isinstance(found, OfficialMLKD)
    assert found.config()['init_args'] == {**weights, **expected, 'standardize': False}
    found = MLKD.preset('official', standardize=True)
    assert (found.temperature, found.distillation_weight) == (2.0, 9.0)


def test_given_settings_replace_those_of_the_preset() -> None:
    found = KD.preset('official', standardize=True, temperature=3.0, alpha=0.1)
    assert (found.temperature, found.weights(0)) == (3.0, (0.1, 0.9))
    with pytest.raises(SettingError, match="preset='best': use 'default'"):
        KD.preset('best')  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize(
    ('loss', 'settings', 'match'),
    [
        (KD, {'temperature': 0.0}, r'temperature=0\.0: set --model\.loss\.temperature'),
        (KD, {'temperature': -1.0}, r'temperature=-1\.0'),
        (KD, {'temperature': math.nan}, 'temperature=nan'),
        (
            KD,
            {'alpha': 1.5},
            r'alpha=1\.5: set --model\.loss\.alpha to a number from 0',
        ),
        (KD, {'alpha': -0.1}, r'alpha=-0\.1'),
        (CTKD, {'temperature_start': 0.0}, r'temperature_start=0\.0'),
        (CTKD, {'temperature_end': -1.0}, r'temperature_end=-1\.0'),
        (CTKD, {'temperature_end': math.inf}, 'temperature_end=inf'),
        (CTKD, {'instance_temperature': 1}, 'instance_temperature=1'),
        (CTKD, {'temperature_lr': 0.0}, 'temperature_lr='),
        (CTKD, {'distillation_weight': -1.0}, 'distillation_weight=-1'),
        (MLKD, {'temperatures': [2.0, 0.0]}, 'temperatures='),
        (MLKD, {'temperatures': []}, 'temperatures='),
        (MLKD, {'batch_weight': -1.0}, r'batch_weight=-1\.0'),
        (MLKD, {'swapped_kl': 'yes'}, 'swapped_kl=yes'),
        (MLKD, {'cross_entropy_weight': math.nan}, 'cross_entropy_weight=nan'),
        (OfficialMLKD, {'temperature': 0.0}, 'temperature=0'),
        (DKD, {'warmup_epochs': 0}, 'warmup_epochs=0'),
        (DKD, {'first_epoch': 2}, 'first_epoch=2'),
    ],
)
def test_bad_settings(loss: Any, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        loss(**settings)


@pytest.mark.parametrize('settings', [{}, {'instance_temperature': True}])
def test_creating_a_loss_leaves_the_random_numbers_alone(settings: Any) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    CTKD(**settings)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ('loss', 'changes'),
    [
        (KD(), 0),
        (MLKD(), 0),
        (OfficialMLKD(), 0),
        (DKD(warmup_epochs=3, first_epoch=1), 2),
        (CTKD(warmup_epochs=3, first_epoch=1), 2),
    ],
)
def test_schedule_is_equal_as_soon_as_the_loss_is(
    loss: DistillationLoss, changes: int
) -> None:
    found = [loss.schedule(epoch) for epoch in range(8)]
    assert len(set(found)) == changes + 1
    assert len(set(found[changes:])) == 1


def test_an_unknown_loss_may_change_in_every_epoch() -> None:
    assert [DistillationLoss.schedule(KD(), epoch) for epoch in range(3)] == [0, 1, 2]


@pytest.mark.parametrize('name', ['forward', 'weights', 'comparable'])
def test_schedule_is_not_inherited_by_another_computation(name: str) -> None:
    changed = type('Changed', (KD,), {name: getattr(KD, name)})
    assert [changed().schedule(epoch) for epoch in range(3)] == [0, 1, 2]
    renamed = type('Renamed', (KD,), {})
    assert renamed().schedule(0) == renamed().schedule(1)
    stated = type('Stated', (KD,), {name: getattr(KD, name), 'schedule': KD.schedule})
    assert stated().schedule(0) == stated().schedule(1)


@pytest.mark.parametrize('loss', [KD, DKD, CTKD])
def test_two_standardised_logits_only_tell_the_larger(
    loss: type[DistillationLoss],
) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 32, 2, generator=generator).double()
    target, agree = teacher.argmax(1), student.argmax(1) == teacher.argmax(1)
    method = loss(standardize=True)
    with pytest.warns(UserWarning, match=f'{loss.__name__}: .*LSKD.*which one is'):
        method.adopt('multiclass', num_classes=2)
    method.prepare(2)
    student.requires_grad_()
    gradients = []
    for scale in (1, 10):
        value = method(student, scale * teacher, target, 5)
        gradients += torch.autograd.grad(value, student)
    # neither how sure the teacher is, nor anything where both answer the same
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-10)
    assert gradients[0][agree].abs().max() < 1e-9
    assert 0 < gradients[0][~agree].abs().max() < 1e-3
