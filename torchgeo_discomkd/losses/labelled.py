# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The cross-entropies of the labels, with the options that TorchGeo's have."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .rows import counts_of, labelled_cross_entropy, labelled_rows
from .several import row_mean


class LabelledCrossEntropy(nn.Module):
    """Cross-entropy with class weights and label smoothing, skipping labels of -1.

    It is what ``nn.CrossEntropyLoss`` is in TorchGeo's tasks; see
    :func:`labelled_cross_entropy`.

    Attributes:
        weight: Weight of each class, float32 (C,), or None. It is a setting, which no
            state dict contains.
        label_smoothing: Share of the target that all classes have equally.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import LabelledCrossEntropy
        >>> criterion = LabelledCrossEntropy(class_weights=[1.0, 3.0])
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
        >>> criterion(logits, torch.tensor([1, 0]))  # 3/4 ln 2
        tensor(0.5199)
        >>> criterion.count(torch.tensor([1, 0, -1]))
        tensor(4.)
    """

    weight: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        """Initialize a new LabelledCrossEntropy instance.

        Args:
            class_weights: Weight of each class, in the order of their labels. Default:
                all classes count the same.
            label_smoothing: 0 to 1.
            num_classes: Number of classes, to check the weights.

        Raises:
            SettingError: If a number is out of range, or there is not one weight for
                each class.
        """
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise SettingError(
                f'label_smoothing={label_smoothing}: give a number from 0 to 1.'
            )
        weight = None
        if class_weights is not None:
            _check_weights(class_weights, num_classes)
            weight = torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer('weight', weight, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the weighted mean.

        Args:
            logits: Shape (B, C).
            labels: int64 (B,), -1 for a sample without a label.

        Returns:
            Scalar; 0 if no sample counts.
        """
        options = self.weight, self.label_smoothing
        return labelled_cross_entropy(logits, labels, *options)

    def count(self, labels: Tensor) -> Tensor:
        """Return how much a batch counts in a mean over several.

        Args:
            labels: int64 (B,).

        Returns:
            Sum of the weights of all labelled samples, a scalar; without class weights
            their number.
        """
        # in half precision, sums of many batches would not grow any more
        return counts_of(labels, self.weight).sum(dtype=torch.float32)


class LabelledBinaryCrossEntropy(LabelledCrossEntropy):
    """Binary cross-entropy of any number of labels, skipping labels of -1.

    It is what ``nn.BCEWithLogitsLoss`` is in TorchGeo's multi-label task, and averages
    over samples and labels; see :func:`binary_cross_entropy_rows`.

    Attributes:
        weight: Weight of the positive samples of each label (``pos_weight``), float32
            (C,), or None.
        label_smoothing: Share of each target that 0 and 1 have equally.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import LabelledBinaryCrossEntropy
        >>> criterion = LabelledBinaryCrossEntropy()
        >>> labels = torch.tensor([[1, 0], [-1, -1]])
        >>> criterion(torch.zeros(2, 2), labels)  # ln 2
        tensor(0.6931)
        >>> criterion.count(labels)
        tensor(1.)
    """

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        """Initialize a new LabelledBinaryCrossEntropy instance.

        Args:
            class_weights: Weight of the samples that have a label, for each label: what
                TorchGeo calls ``pos_weight``. Default: 1.
            label_smoothing: 0 to 1.
            num_classes: Number of labels, to check the weights.

        Raises:
            SettingError: If a number is out of range, or there is not one weight for
                each label.
        """
        super().__init__(class_weights, label_smoothing, num_classes)
        if self.weight is not None and not self.weight.all():
            raise SettingError(
                f'class_weights={list(class_weights or ())}: with several labels they '
                'weigh the samples that have a label, so 0 would make the answer '
                "'always' right. Give positive numbers."
            )

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean over all known labels.

        Args:
            logits: Shape (B, C).
            labels: int64 (B, C) of 0 and 1, -1 for what is not known.

        Returns:
            Scalar; 0 if no label is known.
        """
        options = self.weight, self.label_smoothing
        [rows] = labelled_rows({'': logits}, {'': labels}, 'sum_of_means', *options)
        return row_mean(rows)


def _check_weights(weights: Sequence[float], num_classes: int | None) -> None:
    if num_classes not in {None, len(weights)}:
        raise SettingError(
            f'class_weights={list(weights)} are {len(weights)} numbers, but '
            f'num_classes={num_classes}: give one for each class, in the order of the '
            'labels.'
        )
    if not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise SettingError(
            f'class_weights={list(weights)}: give 0 or a positive number for each '
            'class, and not 0 for all.'
        )
