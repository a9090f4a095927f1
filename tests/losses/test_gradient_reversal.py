# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest
import torch

from torchgeo_discomkd.losses import gradient_reversal


@pytest.mark.parametrize('strength', [0.0, 1.0, 2.5])
def test_gradient_reversal(strength: float) -> None:
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    factor = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    y = gradient_reversal(x, strength)
    assert torch.equal(y, x)
    (y * factor).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, -strength * factor)


def test_default_strength() -> None:
    x = torch.ones(2, requires_grad=True)
    gradient_reversal(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-1, -1]


def test_double_precision() -> None:
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    y = gradient_reversal(x, 0.5)
    assert y.dtype == torch.float64
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-0.5] * 3


def test_second_derivative() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    y = gradient_reversal(x, 2.0) ** 2
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    assert first.item() == -12
    (second,) = torch.autograd.grad(first, x)
    assert second.item() == 8
