# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The last layer of a classifier and its probabilities, for each kind of labels."""

import torch
from torch import Tensor, nn

from ..metadata import LabelTask


class BinaryLinear(nn.Linear):
    """One logit z for two classes, returned as the logits (0, z).

    Their softmax is (1 - sigmoid(z), sigmoid(z)) and their cross-entropy the binary
    cross-entropy of z, so that two classes need no other losses, scores or tables.
    """

    def __init__(self, in_features: int) -> None:
        """Initialize a new BinaryLinear instance.

        Args:
            in_features: Number of features F.
        """
        super().__init__(in_features, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Classify features.

        Args:
            input: Shape (B, F).

        Returns:
            Logits, shape (B, 2), the first 0.
        """
        z = super().forward(input)
        return torch.cat([torch.zeros_like(z), z], dim=1)


def last_layer(features: int, num_classes: int, task: LabelTask) -> nn.Linear:
    """Return the last layer of a classifier, untrained.

    Args:
        features: Number of features F.
        num_classes: Number of classes or labels K.
        task: Kind of labels.

    Returns:
        A layer from (B, F) to logits (B, K); with 'binary' it has a single output.
    """
    return (
        BinaryLinear(features) if task == 'binary' else nn.Linear(features, num_classes)
    )


def to_probabilities(logits: Tensor, task: LabelTask) -> Tensor:
    """Turn logits into probabilities.

    Args:
        logits: Shape (B, K).
        task: Kind of labels.

    Returns:
        Shape (B, K): of classes, with sum 1 in each row, or of each label by itself.
    """
    return logits.sigmoid() if task == 'multilabel' else logits.softmax(dim=1)
