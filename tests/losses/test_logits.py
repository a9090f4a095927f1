# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What all distillation losses do alike."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torchgeo_discomkd.losses import (
    CTKD,
    DKD,
    MLKD,
    OfficialMLKD,
    batch_consistency_loss,
    class_consistency_loss,
    dkd_terms,
    instance_kd_loss,
    kd_loss,
    standardize_logits,
)

from .distillation import NO_TARGET, draw

type Loss = Callable[..., Tensor]


def labels(logits: Tensor) -> Tensor:
    return torch.zeros(len(logits), dtype=torch.long, device=logits.device)


#: Functions of student, teacher and temperature.
FUNCTIONS: dict[str, Loss] = {
    'kd': kd_loss,
    'dkd': lambda s, t, x=4.0: torch.stack(dkd_terms(s, t, labels(s), x)).mean(),
    'instance': lambda s, t, x=4.0: instance_kd_loss(
        s, t, torch.full((len(s),), x, device=s.device)
    ),
    'class': class_consistency_loss,
    'batch': batch_consistency_loss,
    'lskd': lambda s, t, x=4.0: kd_loss(
        standardize_logits(s), standardize_logits(t), x
    ),
}
LOSSES: dict[str, Loss] = FUNCTIONS | {
    'DKD': lambda s, t: DKD()(s, t, labels(s), 0),
    'MLKD': lambda s, t: MLKD()(s, t, NO_TARGET, 0),
    'authors': lambda s, t: MLKD(swapped_kl=True)(s, t, NO_TARGET, 0),
    'official': lambda s, t: OfficialMLKD()(s, t, NO_TARGET, 0, strong=(s, t)),
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


@pytest.mark.parametrize('loss', FUNCTIONS.values(), ids=FUNCTIONS)
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
        message = r'same samples and the same classes'
    elif shape in ((5, 5), (6, 4)):
        message = rf'shapes \(6, 5\) and \({shape[0]}, {shape[1]}\).* same classes'
    else:
        message = r'give \(B, C\), with at least one row and two classes'
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
    CTKD().to('meta')(s, t, NO_TARGET, 3)
    CTKD(instance_temperature=True, num_classes=5).to('meta')(s, t, NO_TARGET, 3)
