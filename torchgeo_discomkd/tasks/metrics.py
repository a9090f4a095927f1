# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scores of classifications: of one class for each sample, or several labels."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)
from torchmetrics.wrappers import ClasswiseWrapper

from ..losses.multilabel import UNLABELLED
from ..metadata import LabelTask
from .multilabel_metrics import multilabel_metrics


class PresentAccuracy(MulticlassAccuracy):
    """Accuracy of each class that has samples, averaged.

    torchmetrics' macro average counts a class without samples as 0 once a sample of
    another class was taken for it. If all classes have samples, the two are equal.
    """

    def compute(self) -> Tensor:
        """Return the mean, a scalar; 0 if there was no sample at all."""
        scores, present = super().compute(), _present(self)
        # divided first, as torchmetrics does: the same to the last bit
        return (scores[present] / present.sum()).sum()


class PresentF1Score(MulticlassF1Score):
    """F1 of each class that has samples, else NaN, where torchmetrics returns 0."""

    def compute(self) -> Tensor:
        """Return one F1 for each class, shape (C,)."""
        return super().compute().where(_present(self), torch.nan)


class HeldScores:
    """Batches that metrics are given together, since each update makes a GPU wait."""

    #: Samples after which metrics are updated, so that memory stays small.
    LIMIT = 8192

    def __init__(self) -> None:
        """Initialize a new HeldScores instance."""
        self._batches: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def add(
        self, key: str, metrics: MetricCollection, logits: Tensor, labels: Tensor
    ) -> None:
        """Hold a batch, or update the metrics with all that are held.

        Args:
            key: Name of the metrics.
            metrics: The metrics.
            logits: Shape (B, C).
            labels: int64 (B,) or (B, C).
        """
        batches = self._batches[key]
        batches.append((logits.detach(), labels))
        if sum(len(labels) for _, labels in batches) >= self.LIMIT:
            self.flush(key, metrics)

    def flush(self, key: str, metrics: MetricCollection) -> None:
        """Update the metrics with all labelled samples that are held.

        Args:
            key: Name of the metrics.
            metrics: The metrics.
        """
        if batches := self._batches.pop(key, []):
            logits, labels = map(torch.cat, zip(*batches, strict=True))
            labelled = (labels != UNLABELLED).reshape(len(labels), -1).any(dim=1)
            if labelled.any():
                metrics.update(logits[labelled], labels[labelled])

    def clear(self) -> None:
        """Forget batches of an evaluation that did not reach its end."""
        self._batches.clear()


def classification_metrics(
    num_classes: int, labels: Sequence[str], task: LabelTask = 'multiclass'
) -> MetricCollection:
    """Return the scores that every classifier of this package reports.

    Args:
        num_classes: Number of classes C.
        labels: C class names.
        task: Kind of labels. With 'binary' the scores are those of two classes; for
            'multilabel' see :func:`multilabel_metrics`.

    Returns:
        F1Score (weighted by class frequency, the paper's score), OverallAccuracy,
        AverageAccuracy (the mean over classes that have samples), ClasswiseF1Score (NaN
        for classes that have none) and ConfusionMatrix of logits or probabilities
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
    if task == 'multilabel':
        return multilabel_metrics(num_classes, labels)
    classwise = PresentF1Score(num_classes, average='none')
    return MetricCollection(
        {
            'F1Score': MulticlassF1Score(num_classes, average='weighted'),
            'OverallAccuracy': MulticlassAccuracy(num_classes, average='micro'),
            'AverageAccuracy': PresentAccuracy(num_classes, average='none'),
            'ClasswiseF1Score': ClasswiseWrapper(
                classwise, labels=list(labels), prefix='ClasswiseF1Score_'
            ),
            'ConfusionMatrix': MulticlassConfusionMatrix(num_classes),
        },
        # a wrapped metric does not notice updates that a group shares
        compute_groups=False,
    )


def _present(metric: MulticlassAccuracy | MulticlassF1Score) -> Tensor:
    """Return which classes have samples, bool (C,)."""
    return cast(Tensor, metric.tp) + cast(Tensor, metric.fn) > 0


def draw_confusion(metric: Any, matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix.

    Args:
        metric: The metric, a MulticlassConfusionMatrix.
        matrix: What it computed, (K, K).
        classes: Names of the classes, as text: a dollar begins no formula.

    Returns:
        The figure, to be closed by the caller.
    """
    figure, _ = metric.plot(matrix.cpu(), labels=list(classes))
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure
