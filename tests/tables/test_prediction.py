# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math

import pytest
import shapely
from scipy.stats import entropy

from torchgeo_discomkd.tables import Prediction

CLASSES = ('Crop', 'Forest', 'Water')


def test_row() -> None:
    box = shapely.box(0, 0, 1, 1)
    row = Prediction.from_probabilities('a', [0.2, 0.7, 0.1], CLASSES, 'ok', box)
    assert (row.path, row.label, row.confidence) == ('a', 'Forest', 0.7)
    assert (row.status, row.footprint) == ('ok', box)
    assert row.probabilities == (0.2, 0.7, 0.1)
    assert row.entropy == pytest.approx(entropy([0.2, 0.7, 0.1], base=3))


@pytest.mark.parametrize(
    ('probabilities', 'expected'), [([1, 0, 0], 0), ([1 / 3] * 3, 1), ([1], 0)]
)
def test_range_of_entropy(probabilities: list[float], expected: float) -> None:
    row = Prediction.from_probabilities('a', probabilities, CLASSES)
    assert row.entropy == pytest.approx(expected)
    assert math.copysign(1, row.entropy or 0) == 1
    assert (row.entropy or 0) <= 1


def test_first_of_equal_classes() -> None:
    row = Prediction.from_probabilities('a', [0.4, 0.4, 0.2], CLASSES)
    assert row.label == 'Crop'


def test_low_confidence() -> None:
    values = [0.2, 0.5, 0.3]
    row = Prediction.from_probabilities('a', values, CLASSES, min_confidence=0.6)
    assert row.label == 'uncertain'
    assert (row.confidence, row.status) == (0.5, 'ok')
    row = Prediction.from_probabilities('a', values, CLASSES, min_confidence=0.5)
    assert row.label == 'Forest'


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_numbers_that_are_not_finite(value: float) -> None:
    row = Prediction.from_probabilities('a', [0.5, value, 0], CLASSES)
    assert row.label is row.confidence is row.entropy is row.probabilities is None
    assert row.status.startswith('invalid: ')
