# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import (
    CTKD,
    DKD,
    KD,
    MLKD,
    LabelledBinaryCrossEntropy,
    OfficialMLKD,
    auxiliary_loss,
    binary_cross_entropy_rows,
    binary_kd_loss,
    classification_loss,
    kd_loss,
    prediction_transfer_loss,
)
from torchgeo_discomkd.models.heads import BinaryLinear

rng = np.random.default_rng(0)
LOGITS = rng.normal(scale=3, size=(5, 4))
LABELS = np.array(
    [[0, 1, 0, 1], [1, 1, 1, 1], [-1, -1, -1, -1], [0, 0, 0, 0], [1, -1, 0, 1]]
)
WEIGHTS = np.array([0.5, 1.0, 2.0, 3.0])


def entropy(
    z: NDArray[np.float64],
    y: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
    smoothing: float = 0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Terms of every sample and label, and which of them are known."""
    p = 1 / (1 + np.exp(-z))
    target = np.clip(y, 0, 1) * (1 - smoothing) + smoothing / 2
    w = 1 if weights is None else weights
    terms = -(w * target * np.log(p) + (1 - target) * np.log(1 - p))
    return terms, y != -1


@pytest.mark.parametrize('weights', [None, WEIGHTS])
@pytest.mark.parametrize('smoothing', [0.0, 0.1, 1.0])
def test_binary_cross_entropy_is_that_of_numpy(
    weights: NDArray[np.float64] | None, smoothing: float
) -> None:
    terms, known = entropy(LOGITS, LABELS, weights, smoothing)
    listed = None if weights is None else weights.tolist()
    criterion = LabelledBinaryCrossEntropy(listed, smoothing, 4)
    labels = torch.from_numpy(LABELS)
    loss = criterion(torch.from_numpy(LOGITS), labels)
    np.testing.assert_allclose(loss, terms[known].mean(), rtol=1e-6)
    # how much a batch counts: its known labels, in samples
    np.testing.assert_allclose(criterion.count(labels), known.sum() / 4)
    rows = binary_cross_entropy_rows(torch.from_numpy(LOGITS), labels)
    plain = np.where(known, entropy(LOGITS, LABELS)[0], 0).mean(axis=1)
    np.testing.assert_allclose(rows, plain)


@pytest.mark.parametrize('reduction', ['sum_of_means', 'mean_of_rows'])
@pytest.mark.parametrize('weights', [None, WEIGHTS])
def test_terms_of_discomkd_average_over_known_labels(
    reduction: str, weights: NDArray[np.float64] | None
) -> None:
    parts = {'ms': slice(0, 2), 'sar': slice(2, 5)}
    logits = {m: torch.from_numpy(LOGITS[s]) for m, s in parts.items()}
    labels = {m: torch.from_numpy(LABELS[s]) for m, s in parts.items()}
    tensor = None if weights is None else torch.from_numpy(weights)
    terms, known = entropy(LOGITS, LABELS, weights, 0.2)
    if reduction == 'mean_of_rows':
        expected = terms[known].mean()
    else:
        expected = sum(terms[s][known[s]].mean() for s in parts.values())
    loss = classification_loss(logits, labels, reduction, tensor, 0.2)  # ty: ignore[invalid-argument-type]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    own = auxiliary_loss(logits, logits, labels, reduction, tensor, 0.2)  # ty: ignore[invalid-argument-type]
    np.testing.assert_allclose(own, 2 * expected, rtol=1e-6)


def test_without_any_label_the_loss_and_its_gradient_are_zero() -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    unlabelled = torch.full((2, 3), -1)
    loss = LabelledBinaryCrossEntropy()(logits, unlabelled)
    loss = loss + classification_loss({'sar': logits}, {'sar': unlabelled})
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_probabilities_of_classes_are_still_allowed() -> None:
    target = torch.tensor([[0.2, 0.8]])
    loss = classification_loss({'sar': torch.zeros(1, 2)}, {'sar': target})
    torch.testing.assert_close(loss, cross_entropy(torch.zeros(1, 2), target))


@pytest.mark.parametrize('weights', [[1.0, 0.0], [1.0], [1.0, -1.0]])
def test_useless_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(SettingError, match='class_weights'):
        LabelledBinaryCrossEntropy(weights, num_classes=2)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_divergence_is_that_of_bernoulli_distributions(temperature: float) -> None:
    other = rng.normal(scale=3, size=LOGITS.shape)
    p, q = (1 / (1 + np.exp(-z / temperature)) for z in (other, LOGITS))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    student, teacher = torch.from_numpy(LOGITS), torch.from_numpy(other)
    loss = binary_kd_loss(student, teacher, temperature)
    np.testing.assert_allclose(loss, temperature**2 * kl.mean(), rtol=1e-9)
    both = {'sar': student, 'ms': teacher}
    own = prediction_transfer_loss(both, 'ms', temperature, multilabel=True)
    torch.testing.assert_close(own, loss)
    method = KD(temperature=temperature)
    method.adopt('multilabel')
    torch.testing.assert_close(method(student, teacher, torch.empty(0), 0), loss)


def test_extreme_logits_are_finite_and_agreement_costs_nothing() -> None:
    extreme = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = binary_kd_loss(extreme, -extreme.detach())
    loss.backward()
    assert loss.isfinite()
    assert extreme.grad is not None
    assert extreme.grad.isfinite().all()
    assert binary_kd_loss(extreme, extreme.detach()) == 0
    with pytest.raises(ValueError, match='same labels'):
        binary_kd_loss(torch.zeros(1, 2), torch.zeros(1, 3))


@pytest.mark.parametrize('loss', [DKD(), CTKD(), MLKD(), OfficialMLKD()])
def test_methods_of_softmax_are_refused_by_name(loss: KD) -> None:
    with pytest.raises(SettingError, match=type(loss).__name__):
        loss.adopt('multilabel')
    loss.adopt('binary')


def test_standardised_logits_are_refused() -> None:
    with pytest.raises(SettingError, match='LSKD'):
        KD(standardize=True).adopt('multilabel')
    with pytest.raises(SettingError, match='of two logits only which one is larger'):
        KD(standardize=True).adopt('binary')


def test_one_logit_is_the_same_as_two_classes() -> None:
    layer = BinaryLinear(3)
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    z, y = features @ layer.weight[0] + layer.bias, torch.tensor([0, 1, 1, 0, 1, -1])
    logits = layer(features)
    assert layer.weight.shape == (1, 3)
    probabilities = logits.softmax(dim=1)
    torch.testing.assert_close(probabilities[:, 1], z.sigmoid())
    # every loss of two classes is the binary one
    both: Mapping[str, Tensor] = {'sar': logits}
    loss = classification_loss(both, {'sar': y})
    expected = LabelledBinaryCrossEntropy()(z[:, None], y[:, None])
    torch.testing.assert_close(loss, expected)
    teacher = torch.randn(6, 1, generator=torch.Generator().manual_seed(1))
    pair = torch.cat([torch.zeros_like(teacher), teacher], dim=1)
    torch.testing.assert_close(
        kd_loss(logits, pair), binary_kd_loss(z[:, None], teacher)
    )
