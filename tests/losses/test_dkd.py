# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import numpy as np
import pytest
import torch

from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import DKD, dkd_terms, kd_loss

from .distillation import KINDS, check, dkd, draw


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('alpha', 'beta', 'temperature'), [(1, 8, 4), (9, 72, 2), (1, 0, 1), (0, 1, 1)]
)
@pytest.mark.parametrize('seed', range(3))
def test_random_logits(
    kind: str, alpha: float, beta: float, temperature: float, seed: int
) -> None:
    s, t = draw(kind, seed), draw(kind, seed + 100)
    y = np.random.default_rng(seed).integers(5, size=6)
    loss = DKD(target_weight=alpha, other_weight=beta, temperature=temperature)
    check(
        lambda a, b: loss(a, b, torch.from_numpy(y), 0),
        s,
        t,
        dkd(s, t, y, alpha, beta, temperature),
    )


def test_certain_of_wrong_classes() -> None:
    s = np.array([[-1e4, 1e4, 0, -1e4]], dtype=np.float32)
    t = np.array([[1e4, -1e4, 1e4, 0]], dtype=np.float32)
    y = np.array([0])
    expected = dkd(s, t, y, 1, 8, 1)
    # target class: ln 1/2 + 1e4; others: class 2 has 1e4 less than class 1
    assert expected[0] == pytest.approx(1e4 + np.log(0.5) + 8e4)
    loss = DKD(temperature=1)
    check(lambda a, b: loss(a, b, torch.tensor([0]), 0), s, t, expected)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_sum_of_terms_is_kd(kind: str, temperature: float) -> None:
    s, t = (torch.from_numpy(draw(kind, seed)).double() for seed in range(2))
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    target_class, other_classes = dkd_terms(s, t, y, temperature)
    assert target_class.shape == other_classes.shape == (6,)
    b = (t / temperature).softmax(dim=1)[torch.arange(6), y]
    torch.testing.assert_close(
        target_class + (1 - b) * other_classes, kd_loss(s, t, temperature, 'none')
    )


def test_two_classes() -> None:
    s, t = (torch.from_numpy(draw('ordinary', i, classes=2)) for i in range(2))
    y = torch.tensor([0, 1, 1, 0, 0, 1])
    target_class, other_classes = dkd_terms(s, t, y, 3.0)
    assert not other_classes.any()
    torch.testing.assert_close(target_class, kd_loss(s, t, 3.0, 'none'))


def test_one_sample() -> None:
    s, t = (torch.from_numpy(draw('ordinary', i)) for i in range(2))
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    each = [DKD()(s[[i]], t[[i]], y[[i]], 0) for i in range(6)]
    torch.testing.assert_close(torch.stack(each).mean(), DKD()(s, t, y, 0))


class TestErrors:
    logits = torch.ones(2, 3)

    @pytest.mark.parametrize('index', [3, -1, -100])
    def test_index_out_of_range(self, index: int) -> None:
        with pytest.raises(ValueError, match=f'class index {index}.* from 0 to 2'):
            DKD()(self.logits, self.logits, torch.tensor([0, index]), 0)

    @pytest.mark.parametrize(
        'target', [torch.tensor([0]), torch.tensor([[0, 1]]), torch.ones(2)]
    )
    def test_not_class_indices(self, target: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r'int64 class indices of shape \(2,\)'):
            DKD()(self.logits, self.logits, target, 0)

    @pytest.mark.parametrize('weight', [-1.0, float('nan'), float('inf')])
    def test_weights(self, weight: float) -> None:
        with pytest.raises(SettingError, match=f'target_weight={weight}: set'):
            DKD(target_weight=weight)
        with pytest.raises(SettingError, match=f'other_weight={weight}: set'):
            DKD(other_weight=weight)


@pytest.mark.parametrize(
    ('preset', 'weights'),
    [('default', (1 / 20, 5 / 20, 1, 1)), ('authors', (0, 4 / 20, 19 / 20, 1))],
)
def test_warm_up(preset: Any, weights: tuple[float, ...]) -> None:
    loss = DKD.preset(preset)
    for epoch, weight in zip((0, 4, 19, 50), weights, strict=True):
        assert loss.weights(epoch) == (1, weight)
