# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
import torch
from torch import Tensor

from torchgeo_discomkd.losses import kd_loss
from torchgeo_discomkd.losses.mlkd import _swapped_kd_loss
from torchgeo_discomkd.losses.several import over_processes

from .distillation import KINDS, check, draw, kd


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('temperature', [1.0, 4.0, 20.0])
@pytest.mark.parametrize('seed', range(3))
def test_random_logits(kind: str, temperature: float, seed: int) -> None:
    s, t = draw(kind, seed), draw(kind, seed + 100)
    check(lambda a, b: kd_loss(a, b, temperature), s, t, kd(s, t, temperature))


def test_all_mass_on_another_class() -> None:
    s = np.array([[1e4, -1e4, 0]], dtype=np.float32)
    t = np.array([[-1e4, 1e4, 0]], dtype=np.float32)
    value, slope = kd(s, t, 2.0)
    assert value == pytest.approx(4e4)
    assert slope.tolist() == [[2, -2, 0]]
    check(lambda a, b: kd_loss(a, b, 2.0), s, t, (value, slope))


@pytest.mark.parametrize('kind', KINDS)
def test_zero_for_equal_logits(kind: str) -> None:
    logits = torch.from_numpy(draw(kind, 0)).requires_grad_()
    loss = kd_loss(logits, logits.detach().clone())
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-6


def test_reductions() -> None:
    s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
    rows = kd_loss(s, t, 3, 'none')
    assert rows.shape == (6,)
    each = torch.stack([kd_loss(s[i : i + 1], t[i : i + 1], 3) for i in range(6)])
    torch.testing.assert_close(rows, each)
    torch.testing.assert_close(kd_loss(s, t, 3), rows.mean())
    torch.testing.assert_close(kd_loss(s, t, 3, 'mean'), rows.mean() / 5)


def test_gradient_of_temperature() -> None:
    s, t = draw('ordinary', 0), draw('ordinary', 1)
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    loss = kd_loss(
        torch.from_numpy(s).double(), torch.from_numpy(t).double(), temperature
    )
    (found,) = torch.autograd.grad(loss, temperature)
    expected = (kd(s, t, 3 + 1e-5)[0] - kd(s, t, 3 - 1e-5)[0]) / 2e-5
    assert found.item() == pytest.approx(expected, rel=1e-7)
    assert abs(expected) > 1e-3


@pytest.mark.parametrize('kind', KINDS)
def test_gradient_of_temperature_is_finite(kind: str) -> None:
    s, t = (torch.from_numpy(draw(kind, seed)) for seed in range(2))
    temperature = torch.tensor(3.0, requires_grad=True)
    (found,) = torch.autograd.grad(kd_loss(s, t, temperature), temperature)
    assert found.isfinite()


def test_unknown_reduction() -> None:
    with pytest.raises(ValueError, match="reduction='sum': use 'batchmean'"):
        kd_loss(torch.ones(2, 3), torch.ones(2, 3), 4, 'sum')  # ty: ignore


def test_one_temperature_for_each_sample() -> None:
    with pytest.raises(ValueError, match=r'shape \(3,\).*instance_kd_loss'):
        kd_loss(torch.ones(3, 3), torch.ones(3, 3), torch.ones(3))


@pytest.mark.parametrize('swapped', [False, True])
def test_means_of_unequal_processes_are_that_of_all(swapped: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 3, generator=generator)

    def loss(rows: slice) -> Tensor:
        if swapped:
            return _swapped_kd_loss(student[rows], teacher[rows], 4.0)
        return kd_loss(student[rows], teacher[rows], reduction='mean')

    with over_processes(lambda counts: torch.full_like(counts, 3)):
        parts = loss(slice(5)), loss(slice(5, 6))
    torch.testing.assert_close((parts[0] + parts[1]) / 2, loss(slice(6)))
