# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A label of -1 marks a sample without a label."""

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchgeo_discomkd.losses import (
    auxiliary_loss,
    classification_loss,
    labelled_cross_entropy,
)

LABELS = {'ms': torch.tensor([2, -1, 0, -1, 1]), 'sar': torch.tensor([-1, 1, 1])}


def draw(labels: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        m: torch.randn(len(y), 3, generator=generator, dtype=torch.float64)
        for m, y in labels.items()
    }


def known(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {m: x[LABELS[m] != -1] for m, x in rows.items()}


@pytest.mark.parametrize('reduction', ['sum_of_means', 'mean_of_rows'])
def test_terms_are_those_of_the_labelled_rows(
    reduction: Literal['sum_of_means', 'mean_of_rows'],
) -> None:
    logits = {m: x.requires_grad_() for m, x in draw(LABELS).items()}
    y = known(LABELS)
    pairs = [
        (
            classification_loss(logits, LABELS, reduction),
            classification_loss(known(logits), y, reduction),
        ),
        (
            auxiliary_loss(logits, logits, LABELS, reduction),
            auxiliary_loss(known(logits), known(logits), y, reduction),
        ),
    ]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)
        leaves = list(logits.values())
        torch.testing.assert_close(
            torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves)
        )


@pytest.mark.parametrize('reduction', ['sum_of_means', 'mean_of_rows'])
def test_one_modality_without_any_label(
    reduction: Literal['sum_of_means', 'mean_of_rows'],
) -> None:
    labels = LABELS | {'sar': torch.full((3,), -1)}
    logits = {m: x.requires_grad_() for m, x in draw(labels).items()}
    loss = classification_loss(logits, labels, reduction)
    expected = F.cross_entropy(known(logits)['ms'], known(LABELS)['ms'])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert not logits['sar'].grad.any()  # ty: ignore[missing-attribute]


def test_one_kind_of_label_for_each_modality() -> None:
    logits = draw(LABELS)
    labels = {'ms': LABELS['ms'], 'sar': torch.full((3, 3), 1 / 3).double()}
    loss = classification_loss(logits, labels, 'mean_of_rows')
    ms = F.cross_entropy(known(logits)['ms'], known(LABELS)['ms'], reduction='sum')
    sar = F.cross_entropy(logits['sar'], labels['sar'], reduction='sum')
    torch.testing.assert_close(loss, (ms + sar) / (3 + 3))


def test_cross_entropy() -> None:
    logits = draw(LABELS)['ms'].requires_grad_()
    loss = labelled_cross_entropy(logits, LABELS['ms'])
    expected = F.cross_entropy(logits[LABELS['ms'] != -1], known(LABELS)['ms'])
    torch.testing.assert_close(loss, expected)
    none = labelled_cross_entropy(logits, torch.full((5,), -1))
    (gradient,) = torch.autograd.grad(none, logits)
    assert none.item() == 0
    assert torch.equal(gradient, torch.zeros_like(logits))


@pytest.mark.parametrize('rows', [3, 49, 128])
def test_nothing_changes_if_all_are_labelled(rows: int) -> None:
    logits, labels = torch.randn(rows, 3).requires_grad_(), torch.arange(rows) % 3
    pairs = (
        (labelled_cross_entropy(logits, labels), F.cross_entropy(logits, labels)),
        (
            classification_loss({'sar': logits}, {'sar': labels}),
            F.cross_entropy(logits, labels, reduction='none').mean(),
        ),
    )
    for found, expected in pairs:
        assert torch.equal(found, expected)
        gradients = [torch.autograd.grad(x, logits)[0] for x in (found, expected)]
        assert torch.equal(*gradients)


def test_another_number_is_still_an_error() -> None:
    with pytest.raises(IndexError, match='out of bounds'):
        labelled_cross_entropy(torch.zeros(2, 3), torch.tensor([0, -2]))
