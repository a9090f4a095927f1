# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Logit standardisation (LSKD), a plug-in for every distillation loss here.

Source: Sun et al., CVPR 2024, https://arxiv.org/abs/2403.01427, Algorithm 1.
"""

from torch import Tensor

from .logits import check_logits, widen


def standardize_logits(logits: Tensor) -> Tensor:
    """Subtract each row's mean and divide by its standard deviation.

    Apply it to the student's and to the teacher's logits before the distillation loss.
    The cross-entropy and the prediction keep the raw logits.

    Args:
        logits: Shape (B, C).

    Returns:
        (logits - mean) / (std + 1e-7), shape (B, C), at least float32. The standard
        deviation has divisor C - 1. A row of equal logits becomes zeros; its gradient
        is finite, but up to 1e7 times the incoming one.

    Raises:
        ValueError: If the shape is not (B, C) with two classes or more.
    """
    check_logits(logits)
    logits = widen(logits)
    # makes equal logits exactly zero, where their mean is rounded
    logits = logits - logits.amax(dim=1, keepdim=True).detach()
    mean = logits.mean(dim=1, keepdim=True)
    return (logits - mean) / (logits.std(dim=1, keepdim=True) + 1e-7)
