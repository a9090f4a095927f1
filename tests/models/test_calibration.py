# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from torchgeo_discomkd import __version__
from torchgeo_discomkd.errors import ClassifierFileError, LabelError
from torchgeo_discomkd.models import (
    ClassifierMetadata,
    FusionClassifier,
    ModalityMetadata,
    fit_temperature,
    load_classifier,
    load_metadata,
    save_classifier,
    store_temperature,
)


def draw(
    number: int, temperature: float, seed: int, classes: int = 5
) -> tuple[Tensor, Tensor]:
    """Return labels and the logits of their true posterior times *temperature*."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=number)
    values = rng.normal(size=(number, classes))
    values[np.arange(number), labels] += 1.5
    # log-ratio of two normal densities that lie 1.5 apart
    logits = 1.5 * values * temperature
    return torch.from_numpy(logits).float(), torch.from_numpy(labels)


def softmax(logits: Tensor, temperature: float) -> NDArray[np.float64]:
    values = logits.double().numpy() / temperature
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def likelihood(logits: Tensor, labels: Tensor, temperature: float) -> float:
    chosen = softmax(logits, temperature)[np.arange(len(labels)), labels.numpy()]
    return float(np.log(chosen).mean())


def calibration_error(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Expected calibration error by its definition, in 15 bins."""
    probabilities = softmax(logits, temperature)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels.numpy()
    error = 0.0
    for low in np.arange(15) / 15:
        chosen = (confidence > low) & (confidence <= low + 1 / 15)
        if chosen.any():
            gap = abs(right[chosen].mean() - confidence[chosen].mean())
            error += chosen.mean() * gap
    return error


@pytest.mark.parametrize('true', [0.5, 1.0, 3.0])
def test_true_temperature_is_found(true: float) -> None:
    logits, labels = draw(20_000, true, seed=0)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize(('number', 'true'), [(5, 3.0), (30, 0.5), (300, 2.0)])
def test_most_probable_of_a_grid(number: int, true: float) -> None:
    logits, labels = draw(number, true, seed=1)
    grid = np.exp(np.linspace(-4, 4, 8001))
    evidence = np.array([number * likelihood(logits, labels, t) for t in grid])
    # normal with mean 0 and standard deviation 0.5
    best = grid[np.argmax(evidence - 2 * np.log(grid) ** 2)]
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(best, rel=1e-3)
    assert likelihood(logits, labels, fitted) > likelihood(logits, labels, 1)


def test_overconfident_logits_are_better_calibrated_on_held_out_data() -> None:
    fitted = fit_temperature(*draw(500, 3.0, seed=2))
    logits, labels = draw(5000, 3.0, seed=3)
    before = calibration_error(logits, labels, 1.0)
    after = calibration_error(logits, labels, fitted)
    assert before > 0.15
    assert after < 0.03
    assert torch.equal((logits / fitted).argmax(1), logits.argmax(1))


def test_constant_of_a_sample_means_nothing() -> None:
    logits, labels = draw(100, 2.0, seed=4)
    shifted = logits.double() + 1e6 * torch.arange(len(logits))[:, None]
    expected = fit_temperature(logits, labels)
    assert fit_temperature(shifted, labels) == pytest.approx(expected, rel=1e-6)
    assert expected > 1.2


def test_few_samples_are_not_believed_too_much() -> None:
    # whatever they say: right or wrong
    for label in (0, 1):
        logits = torch.tensor([[2.0, 0.0]] * 3)
        fitted = fit_temperature(logits, torch.full((3,), label))
        assert 0.7 < fitted < 2.5
    logits, labels = draw(1000, 3.0, seed=5)
    right = logits.argmax(1) == labels
    surer = fit_temperature(logits[right], labels[right])
    assert 0.1 < surer < 1
    # on the average over small samples, better than no calibration
    held_out = draw(5000, 2.0, seed=6)
    scores = [
        likelihood(*held_out, fit_temperature(*draw(12, 2.0, seed)))
        for seed in range(100, 130)
    ]
    assert np.mean(scores) > likelihood(*held_out, 1)


def test_samples_that_tell_nothing() -> None:
    _, labels = draw(50, 1.0, seed=5)
    assert fit_temperature(torch.zeros(0, 5), labels[:0]) == 1
    assert fit_temperature(torch.zeros(50, 5), labels) == pytest.approx(1)
    one_class = fit_temperature(torch.randn(50, 1), torch.zeros(50).long())
    assert one_class == pytest.approx(1)


def test_bounds() -> None:
    logits, labels = draw(1000, 1.0, seed=6)
    assert fit_temperature(logits * 1e6, labels) == pytest.approx(100)
    # two minima: near 1 and at the bound, which is better
    assert fit_temperature(logits * 5e-4, labels) == pytest.approx(0.01)
    # worse than chance: equal probabilities are likelier
    assert fit_temperature(-logits * 10, labels) > 50


def test_logits_that_are_not_finite_are_left_out() -> None:
    logits, labels = draw(200, 2.0, seed=7)
    expected = fit_temperature(logits[3:], labels[3:])
    logits[0], logits[1, 2], logits[2, 0] = torch.nan, torch.inf, -torch.inf
    assert fit_temperature(logits, labels) == expected
    assert fit_temperature(torch.full((50, 3), torch.nan), torch.zeros(50)) == 1


def test_wrong_labels() -> None:
    with pytest.raises(LabelError, match=r'\(4, 3\).*\(5,\)'):
        fit_temperature(torch.zeros(4, 3), torch.zeros(5).long())
    for label in (-1, 3):
        with pytest.raises(LabelError, match='give 0 to 2'):
            fit_temperature(torch.zeros(4, 3), torch.full((4,), label))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    metadata = ClassifierMetadata(
        kind='fusion',
        model='test_resnet',
        classes=('dry', 'flooded'),
        modalities={'sar': ModalityMetadata(2, ('VV', 'VH'), 'dB', (8, 8))},
        head=None,
        normalization='none',
        temperature=1.0,
        scores={'val_F1Score': 0.5},
        epoch=3,
        data_fingerprint='',
        split_hash='',
        seed=0,
        version=__version__,
    )
    path = tmp_path / 'sar.safetensors'
    # a precision that rebuilding the network would not keep
    save_classifier(
        path, FusionClassifier({'sar': 2}, 2, 'test_resnet').half(), metadata
    )
    return path


def test_round_trip(file: Path) -> None:
    tensors, before = load_file(file), load_metadata(file)
    x = torch.randn(4, 2, 8, 8)
    logits = load_classifier(file)(x)
    store_temperature(file, 2.5, {'val_CalibrationError': 0.1})
    loaded = load_classifier(file)
    assert loaded.metadata.temperature == 2.5
    assert loaded.metadata.scores == {'val_F1Score': 0.5, 'val_CalibrationError': 0.1}
    assert loaded.metadata.epoch == before.epoch
    assert torch.equal(loaded(x), logits)
    assert torch.equal(loaded.probabilities(x), (logits / 2.5).softmax(1))
    after = load_file(file)
    assert after.keys() == tensors.keys()
    assert all(torch.equal(after[k], tensors[k]) for k in tensors)
    assert all(after[k].dtype == tensors[k].dtype for k in tensors)
    # a second calibration replaces the first one
    store_temperature(file, 2.0, {'val_CalibrationError': 0.2})
    assert load_metadata(file).temperature == 2.0
    assert [p.name for p in file.parent.iterdir()] == ['sar.safetensors']


def test_impossible_temperature(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ClassifierFileError, match='temperature=0'):
        store_temperature(file, 0.0, {})
    assert file.read_bytes() == before
