# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Values and gradients computed from the code of the original publications."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchgeo_discomkd.losses import (
    DKD,
    MLKD,
    OfficialMLKD,
    batch_consistency_loss,
    class_consistency_loss,
    curriculum_lambda,
    instance_kd_loss,
    kd_loss,
    standardize_logits,
)

from .distillation import curriculum

GOLDEN = json.loads(
    (Path(__file__).parent.parent / 'data' / 'golden_distillation.json').read_text()
)
CASES = GOLDEN['cases']


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


LABELS = torch.tensor(GOLDEN['inputs']['labels'])
TEACHER = double(GOLDEN['inputs']['teacher'])
STRONG = tuple(double(GOLDEN['inputs'][f'{x}_strong']) for x in ('student', 'teacher'))

z = standardize_logits


def ce(student: Tensor) -> Tensor:
    return F.cross_entropy(student, LABELS)


def dkd(
    s: Tensor, t: Tensor, alpha: float = 1, beta: float = 8, temperature: float = 4
) -> Tensor:
    loss = DKD(target_weight=alpha, other_weight=beta, temperature=temperature)
    return loss(s, t, LABELS, 0)


def mlkd(s: Tensor, t: Tensor, **options: Any) -> Tensor:
    return MLKD(**options)(s, t, LABELS, 0)


def masked(matrix: Tensor, name: str) -> Tensor:
    return (matrix * double(CASES[name]['params']['mask'])).mean()


def official(student: Tensor, teacher: Tensor, name: str) -> dict[str, Tensor]:
    options = CASES[name]['params']
    kd_weight, ce_weight = options['kd_weight'], options['ce_weight']

    def loss(class_weight: float, batch_weight: float) -> Tensor:
        weights = {'class_weight': class_weight, 'batch_weight': batch_weight}
        setting = {'temperature': options['T0'], 'standardize': options['logit_stand']}
        mlkd = OfficialMLKD(**setting, **weights)
        return kd_weight * mlkd(student, teacher, LABELS, 0, strong=STRONG)

    instance = loss(0, 0)
    return {
        'loss_kd': instance,
        'loss_cc': loss(1, 0) - instance,
        'loss_bc': loss(0, 1) - instance,
        'loss_ce': ce_weight * (ce(student) + ce(STRONG[0])),
    }


#: Every case that is a scalar function of the logits of student and teacher.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'ce': lambda s, t: ce(s),
    'kd_T1': lambda s, t: kd_loss(s, t, 1),
    'kd_T2': lambda s, t: kd_loss(s, t, 2),
    'kd_T4': lambda s, t: kd_loss(s, t),
    'kdv1_alpha0_T4': lambda s, t: kd_loss(s, t),
    'kdv2_alpha0.5_T4': lambda s, t: 0.5 * ce(s) + 0.5 * kd_loss(s, t),
    'mfh_vggsound_T1': lambda s, t: kd_loss(s, t, 1),
    'mfh_ravdess_T1_mean': lambda s, t: kd_loss(s, t, 1, 'mean'),
    'mdistiller_kd_total': lambda s, t: 0.1 * ce(s) + 0.9 * kd_loss(s, t),
    'dkd_tckd_T1': lambda s, t: dkd(s, t, 1, 0, 1),
    'dkd_nckd_T1': lambda s, t: dkd(s, t, 0, 1, 1),
    'dkd_tckd_T2': lambda s, t: dkd(s, t, 1, 0, 2),
    'dkd_nckd_T2': lambda s, t: dkd(s, t, 0, 1, 2),
    'dkd_tckd_T4': lambda s, t: dkd(s, t, 1, 0, 4),
    'dkd_nckd_T4': lambda s, t: dkd(s, t, 0, 1, 4),
    'dkd_a1_b8_T4': dkd,
    'dkd_imagenet_a1_b0.5_T1': lambda s, t: dkd(s, t, 1, 0.5, 1),
    'dkd_total_epoch1': lambda s, t: ce(s) + dkd(s, t) / 20,
    'dkd_total_epoch5': lambda s, t: ce(s) + dkd(s, t) / 4,
    'dkd_total_epoch20': lambda s, t: ce(s) + dkd(s, t),
    'dkd_total_epoch50': lambda s, t: ce(s) + dkd(s, t),
    'ctkd_instance_T': lambda s, t: instance_kd_loss(s, t, double([2, 4, 8, 16])),
    'lskd_kd_T2': lambda s, t: kd_loss(z(s), z(t), 2),
    'lskd_kd_total_T2_w9': lambda s, t: 0.1 * ce(s) + 9 * kd_loss(z(s), z(t), 2),
    'lskd_dkd_a9_b72_T2': lambda s, t: dkd(z(s), z(t), 9, 72, 2),
    'authors_lskd_kdv1': lambda s, t: kd_loss(z(s), z(t)),
    'authors_lskd_kdv2': lambda s, t: 0.5 * ce(s) + 0.5 * kd_loss(z(s), z(t)),
    'authors_lskd_dkd_epoch0based20': lambda s, t: ce(s) + dkd(z(s), z(t)),
    'mlkd_cc_T2': lambda s, t: class_consistency_loss(s, t, 2),
    'mlkd_bc_T2': lambda s, t: batch_consistency_loss(s, t, 2),
    'mlkd_cc_T4': lambda s, t: class_consistency_loss(s, t),
    'mlkd_bc_T4': lambda s, t: batch_consistency_loss(s, t),
    'mlkd_kd_masked_T4_reduceFalse': lambda s, t: masked(
        kd_loss(s, t, 4, 'none'), 'mlkd_kd_masked_T4_reduceFalse'
    ),
    'mlkd_cc_masked_T4_reduceFalse': lambda s, t: masked(
        class_consistency_loss(s, t, 4, 'none'), 'mlkd_cc_masked_T4_reduceFalse'
    ),
    'mlkd_bc_masked_T4_reduceFalse': lambda s, t: masked(
        batch_consistency_loss(s, t, 4, 'none'), 'mlkd_bc_masked_T4_reduceFalse'
    ),
    'mlkd_clean_single_view': mlkd,
    'authors_mlkd': lambda s, t: mlkd(s, t, swapped_kl=True),
    'authors_lskd_mlkd': lambda s, t: mlkd(s, t, swapped_kl=True, standardize=True),
}
OFFICIAL = (
    'mlkd_official_T4_w0.9_total',
    'mlkd_official_imagenet_T1_w0.5_total',
    'lskd_mlkd_T2_w9_total',
)
#: Raw temperature and the epoch of a schedule of 2 epochs that has the case's lambda.
CURRICULA = {
    'ctkd_raw1.0_lam0.0': (1.0, 0),
    'ctkd_raw1.0_lam-0.5': (1.0, 1),
    'ctkd_raw1.0_lam-1.0': (1.0, 2),
    'ctkd_raw-2.0_lam-1.0': (-2.0, 3),
    'authors_ctkd_init': (1.0, 0),
    'lskd_ctkd_a9': (1.0, 2),
}
SCHEDULES = {'ctkd_lambda_schedule_loops10': 10, 'ctkd_lambda_schedule_loops5': 5}


def student_logits() -> Tensor:
    return double(GOLDEN['inputs']['student']).requires_grad_()


def assert_close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, double(expected), rtol=1e-10, atol=1e-12)


def test_every_case_is_tested() -> None:
    tested = [*LOSSES, *OFFICIAL, *CURRICULA, *SCHEDULES, 'lskd_zscore']
    assert sorted(tested) == sorted(CASES)


@pytest.mark.parametrize('name', LOSSES)
def test_losses(name: str) -> None:
    student = student_logits()
    loss = LOSSES[name](student, TEACHER)
    assert_close(loss, CASES[name]['expected'])
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.any()
    if 'grad_wrt_student' in CASES[name]:
        assert_close(gradient, CASES[name]['grad_wrt_student'])


def test_gradients_are_among_the_cases() -> None:
    assert sum('grad_wrt_student' in CASES[name] for name in LOSSES) == 7


@pytest.mark.parametrize('name', OFFICIAL)
def test_official_mlkd(name: str) -> None:
    terms = official(student_logits(), TEACHER, name)
    for term, value in CASES[name]['terms'].items():
        assert_close(terms[term], value)
    assert_close(sum(terms.values(), double(0)), CASES[name]['expected'])


@pytest.mark.parametrize('name', CURRICULA)
def test_curriculum_temperature(name: str) -> None:
    case = CASES[name]
    raw, epoch = CURRICULA[name]
    options = {'warmup_epochs': 2, 'first_epoch': 0, 'standardize': 'lskd' in name}
    ctkd = curriculum(raw, **options)
    student = student_logits()
    temperature = ctkd.temperature(student, TEACHER, epoch)
    term = ctkd(student, TEACHER, LABELS, epoch)
    torch.testing.assert_close(ctkd.monitored['temperature'], temperature.detach())
    alpha, gamma = (
        case['params'].get(k, v) for k, v in (('alpha', 0.9), ('gamma', 0.1))
    )
    loss = gamma * ce(student) + alpha * term
    assert_close(loss, case['expected'])
    slopes = torch.autograd.grad(loss, (student, ctkd.raw))
    if 'temperature' in case:
        assert_close(temperature, case['temperature'])
        assert_close(term, case['kd_term'])
        key = 'grad_raw_T' if 'grad_raw_T' in case else 'grad_raw_T_lam-1'
        assert_close(slopes[1], case[key])
    if 'grad_wrt_student' in case:
        assert_close(slopes[0], case['grad_wrt_student'])


@pytest.mark.parametrize('name', SCHEDULES)
def test_curriculum_lambda(name: str) -> None:
    epochs = CASES[name]['epochs']
    found = double([curriculum_lambda(epoch, SCHEDULES[name]) for epoch in epochs])
    assert_close(found, CASES[name]['expected'])


def test_standardize_logits() -> None:
    assert_close(z(student_logits()), CASES['lskd_zscore']['expected'])
