# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Class weights and label smoothing, against NumPy in float64 and PyTorch."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import (
    LabelledCrossEntropy,
    auxiliary_loss,
    classification_loss,
    labelled_cross_entropy,
)

from .test_unlabelled import LABELS, draw

WEIGHTS = torch.tensor([0.2, 3.0, 0.0], dtype=torch.float64)
OPTIONS = [(WEIGHTS, 0.0), (WEIGHTS, 0.3), (None, 0.3)]


def parts(
    logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float
) -> tuple[float, float]:
    """Sum of the losses, and of the weights, of the samples that have a label."""
    w = np.ones(3) if weights is None else weights.numpy()
    total = count = 0.0
    for z, y in zip(logits.detach().numpy(), labels.numpy(), strict=True):
        if y == -1:
            continue
        minus_log = np.log(np.exp(z - z.max()).sum()) - (z - z.max())
        total += (1 - smoothing) * w[y] * minus_log[y]
        total += smoothing / 3 * (w * minus_log).sum()
        count += w[y]
    return total, count


@pytest.mark.parametrize(('weights', 'smoothing'), OPTIONS)
@pytest.mark.parametrize('reduction', ['sum_of_means', 'mean_of_rows'])
def test_terms(
    reduction: Literal['sum_of_means', 'mean_of_rows'],
    weights: Tensor | None,
    smoothing: float,
) -> None:
    logits = draw(LABELS)
    found = [parts(x, LABELS[m], weights, smoothing) for m, x in logits.items()]
    if reduction == 'sum_of_means':
        expected = sum(total / count for total, count in found)
    else:
        expected = sum(t for t, _ in found) / sum(c for _, c in found)
    options = reduction, weights, smoothing
    loss = classification_loss(logits, LABELS, *options)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    # it has two kinds of embedding
    doubled = {m: 2 * x for m, x in logits.items()}
    both = auxiliary_loss(logits, doubled, LABELS, *options)
    second = classification_loss(doubled, LABELS, *options)
    torch.testing.assert_close(both, loss + second)


@pytest.mark.parametrize(('weights', 'smoothing'), OPTIONS)
def test_cross_entropy_and_its_gradient(
    weights: Tensor | None, smoothing: float
) -> None:
    logits, labels = draw(LABELS)['ms'].requires_grad_(), LABELS['ms']
    loss = labelled_cross_entropy(logits, labels, weights, smoothing)
    total, count = parts(logits, labels, weights, smoothing)
    assert loss.item() == pytest.approx(total / count, rel=1e-12)
    expected = F.cross_entropy(
        logits, labels, weights, ignore_index=-1, label_smoothing=smoothing
    )
    (own,) = torch.autograd.grad(loss, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(own, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
@pytest.mark.parametrize('label', [-1, 2])
def test_a_batch_that_does_not_count(label: int, smoothing: float) -> None:
    # of no label, or only of the class with weight 0: PyTorch returns NaN or infinity
    logits, labels = torch.randn(4, 3, requires_grad=True), torch.full((4,), label)
    for loss in (
        labelled_cross_entropy(logits, labels, WEIGHTS, smoothing),
        classification_loss(
            {'sar': logits}, {'sar': labels}, 'mean_of_rows', WEIGHTS, smoothing
        ),
    ):
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert not gradient.any()


def test_probabilities_count_by_their_number() -> None:
    rows, target = draw(LABELS)['ms'], torch.full((5, 3), 1 / 3).double()
    loss = classification_loss(
        {'ms': rows}, {'ms': target}, 'sum_of_means', WEIGHTS, 0.1
    )
    expected = F.cross_entropy(rows, target, WEIGHTS, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


def test_weights_are_not_rounded_to_half_precision() -> None:
    criterion = LabelledCrossEntropy([0.2, 3.001])
    logits, labels = torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([1, 0])
    for half in (logits.bfloat16(), logits):
        assert torch.equal(criterion(half, labels), criterion(logits, labels))


def test_the_mean_over_batches_is_that_of_all() -> None:
    criterion, logits = LabelledCrossEntropy([1, 5, 2], 0.1), draw(LABELS)['ms'].float()
    labels = LABELS['ms']
    batches = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    total = sum(criterion(x, y) * criterion.count(y) for x, y in batches)
    torch.testing.assert_close(
        total / criterion.count(labels), criterion(logits, labels)
    )
    assert criterion.count(labels) == 2 + 1 + 5
    # sums of many batches go on growing in half precision, too
    assert criterion.to(torch.bfloat16).count(labels).dtype == torch.float32


def test_a_state_dict_does_not_change() -> None:
    assert not LabelledCrossEntropy([1.0, 2.0]).state_dict()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'class_weights': [1, 2]}, r'2 numbers, but num_classes=3'),
        ({'class_weights': [1, -2, 1]}, r'class_weights=\[1, -2, 1\]: give 0 or'),
        ({'class_weights': [1, float('nan'), 1]}, 'give 0 or'),
        ({'class_weights': [1, float('inf'), 1]}, 'give 0 or'),
        ({'class_weights': [0, 0, 0]}, 'not 0 for all'),
        ({'label_smoothing': 1.5}, 'label_smoothing=1.5: give a number from 0 to 1'),
        ({'label_smoothing': -0.1}, 'label_smoothing=-0.1'),
        ({'label_smoothing': float('nan')}, 'label_smoothing=nan'),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        LabelledCrossEntropy(**settings, num_classes=3)
