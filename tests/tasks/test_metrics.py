# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest
import torch
from matplotlib import pyplot as plt
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.functional.classification import multiclass_accuracy

from torchgeo_discomkd.tasks import classification_metrics
from torchgeo_discomkd.tasks.metrics import draw_confusion


def test_averages_over_the_classes_that_are_there() -> None:
    metrics = classification_metrics(4, ['crop', 'bog', 'water', 'rock'])
    # bog is taken for crop once, rock is never seen
    label = torch.tensor([0, 0, 0, 0, 2, 2])
    scores = metrics(torch.tensor([0, 0, 0, 1, 2, 0]), label)
    assert scores['AverageAccuracy'] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert scores['OverallAccuracy'] == pytest.approx(4 / 6)
    assert scores['ClasswiseF1Score_crop'] == pytest.approx(3 / 4)
    assert scores['ClasswiseF1Score_water'] == pytest.approx(2 / 3)
    assert scores['ClasswiseF1Score_bog'].isnan()
    assert scores['ClasswiseF1Score_rock'].isnan()
    assert scores['F1Score'] == pytest.approx((4 * 3 / 4 + 2 * 2 / 3) / 6)
    # the next batch has every class
    scores = metrics(torch.tensor([0, 1, 0, 3]), torch.tensor([0, 1, 2, 3]))
    assert scores['AverageAccuracy'] == 3 / 4
    assert scores['ClasswiseF1Score_water'] == 0


@pytest.mark.parametrize('seed', range(5))
def test_with_all_classes_the_average_is_torchmetrics_to_the_last_bit(
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(70) % 7
    logits = torch.randn(70, 7, generator=generator)
    scores = classification_metrics(7, list('abcdefg'))(logits, label)
    expected = multiclass_accuracy(logits, label, 7, average='macro')
    assert scores['AverageAccuracy'] == expected


def test_names_of_classes_are_no_formulas() -> None:
    metric = MulticlassConfusionMatrix(2)
    matrix = metric(torch.tensor([0, 1]), torch.tensor([0, 0]))
    figure = draw_confusion(metric, matrix, [r'$\frac{$', '_b$'])
    figure.canvas.draw()
    plt.close(figure)
