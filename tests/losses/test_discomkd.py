# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchgeo_discomkd.losses import (
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    gradient_reversal,
    modality_classification_loss,
    modality_loss,
    orthogonality_loss,
)

GOLDEN = json.loads(
    (Path(__file__).parent.parent / 'data' / 'golden_discomkd.json').read_text()
)
CASES = ('discom_equal_batch', 'discom_unequal_batch', 'discom_signed')
FORMULATIONS = {
    'expected_paper': ('index', 'sum_of_means'),
    'expected_released': ('released', 'mean_of_rows'),
    'expected_concat_mean_index_targets': ('index', 'mean_of_rows'),
}
REDUCTIONS = ('sum_of_means', 'mean_of_rows')
MODES = ('signed', 'absolute', 'squared')


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Case:
    """Embeddings (leaves with gradients), labels and heads of one golden case."""

    def __init__(self, name: str) -> None:
        self.golden = GOLDEN[name]
        inputs = self.golden['inputs']
        self.embeddings = {
            key: double(value).requires_grad_()
            for key, value in inputs['embeddings'].items()
        }
        self.labels = {m: torch.tensor(y) for m, y in inputs['labels'].items()}
        self.heads = {
            name: (
                double(head['weight']).requires_grad_(),
                double(head['bias']).requires_grad_(),
            )
            for name, head in inputs['heads'].items()
        }

    def rows(self, kind: str) -> dict[str, Tensor]:
        return {m: self.embeddings[f'{kind}_{m}'] for m in self.labels}

    def apply(self, head: str, kind: str, strength: float | None = None) -> Any:
        rows = self.rows(kind)
        if strength is not None:
            rows = {m: gradient_reversal(x, strength) for m, x in rows.items()}
        return {m: F.linear(x, *self.heads[head]) for m, x in rows.items()}

    def terms(
        self, targets: Any, reduction: Any, strength: float | None
    ) -> dict[str, Tensor]:
        inv, inf, irr = (self.rows(kind) for kind in ('inv', 'inf', 'irr'))
        logits = {
            m: F.linear(torch.cat([inv[m], inf[m]], dim=1), *self.heads[f'cl_{m}'])
            for m in self.labels
        }
        return {
            'L_cl': classification_loss(logits, self.labels, reduction),
            'L_adv': adversarial_loss(
                self.apply('adv', 'inv', strength), targets, reduction
            ),
            'L_mod': modality_loss(
                self.apply('m_inf', 'inf'),
                self.apply('m_irr', 'irr'),
                targets,
                reduction,
            ),
            'L_aux': auxiliary_loss(
                self.apply('aux', 'inv'),
                self.apply('aux', 'inf'),
                self.labels,
                reduction,
            ),
            'L_perp': orthogonality_loss(inv, inf, irr, 'signed', reduction),
        }


def gradients(loss: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(
        loss,
        list(tensors.values()),
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(tensors, found, strict=True))


def assert_close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, double(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('formulation', FORMULATIONS)
def test_golden_values(name: str, formulation: str) -> None:
    case = Case(name)
    terms = case.terms(*FORMULATIONS[formulation], strength=1.0)
    expected = dict(case.golden[formulation])
    if 'L_total' in expected:
        assert_close(sum(terms.values(), double(0)), expected.pop('L_total'))
        assert set(expected) == set(terms)
    for term, value in expected.items():
        assert_close(terms[term], value)


@pytest.mark.parametrize('name', CASES)
def test_golden_values_with_other_order_of_modalities(name: str) -> None:
    case = Case(name)
    expected = case.golden['expected_paper_labels_m1_is_1']
    case.labels = {m: case.labels[m] for m in ('m2', 'm1')}
    terms = case.terms('index', 'sum_of_means', strength=None)
    assert_close(terms['L_adv'], expected['L_adv'])
    assert_close(terms['L_mod'], expected['L_mod'])


@pytest.mark.parametrize('name', CASES)
def test_golden_gradient_of_total(name: str) -> None:
    case = Case(name)
    total = sum(case.terms('index', 'sum_of_means', 1.0).values(), double(0))
    expected = case.golden['grad_total_paper_wrt_embeddings_with_grl']
    found = gradients(total, case.embeddings)
    assert set(expected) == set(found)
    for key, value in expected.items():
        assert_close(found[key], value)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('formulation', ['paper', 'released'])
def test_golden_gradient_of_adversarial_loss(name: str, formulation: str) -> None:
    case = Case(name)
    options = FORMULATIONS[f'expected_{formulation}']
    loss = case.terms(*options, strength=1.0)['L_adv']
    found = gradients(loss, case.rows('inv'))
    for modality, value in case.golden[f'grad_L_adv_{formulation}_wrt_inv'].items():
        assert_close(found[modality], value)


def test_golden_soft_targets() -> None:
    golden = GOLDEN['soft_target_ce']
    logits = {m: double(golden['inputs'][f'logits_{m}']) for m in ('m1', 'm2')}
    loss = modality_classification_loss(logits, 'released', 'mean_of_rows')
    assert_close(loss, golden['expected'])


@pytest.mark.parametrize('name', CASES)
def test_golden_cosines(name: str) -> None:
    case = Case(name)
    inv, inf, irr = (case.rows(kind) for kind in ('inv', 'inf', 'irr'))
    cosines = {k: np.array(v) for k, v in case.golden['cosines'].items()}
    for mode, function in zip(MODES, (np.array, np.abs, np.square), strict=True):
        loss = orthogonality_loss(inv, inf, irr, mode)
        assert_close(loss, sum(function(c).mean() for c in cosines.values()))


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('strength', [0.0, 1.0, 0.3])
def test_reversal(name: str, strength: float) -> None:
    case = Case(name)
    reversed_, plain = (
        case.terms('index', 'sum_of_means', s) for s in (strength, None)
    )
    total = sum(reversed_.values(), double(0))
    rest = sum((v for k, v in plain.items() if k != 'L_adv'), double(0))
    assert_close(total - rest, plain['L_adv'].item())

    with_reversal = gradients(total, case.embeddings)
    of_rest = gradients(rest, case.embeddings)
    of_adversarial = gradients(plain['L_adv'], case.embeddings)
    for key, gradient in with_reversal.items():
        assert_close(gradient, (of_rest[key] - strength * of_adversarial[key]).tolist())
    for head in (0, 1):
        weight = {'adv': case.heads['adv'][head]}
        own = gradients(reversed_['L_adv'], weight)['adv']
        assert own.abs().max() > 0
        assert_close(own, gradients(plain['L_adv'], weight)['adv'].tolist())


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_adversarial_loss_spares_specific_embeddings(reduction: Any) -> None:
    case = Case('discom_unequal_batch')
    found = gradients(case.terms('index', reduction, 1.0)['L_adv'], case.embeddings)
    for key, gradient in found.items():
        assert bool(gradient.any()) == key.startswith('inv')


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize('targets', ['index', 'released'])
def test_second_modality_is_ignored_only_when_released(
    targets: Any, reduction: Any
) -> None:
    case = Case('discom_unequal_batch')
    terms = case.terms(targets, reduction, 1.0)
    found = gradients(terms['L_adv'] + terms['L_mod'], case.embeddings)
    for key, gradient in found.items():
        assert bool(gradient.any()) == (targets == 'index' or key.endswith('m1'))


def numpy_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(targets * log_probabilities).sum(axis=1)


def numpy_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def numpy_reduce(rows: list[np.ndarray], reduction: str) -> float:
    if reduction == 'sum_of_means':
        return float(sum(r.sum() / len(r) for r in rows))
    return float(sum(r.sum() for r in rows) / sum(len(r) for r in rows))


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize('sizes', [(5, 5), (7, 3), (4, 4, 4), (6, 1, 3)])
@pytest.mark.parametrize('seed', range(3))
def test_random_input(sizes: tuple[int, ...], reduction: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ['ms', 'sar', 'dem'][: len(sizes)]
    classes, size, number = 4, 6, len(sizes)

    def draw(columns: int) -> dict[str, np.ndarray]:
        return {
            m: 3 * rng.normal(size=(b, columns))
            for m, b in zip(names, sizes, strict=True)
        }

    logits, aux_inv, aux_inf = draw(classes), draw(classes), draw(classes)
    adv, mod_inf, mod_irr = draw(number), draw(number), draw(number)
    inv, inf, irr = draw(size), draw(size), draw(size)
    labels = {m: rng.integers(classes, size=len(x)) for m, x in logits.items()}

    def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {m: torch.from_numpy(a) for m, a in arrays.items()}

    def task(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [
            numpy_cross_entropy(arrays[m], np.eye(classes)[labels[m]]) for m in names
        ]

    def modality(arrays: dict[str, np.ndarray], targets: str) -> list[np.ndarray]:
        rows = np.eye(number) if targets == 'index' else np.array([[1, 1], [0, 0]])
        return [numpy_cross_entropy(arrays[m], rows[[i]]) for i, m in enumerate(names)]

    y = tensors(labels)
    found = classification_loss(tensors(logits), y, reduction)
    assert_close(found, numpy_reduce(task(logits), reduction))
    found = auxiliary_loss(tensors(aux_inv), tensors(aux_inf), y, reduction)
    assert_close(
        found,
        numpy_reduce(task(aux_inv), reduction) + numpy_reduce(task(aux_inf), reduction),
    )
    for targets in ('index', 'released') if number == 2 else ('index',):
        expected = numpy_reduce(modality(adv, targets), reduction)
        assert_close(adversarial_loss(tensors(adv), targets, reduction), expected)
        found = modality_classification_loss(tensors(adv), targets, reduction)
        assert_close(found, expected)
        found = modality_loss(tensors(mod_inf), tensors(mod_irr), targets, reduction)
        rows = modality(mod_inf, targets) + modality(mod_irr, targets)
        assert_close(found, numpy_reduce(rows, reduction))
    for mode, function in zip(MODES, (np.array, np.abs, np.square), strict=True):
        found = orthogonality_loss(
            tensors(inv), tensors(inf), tensors(irr), mode, reduction
        )
        first = [function(numpy_cosine(inv[m], inf[m])) for m in names]
        second = [function(numpy_cosine(inf[m], irr[m])) for m in names]
        assert_close(
            found, numpy_reduce(first, reduction) + numpy_reduce(second, reduction)
        )


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize('targets', ['index', 'released'])
@pytest.mark.parametrize('rows', [1, 3])
def test_large_float32_logits(targets: Any, reduction: Any, rows: int) -> None:
    signs = torch.tensor([[1.0, -1.0]]).repeat(rows, 1)
    logits = {
        'ms': (-1e4 * signs).requires_grad_(),
        'sar': (1e4 * signs).requires_grad_(),
    }
    labels = {m: torch.ones(rows, dtype=torch.long) for m in logits}
    losses = (
        classification_loss(logits, labels, reduction),
        adversarial_loss(logits, targets, reduction),
        modality_loss(logits, logits, targets, reduction),
        auxiliary_loss(logits, logits, labels, reduction),
        orthogonality_loss(logits, logits, logits, 'signed', reduction),
    )
    for loss in losses:
        assert loss.shape == ()
        assert loss.isfinite()
        for gradient in gradients(loss, logits).values():
            assert gradient.isfinite().all()
    # all rows of 'ms' are right, all of 'sar' wrong by a margin of 2e4
    assert losses[0].item() == (2e4 if reduction == 'sum_of_means' else 1e4)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('mode', MODES)
def test_cosine_with_zero_vector(mode: Any, dtype: torch.dtype) -> None:
    inactive = torch.full((2, 4), -1.0, dtype=dtype, requires_grad=True)
    some = torch.full((2, 4), 300.0, dtype=dtype)
    rows = {'ms': some, 'sar': some}
    zero = {'ms': inactive.relu(), 'sar': some}
    loss = orthogonality_loss(zero, rows, rows, mode)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(3)
    (gradient,) = torch.autograd.grad(loss, inactive)
    assert not gradient.any()


def test_short_vectors_have_the_cosine_of_long_ones() -> None:
    rows = {'ms': torch.full((2, 3), 1e-9), 'sar': torch.full((2, 3), 1e-9)}
    assert orthogonality_loss(rows, rows, rows).item() == pytest.approx(4)


def test_first_mapping_gives_the_indices() -> None:
    rows = {'ms': torch.randn(3, 2), 'sar': torch.randn(2, 2)}
    other = dict(reversed(rows.items()))
    assert torch.equal(modality_loss(rows, rows), modality_loss(rows, other))
    assert not torch.equal(modality_loss(rows, rows), modality_loss(other, rows))


def test_class_probabilities_as_labels() -> None:
    logits = {'ms': torch.randn(3, 4), 'sar': torch.randn(2, 4)}
    labels = {'ms': torch.tensor([0, 3, 1]), 'sar': torch.tensor([2, 2])}
    hot = {m: F.one_hot(y, 4).float() for m, y in labels.items()}
    expected = classification_loss(logits, labels)
    torch.testing.assert_close(classification_loss(logits, hot), expected)


def test_no_host_synchronization() -> None:
    # a meta tensor has no value: whoever reads one on the host fails
    rows = {m: torch.empty(3, 2, device='meta') for m in ('ms', 'sar')}
    labels = {m: torch.empty(3, dtype=torch.long, device='meta') for m in rows}
    for reduction in REDUCTIONS:
        classification_loss(rows, labels, reduction)
        auxiliary_loss(rows, rows, labels, reduction)
        orthogonality_loss(rows, rows, rows, 'squared', reduction)
        for targets in ('index', 'released'):
            adversarial_loss(rows, targets, reduction)
            modality_loss(rows, rows, targets, reduction)


class TestErrors:
    rows: ClassVar = {m: torch.ones(3, 2) for m in ('ms', 'sar')}
    other: ClassVar = {m: torch.ones(3, 2) for m in ('ms', 'dem')}

    @pytest.mark.parametrize(
        'loss',
        [
            lambda a, b: classification_loss(a, b),
            lambda a, b: modality_loss(a, b),
            lambda a, b: auxiliary_loss(a, b, a),
            lambda a, b: auxiliary_loss(a, a, b),
            lambda a, b: orthogonality_loss(a, b, a),
            lambda a, b: orthogonality_loss(a, a, b),
        ],
    )
    def test_different_modalities(self, loss: Callable[..., Tensor]) -> None:
        with pytest.raises(ValueError, match=r"\['ms', 'sar'\] and \['ms', 'dem'\]"):
            loss(self.rows, self.other)

    def test_unknown_options(self) -> None:
        with pytest.raises(ValueError, match="reduction='sum'"):
            classification_loss(self.rows, self.rows, 'sum')  # ty: ignore
        with pytest.raises(ValueError, match="targets='soft'"):
            adversarial_loss(self.rows, 'soft')  # ty: ignore
        with pytest.raises(ValueError, match="mode='cosine'"):
            orthogonality_loss(self.rows, self.rows, self.rows, 'cosine')  # ty: ignore

    def test_released_targets_of_three_modalities(self) -> None:
        rows = {m: torch.ones(3, 3) for m in ('ms', 'sar', 'dem')}
        with pytest.raises(ValueError, match='defined for 2 modalities, not 3'):
            adversarial_loss(rows, 'released')

    def test_modality_missing(self) -> None:
        rows = {m: torch.ones(3, 3) for m in ('ms', 'sar')}
        with pytest.raises(ValueError, match=r"'ms' have 3 columns.* 2 modalities"):
            modality_loss(rows, rows)
