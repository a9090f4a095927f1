# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torchgeo_discomkd.losses import embedding_transfer_loss, prediction_transfer_loss

from .distillation import KINDS, check, draw, kd

type Array = np.ndarray


def distance(own: Array, guide: Array) -> tuple[float, Array]:
    """Mean of 1 - cosine and its gradient with respect to *own*, in float64."""
    a, b = own.astype(np.float64), guide.astype(np.float64)
    norm_a = np.linalg.norm(a, axis=1, keepdims=True)
    norm_b = np.linalg.norm(b, axis=1, keepdims=True)
    cosine = (a * b).sum(axis=1, keepdims=True) / (norm_a * norm_b)
    slope = cosine * a / norm_a**2 - b / (norm_a * norm_b)
    return float((1 - cosine).mean()), slope / len(a)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('temperature', [1.0, 4.0])
@pytest.mark.parametrize('rows', [1, 6])
def test_predictions_of_two(kind: str, temperature: float, rows: int) -> None:
    own, guide = draw(kind, 0, rows), draw(kind, 1, rows)

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        rows = {'sar': student, 'ms': teacher}
        return prediction_transfer_loss(rows, 'ms', temperature)

    check(loss, own, guide, kd(own, guide, temperature))


@pytest.mark.parametrize('rows', [1, 6])
def test_embeddings_of_two(rows: int) -> None:
    own, guide = draw('ordinary', 0, rows), draw('ordinary', 1, rows)

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return embedding_transfer_loss({'sar': student, 'ms': teacher}, 'ms')

    check(loss, own, guide, distance(own, guide))


def test_three_modalities_are_summed() -> None:
    ms, sar, dem = (draw('ordinary', seed) for seed in range(3))
    rows = {
        k: torch.from_numpy(v) for k, v in {'ms': ms, 'sar': sar, 'dem': dem}.items()
    }
    found = prediction_transfer_loss(rows, 'sar', 2.0)
    expected = kd(ms, sar, 2.0)[0] + kd(dem, sar, 2.0)[0]
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found = embedding_transfer_loss(rows, 'sar')
    expected = distance(ms, sar)[0] + distance(dem, sar)[0]
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_zero_for_equal_rows(kind: str) -> None:
    x = torch.from_numpy(draw(kind, 0))
    rows = {'ms': x, 'sar': x.clone().requires_grad_()}
    assert prediction_transfer_loss(rows, 'ms').item() == 0
    loss = embedding_transfer_loss(rows, 'ms')
    assert loss.item() == pytest.approx(0, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, rows['sar'])
    assert gradient.abs().max() < 1e-6


def test_vectors_of_zeros() -> None:
    zeros, ones = torch.zeros(1, 3, requires_grad=True), torch.ones(1, 3)
    # behind a ReLU, as in the network
    own = embedding_transfer_loss({'ms': ones, 'sar': zeros.relu()}, 'ms')
    guide = embedding_transfer_loss({'ms': torch.zeros(1, 3), 'sar': ones}, 'ms')
    assert own.item() == guide.item() == 1
    (gradient,) = torch.autograd.grad(own, zeros)
    assert torch.equal(gradient, torch.zeros(1, 3))


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_half_precision_inside_autocast(half: torch.dtype) -> None:
    ms, sar = (torch.from_numpy(draw('confident', seed)).to(half) for seed in range(2))
    rows, wide = {'ms': ms, 'sar': sar}, {'ms': ms.float(), 'sar': sar.float()}
    with torch.autocast('cpu', torch.bfloat16):
        found = [
            prediction_transfer_loss(rows, 'ms'),
            embedding_transfer_loss(rows, 'ms'),
        ]
    expected = [
        prediction_transfer_loss(wide, 'ms'),
        embedding_transfer_loss(wide, 'ms'),
    ]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('loss', [prediction_transfer_loss, embedding_transfer_loss])
@pytest.mark.parametrize(
    ('rows', 'match'),
    [
        ({'sar': (2, 3), 'dem': (2, 3)}, "guide='ms'"),
        ({'ms': (2, 3)}, 'two or more'),
        ({'ms': (2, 3), 'sar': (1, 3)}, r"'sar': \(1, 3\)"),
        ({'ms': (0, 3), 'sar': (0, 3)}, 'at least one'),
    ],
)
def test_rows_that_cannot_be_compared(
    loss: Any, rows: dict[str, tuple[int, int]], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        loss({m: torch.ones(shape) for m, shape in rows.items()}, 'ms')


def test_temperature_of_zero() -> None:
    rows = {'ms': torch.ones(2, 3), 'sar': torch.ones(2, 3)}
    with pytest.raises(ValueError, match='temperature=0'):
        prediction_transfer_loss(rows, 'ms', 0.0)
