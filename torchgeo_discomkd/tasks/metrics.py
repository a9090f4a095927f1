# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scores of single-label classification."""

from collections.abc import Sequence

from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)
from torchmetrics.wrappers import ClasswiseWrapper


def classification_metrics(num_classes: int, labels: Sequence[str]) -> MetricCollection:
    """Return the scores that every classifier of this package reports.

    Args:
        num_classes: Number of classes C.
        labels: C class names.

    Returns:
        F1Score (weighted by class frequency, the paper's score), OverallAccuracy,
        AverageAccuracy, ClasswiseF1Score and ConfusionMatrix of logits or probabilities
        (B, C) against int64 labels (B,).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.tasks import classification_metrics
        >>> metrics = classification_metrics(2, ['forest', 'river'])
        >>> predicted, label = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 0])
        >>> scores = metrics(predicted, label)
        >>> scores['OverallAccuracy'], scores['ClasswiseF1Score_river']
        (tensor(0.7500), tensor(0.8000))
    """
    classwise = MulticlassF1Score(num_classes, average='none')
    return MetricCollection(
        {
            'F1Score': MulticlassF1Score(num_classes, average='weighted'),
            'OverallAccuracy': MulticlassAccuracy(num_classes, average='micro'),
            'AverageAccuracy': MulticlassAccuracy(num_classes, average='macro'),
            'ClasswiseF1Score': ClasswiseWrapper(
                classwise, labels=list(labels), prefix='ClasswiseF1Score_'
            ),
            'ConfusionMatrix': MulticlassConfusionMatrix(num_classes),
        },
        # a wrapped metric does not notice updates that a group shares
        compute_groups=False,
    )
