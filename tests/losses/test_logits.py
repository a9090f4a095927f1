# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What all distillation losses do alike."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torchgeo_discomkd.losses import (
    CurriculumTemperature,
    InstanceTemperature,
    batch_consistency_loss,
    class_consistency_loss,
    dkd_loss,
    instance_kd_loss,
    kd_loss,
    mlkd_loss,
    official_mlkd_loss,
    standardize_logits,
)

from .distillation import draw

type Loss = Callable[..., Tensor]


def labels(logits: Tensor) -> Tensor:
    return torch.zeros(len(logits), dtype=torch.long, device=logits.device)


#: Each as a function of student, teacher and temperature.
LOSSES: dict[str, Loss] = {
    'kd': kd_loss,
    'dkd': lambda s, t, x=4.0: dkd_loss(s, t, labels(s), temperature=x),
    'instance': lambda s, t, x=4.0: instance_kd_loss(
        s, t, torch.full((len(s),), x, device=s.device)
    ),
    'class': class_consistency_loss,
    'batch': batch_consistency_loss,
    'mlkd': lambda s, t, x=4.0: mlkd_loss(s, t, (2.0, x)),
    'authors': lambda s, t, x=4.0: mlkd_loss(s, t, (2.0, x), variant='authors'),
    'official': lambda s, t, x=4.0: official_mlkd_loss(s, t, s, t, x),
    'lskd': lambda s, t, x=4.0: kd_loss(
        standardize_logits(s), standardize_logits(t), x
    ),
}
every_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


def pair(kind: str = 'ordinary', rows: int = 6) -> tuple[Tensor, Tensor]:
    s, t = (torch.from_numpy(draw(kind, seed, rows)) for seed in range(2))
    return s.requires_grad_(), t.requires_grad_()


@every_loss
def test_teacher_gets_no_gradient(loss: Loss) -> None:
    s, t = pair()
    loss(s, t).backward()
    assert s.grad is not None
    assert s.grad.any()
    assert t.grad is None


@every_loss
def test_one_sample(loss: Loss) -> None:
    s, t = pair(rows=1)
    found = loss(s, t)
    assert found.shape == ()
    assert found.isfinite()
    (gradient,) = torch.autograd.grad(found, s)
    assert gradient.isfinite().all()
    assert gradient.any()


@every_loss
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(loss: Loss, dtype: torch.dtype) -> None:
    s, t = (x.detach().to(dtype) for x in pair('extreme'))
    found = loss(s, t)
    assert found.dtype == torch.float32
    assert found.isfinite()
    torch.testing.assert_close(found, loss(s.float(), t.float()))


@every_loss
@pytest.mark.parametrize(
    'value', [0.0, -2.0, float('nan'), float('inf')], ids=lambda x: str(x)
)
def test_temperature(loss: Loss, value: float) -> None:
    with pytest.raises(ValueError, match=f'temperature={value}: give a positive'):
        loss(*pair(), value)


def test_temperature_as_tensor() -> None:
    with pytest.raises(ValueError, match=r'temperature=-1\.0: give a positive'):
        kd_loss(*pair(), torch.tensor(-1.0))


@every_loss
@pytest.mark.parametrize('shape', [(5, 5), (6, 4), (6,), (6, 1), (0, 5), (6, 5, 1)])
def test_shapes(loss: Loss, shape: Any) -> None:
    if loss is LOSSES['lskd'] and shape in ((5, 5), (6, 4)):
        message = r'same samples and a classifier of the same classes'
    elif shape in ((5, 5), (6, 4)):
        message = rf'shapes \(6, 5\) and \({shape[0]}, {shape[1]}\).* same classes'
    else:
        message = r'give \(B, C\), one row or more of two classes or more'
    with pytest.raises(ValueError, match=message):
        loss(pair()[0], torch.ones(shape))
    if len(shape) != 2 or 0 in shape or 1 in shape:
        with pytest.raises(ValueError, match=message):
            loss(torch.ones(shape), torch.ones(shape))


def test_no_host_synchronization() -> None:
    # a meta tensor has no value: whoever reads one on the host fails
    s, t = (x.to('meta') for x in pair())
    for name in ('kd', 'dkd', 'instance', 'lskd'):
        LOSSES[name](s, t)
    kd_loss(s, t, CurriculumTemperature().to('meta')(3))
    instance_kd_loss(s, t, InstanceTemperature(5).to('meta')(s, t, 3))
