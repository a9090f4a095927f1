# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from torchgeo_discomkd.losses import kd_loss, standardize_logits

from .distillation import KINDS, check, draw, kd, standardize, through_standardize


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
