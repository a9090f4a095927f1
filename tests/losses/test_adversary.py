# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The discriminator for any number of modalities, against NumPy in float64."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_discomkd.losses import (
    adversarial_loss,
    discriminator_size,
    gradient_reversal,
    term_scales,
)

FORMS: Any = ('joint', 'pairwise', 'one-vs-rest')


def scores(form: Any, modalities: int, seed: int = 0) -> dict[str, Tensor]:
    """Return scores of 3, 4, 5, ... rows."""
    generator = torch.Generator().manual_seed(seed)
    size = discriminator_size(form, modalities)
    kwargs: Any = {'generator': generator, 'dtype': torch.float64}
    return {f'm{i}': 2 * torch.randn(3 + i, size, **kwargs) for i in range(modalities)}


def softmax(x: NDArray[Any]) -> NDArray[Any]:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x))


def by_hand(form: str, logits: dict[str, Tensor]) -> float:
    arrays = [x.numpy() for x in logits.values()]
    count = len(arrays)
    if form == 'joint':
        return sum(-np.log(softmax(x)[:, i]).mean() for i, x in enumerate(arrays))
    total = 0.0
    if form == 'pairwise':
        for number, (a, b) in enumerate(combinations(range(count), 2)):
            columns = slice(2 * number, 2 * number + 2)
            # every modality is in M - 1 pairs
            total -= np.log(softmax(arrays[a][:, columns])[:, 0]).mean() / (count - 1)
            total -= np.log(softmax(arrays[b][:, columns])[:, 1]).mean() / (count - 1)
        return total
    for k in range(count):
        total -= np.log(sigmoid(arrays[k][:, k])).mean() / 2
        for n in set(range(count)) - {k}:
            rest = np.log(1 - sigmoid(arrays[n][:, k])).mean()
            total -= rest / 2 / (count - 1)
    return total


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('modalities', [2, 3, 4])
def test_against_numpy(form: Any, modalities: int) -> None:
    logits = scores(form, modalities)
    found = adversarial_loss(logits, adversary=form)
    assert found.item() == pytest.approx(by_hand(form, logits), rel=1e-12)


def test_two_modalities() -> None:
    logits = scores('joint', 2)
    joint = adversarial_loss(logits)
    # to the last bit: a task of two modalities may be of either form
    assert torch.equal(joint, adversarial_loss(logits, adversary='pairwise'))
    # one score that says 'from the first' and its opposite
    first = {m: x[:, 0] - x[:, 1] for m, x in logits.items()}
    opposite = {m: torch.stack([x, -x], dim=1) for m, x in first.items()}
    rest = adversarial_loss(opposite, adversary='one-vs-rest')
    torch.testing.assert_close(rest, joint, rtol=1e-12, atol=0)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('modalities', [2, 3, 5])
def test_guessing_is_scaled_to_that_of_two(form: Any, modalities: int) -> None:
    logits = {m: torch.zeros_like(x) for m, x in scores(form, modalities).items()}
    guess = adversarial_loss(logits, adversary=form).item()
    each = math.log(modalities) if form == 'joint' else math.log(2)
    assert guess == pytest.approx(modalities * each, rel=1e-12)
    scale = term_scales(form, modalities)
    assert scale['adversarial'] * guess == pytest.approx(2 * math.log(2), rel=1e-12)
    of_modality = 2 * modalities * math.log(modalities)
    assert scale['modality'] * of_modality == pytest.approx(4 * math.log(2), rel=1e-12)


@pytest.mark.parametrize('form', FORMS)
def test_nothing_is_scaled_with_two(form: Any) -> None:
    assert set(term_scales(form, 2).values()) == {1.0}


@pytest.mark.parametrize('form', FORMS)
def test_only_the_encoders_gradient_is_reversed(form: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    kwargs: Any = {'generator': generator, 'dtype': torch.float64}
    embeddings = {
        m: torch.randn(n, 6, **kwargs).requires_grad_()
        for m, n in (('ms', 4), ('sar', 3), ('dem', 5))
    }
    weight = torch.randn(discriminator_size(form, 3), 6, **kwargs).requires_grad_()
    leaves = [*embeddings.values(), weight]

    def loss(strength: float | None) -> Tensor:
        rows: Any = dict(embeddings)
        if strength is not None:
            rows = {m: gradient_reversal(x, strength) for m, x in rows.items()}
        return adversarial_loss({m: x @ weight.T for m, x in rows.items()}, 'index',
                                'sum_of_means', form)  # fmt: skip

    plain = torch.autograd.grad(loss(None), leaves)
    reversed_ = torch.autograd.grad(loss(0.5), leaves)
    for expected, found in zip(plain[:-1], reversed_[:-1], strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(found, -0.5 * expected)
    torch.testing.assert_close(reversed_[-1], plain[-1])
    assert torch.autograd.gradcheck(
        lambda w: adversarial_loss(
            {m: x.detach() @ w.T for m, x in embeddings.items()}, adversary=form
        ),
        weight,
    )


@pytest.mark.parametrize('form', FORMS)
def test_a_modality_without_rows_adds_nothing(form: Any) -> None:
    logits = scores(form, 3)
    whole = adversarial_loss(logits, adversary=form)
    own = logits['m1'].requires_grad_()
    without = adversarial_loss(logits | {'m1': own[:0]}, adversary=form)
    # what the modality adds is its own rows' mean
    others = {m: torch.zeros_like(x) for m, x in logits.items()}
    guess = adversarial_loss(others, adversary=form)
    alone = adversarial_loss(others | {'m1': own}, adversary=form)
    torch.testing.assert_close(whole - without, alone - guess * 2 / 3)
    without.backward()
    assert own.grad is not None
    assert not own.grad.any()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="adversary='both': use 'joint'"):
        discriminator_size('both', 3)  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match=r'have 3 columns.*which need 6'):
        adversarial_loss(scores('joint', 3), adversary='pairwise')
    with pytest.raises(ValueError, match="targets='released' is defined for"):
        adversarial_loss(scores('joint', 2), 'released', adversary='pairwise')
