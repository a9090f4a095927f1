# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scores of classifications with any number of labels for each sample."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MultilabelAccuracy, MultilabelF1Score
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.wrappers import ClasswiseWrapper

from ..losses.multilabel import UNLABELLED


class PresentLabelF1Score(MultilabelF1Score):
    """F1 of each label that occurs, else NaN, where torchmetrics returns 0."""

    def compute(self) -> Tensor:
        """Return one F1 for each label, shape (C,)."""
        present = cast(Tensor, self.tp) + cast(Tensor, self.fn) > 0
        return super().compute().where(present, torch.nan)


class MacroLabelF1Score(PresentLabelF1Score):
    """Mean F1 of the labels that occur."""

    def compute(self) -> Tensor:
        """Return the mean, a scalar; 0 if no label occurs."""
        return super().compute().nanmean().nan_to_num()


class KnownLabelAccuracy(MultilabelAccuracy):
    """Share of right decisions for each label that is known of a sample, averaged."""

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        right = cast(Tensor, self.tp) + cast(Tensor, self.tn)
        number = right + cast(Tensor, self.fp) + cast(Tensor, self.fn)
        known = number > 0
        return (right[known] / number[known]).mean().nan_to_num()


class MeanAveragePrecision(Metric):
    """Average precision of each label that occurs, averaged (mAP).

    torchmetrics' macro average warns of labels that do not occur.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, num_labels: int) -> None:
        """Initialize a new MeanAveragePrecision instance.

        Args:
            num_labels: Number of labels C.
        """
        super().__init__()
        self.num_labels = num_labels
        self.add_state('scores', default=[], dist_reduce_fx='cat')
        self.add_state('targets', default=[], dist_reduce_fx='cat')

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add samples.

        Args:
            preds: Probabilities, shape (B, C).
            target: int64 (B, C) of 0 and 1, -1 for what is not known.
        """
        cast(list[Tensor], self.scores).append(preds)
        cast(list[Tensor], self.targets).append(target)

    def compute(self) -> Tensor:
        """Return the mean, a scalar; 0 if no label occurs."""
        scores = dim_zero_cat(cast(list[Tensor], self.scores))
        targets = dim_zero_cat(cast(list[Tensor], self.targets))
        found = [
            binary_average_precision(scores[known, i], targets[known, i])
            for i in range(self.num_labels)
            if (targets[:, i] == 1).any()
            for known in [targets[:, i] != UNLABELLED]
        ]
        return torch.stack(found).mean() if found else scores.new_zeros(())


def multilabel_metrics(num_labels: int, labels: Sequence[str]) -> MetricCollection:
    """Return the scores of classifiers with any number of labels for each sample.

    Args:
        num_labels: Number of labels C.
        labels: C names.

    Returns:
        F1Score (the F1 of each label, weighted by its number of samples, under the name
        of the paper's score), MicroF1Score, MacroF1Score (over labels that occur),
        OverallAccuracy (share of right decisions), AverageAccuracy (the same for each
        label, averaged), MeanAveragePrecision and ClasswiseF1Score (NaN for labels that
        do not occur) of probabilities (B, C), a label being predicted above 0.5,
        against int64 labels (B, C) of 0 and 1; those of -1 are left out. Logits would
        be taken for probabilities if all are from 0 to 1.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.tasks import multilabel_metrics
        >>> metrics = multilabel_metrics(2, ['forest', 'river'])
        >>> predicted = torch.tensor([[0.9, 0.4], [0.8, 1.0], [0.3, 0.1]])
        >>> scores = metrics(predicted, torch.tensor([[1, 1], [1, 1], [0, 0]]))
        >>> scores['F1Score'], scores['ClasswiseF1Score_river']
        (tensor(0.8333), tensor(0.6667))
        >>> scores['OverallAccuracy'], scores['MeanAveragePrecision']
        (tensor(0.8333), tensor(1.))
    """
    n, ignored = num_labels, UNLABELLED
    classwise = PresentLabelF1Score(n, average='none', ignore_index=ignored)
    return MetricCollection(
        {
            'F1Score': MultilabelF1Score(n, average='weighted', ignore_index=ignored),
            'MicroF1Score': MultilabelF1Score(n, average='micro', ignore_index=ignored),
            'MacroF1Score': MacroLabelF1Score(n, average='none', ignore_index=ignored),
            'OverallAccuracy': MultilabelAccuracy(
                n, average='micro', ignore_index=ignored
            ),
            'AverageAccuracy': KnownLabelAccuracy(
                n, average='none', ignore_index=ignored
            ),
            'MeanAveragePrecision': MeanAveragePrecision(num_labels),
            'ClasswiseF1Score': ClasswiseWrapper(
                classwise, labels=list(labels), prefix='ClasswiseF1Score_'
            ),
        },
        # a wrapped metric does not notice updates that a group shares
        compute_groups=False,
    )
