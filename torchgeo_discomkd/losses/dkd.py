# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Decoupled knowledge distillation (DKD).

Source: Zhao et al., CVPR 2022, https://arxiv.org/abs/2203.08679, Eq. 7.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import (
    check_logits,
    check_target,
    check_temperature,
    check_weights,
    kl_divergence,
    widen,
)


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Mean of alpha * TCKD + beta * NCKD over the batch; see :func:`dkd_terms`.

    The defaults are those of the paper's code for CIFAR-100, without its warm-up.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        target: Class indices, int64, shape (B,).
        alpha: Weight of the target-class term, 0 or more.
        beta: Weight of the non-target-class term, 0 or more.
        temperature: T > 0.

    Returns:
        Scalar, 0 or more up to rounding.

    Raises:
        ValueError: If a weight is negative, and as for :func:`dkd_terms`.
    """
    check_weights(alpha=alpha, beta=beta)
    target_class, other_classes = dkd_terms(student, teacher, target, temperature)
    return (alpha * target_class + beta * other_classes).mean()


def dkd_terms(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Return the two terms that DKD decouples, for each sample.

    With b_t the teacher's probability of the target class at temperature T,
    :func:`kd_loss` of a sample is TCKD + (1 - b_t) NCKD.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        target: Class indices, int64, shape (B,).
        temperature: T > 0.

    Returns:
        TCKD, T^2 times the divergence of 'target class or not', and NCKD, T^2 times
        that of the classes other than the target among themselves, each of shape (B,)
        and 0 or more up to rounding. With two classes NCKD is 0.

    Raises:
        ValueError: If shapes differ, the temperature is not positive, or the target is
            not of class indices. Whether they are in range is checked on the CPU only;
            reading them on another device would stall it, and there the look-up by
            index asserts the range on the device itself.
    """
    check_logits(student, teacher)
    check_target(target, student)
    check_temperature(temperature)
    binary_student, others_student = _decouple(student, target, temperature)
    binary_teacher, others_teacher = _decouple(teacher.detach(), target, temperature)
    return (
        temperature**2 * kl_divergence(binary_student, binary_teacher),
        temperature**2 * kl_divergence(others_student, others_teacher),
    )


def _decouple(
    logits: Tensor, target: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return (ln b, ln(1 - b)), and log-probabilities without the target class."""
    logits = widen(logits)
    target = target.unsqueeze(1)
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, columns + (columns >= target).long())
    largest = others.amax(dim=1, keepdim=True).detach()
    others = (others - largest) / temperature
    normalizer = others.logsumexp(dim=1, keepdim=True)
    # b is the sigmoid of this margin, so that neither logarithm underflows
    margin = (logits.gather(1, target) - largest) / temperature - normalizer
    binary = torch.cat([F.logsigmoid(margin), F.logsigmoid(-margin)], dim=1)
    return binary, others - normalizer
