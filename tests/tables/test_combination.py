# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.errors import ClassifierFileError, LabelError
from torchgeo_discomkd.files import CHECKSUM
from torchgeo_discomkd.tables import Combination, fit_weights, pool

from ..classify.tile_data import make_metadata


def drawn(
    count: int, *quality: float, classes: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw labels, and for each quality calibrated evidence independent of the rest."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    found = []
    for q in quality:
        # Gaussians of unit variance around q * one-hot: the posterior is a softmax
        x = rng.normal(size=(count, classes)) + q * np.eye(classes)[labels]
        powers = np.exp(q * x)
        found.append(powers / powers.sum(axis=1, keepdims=True))
    return np.array(found), labels


def likelihood(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(np.log(p[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize('weights', [(1, 1), (0.5, 0.5), (0.3, 2.0), (0, 1)])
def test_pool_is_the_normalised_product_of_powers(weights: tuple[float, ...]) -> None:
    p, _ = drawn(20, 1.0, 2.0)
    expected = p[0] ** weights[0] * p[1] ** weights[1]
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pool(p, weights), expected, rtol=1e-12)


def test_zeros_rule_nothing_out_alone() -> None:
    p = pool([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [1, 1])
    np.testing.assert_allclose(p, [0.5, 0.5, 0], atol=1e-11)
    assert p.sum() == pytest.approx(1)


def test_independent_evidence_is_multiplied() -> None:
    p, labels = drawn(4000, 1.0, 1.5)
    np.testing.assert_allclose(fit_weights(p, labels), [1, 1], atol=0.1)


def test_weights_are_the_best_of_a_grid() -> None:
    p, labels = drawn(300, 0.5, 1.5)
    grid = np.linspace(0, 2, 41)

    def loss(a: float, b: float) -> float:
        prior = 0.5 * ((a - 0.5) ** 2 + (b - 0.5) ** 2) / 0.25
        return prior - len(labels) * likelihood(pool(p, [a, b]), labels)

    best = min(((a, b) for a in grid for b in grid), key=lambda w: loss(*w))
    fitted = fit_weights(p, labels)
    np.testing.assert_allclose(fitted, best, atol=0.051)
    assert loss(*fitted) <= loss(*best)


def test_repeated_and_useless_classifiers() -> None:
    p, labels = drawn(2000, 1.5)
    # the same twice: together they count once
    assert sum(fit_weights([p[0], p[0]], labels)) == pytest.approx(1, abs=0.1)
    rng = np.random.default_rng(1)
    useless = rng.dirichlet([1, 1, 1], len(labels))
    good, bad = fit_weights([p[0], useless], labels)
    assert good == pytest.approx(1, abs=0.1)
    assert bad < 0.1


@pytest.mark.parametrize('count', [0, 1])
def test_few_samples_keep_the_weights_equal(count: int) -> None:
    p, labels = drawn(count, 1.0, 1.0)
    np.testing.assert_allclose(fit_weights(p, labels), [0.5, 0.5], atol=0.3)
    if not count:
        assert fit_weights(p, labels) == [0.5, 0.5]


def test_labels_that_do_not_fit() -> None:
    p, labels = drawn(5, 1.0, 1.0)
    with pytest.raises(LabelError, match=r'shape \(2, 5, 3\)'):
        fit_weights(p, labels[:4])
    with pytest.raises(LabelError, match='labels from'):
        fit_weights(p, labels + 3)


def test_every_set_of_three_has_weights() -> None:
    p, labels = drawn(500, 0.5, 1.0, 1.5)
    by_name = dict(zip(('sar', 'ms', 'dem'), p, strict=True))
    combination = Combination.fit(by_name, labels)
    assert list(combination.weights) == [
        *(('dem', 'ms'), ('dem', 'sar'), ('ms', 'sar'), ('dem', 'ms', 'sar'))
    ]
    some = {m: by_name[m][7] for m in ('sar', 'dem')}
    weights = fit_weights([by_name['dem'], by_name['sar']], labels)
    expected = pool([some['dem'], some['sar']], weights)
    assert combination.pool(some) == pytest.approx(tuple(expected))
    alone = (0.1, 0.2, 0.7)
    assert combination.pool({'ms': alone}) == alone


def classifiers(**changes: Any) -> dict[str, Any]:
    sar = make_metadata()
    return {'ms': replace(sar, epoch=3), 'sar': replace(sar, **changes)}


def test_file(tmp_path: Path) -> None:
    path = tmp_path / 'combination.json'
    combination = Combination({('ms', 'sar'): (0.1 + 0.2, 1.5)})
    assert Combination.read(path, classifiers()) is None
    combination.write(path, classifiers())
    assert Combination.read(path, classifiers()) == combination
    # a classifier of another epoch or temperature needs other weights
    assert Combination.read(path, classifiers(epoch=1)) is None
    assert Combination.read(path, classifiers(temperature=2.0)) is None


@pytest.mark.parametrize(
    'change',
    [
        {'format_version': 2},
        {'combinations': [{'modalities': ['ms', 'sar'], 'weights': [1, -1]}]},
        {'combinations': [{'modalities': ['ms', 'sar'], 'weights': [1]}]},
        {'combinations': [{'modalities': ['ms', 'sar'], 'weights': [1, 1e9]}]},
        {'combinations': 3},
        {'classifiers': []},
    ],
)
def test_file_that_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / 'combination.json'
    Combination({('ms', 'sar'): (1.0, 1.0)}).write(path, classifiers())
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change))
    with pytest.raises(ClassifierFileError, match=r'checksum|format version'):
        Combination.read(path, classifiers())
    # written like this by somebody else
    content |= change
    del content[CHECKSUM]
    text = json.dumps(content, sort_keys=True)
    content[CHECKSUM] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))
    with pytest.raises(ClassifierFileError, match=r'combination\.json is no file of w'):
        Combination.read(path, classifiers())
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ClassifierFileError, match='remove it'):
        Combination.read(path, classifiers())
