# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Decoupled knowledge distillation (DKD).

Source: Zhao et al., CVPR 2022, https://arxiv.org/abs/2203.08679, Eq. 7.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .distillation import EPOCHS, FIRST_EPOCH, POSITIVE, DistillationLoss
from .logits import check_logits, check_target, check_temperature, kl_divergence, widen
from .several import row_mean


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
            not of class indices. Their range is checked on the CPU only: reading them
            on another device would stall it, and there the indexing itself asserts
            the range.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import dkd_terms
        >>> student = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> teacher = torch.tensor([[3.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
        >>> target = torch.tensor([0, 1])
        >>> target_class, other_classes = dkd_terms(student, teacher, target)
        >>> [round(x, 3) for x in target_class.tolist()]
        [0.027, 0.497]
        >>> [round(x, 3) for x in other_classes.tolist()]
        [0.124, 0.0]
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


@dataclass(eq=False)
class DKD(DistillationLoss):
    """Cross-entropy and, rising during a warm-up, the two terms of :func:`dkd_terms`.

    The distillation loss is the mean over the batch of *target_weight* * TCKD +
    *other_weight* * NCKD. The defaults are those of the paper's code for CIFAR-100.

    Please cite https://arxiv.org/abs/2203.08679.

    Args:
        cross_entropy_weight: Weight of the cross-entropy.
        distillation_weight: Weight of the distillation loss after the warm-up.
        temperature: T > 0.
        target_weight: Weight of the target-class term, the paper's alpha.
        other_weight: Weight of the other classes' term, the paper's beta.
        warmup_epochs: Epochs until the distillation loss has its full weight.
        first_epoch: Number of the first epoch in the warm-up. With 0 the first epoch
            has no distillation loss.
        standardize: Whether to standardise the logits of student and teacher before the
            distillation loss (LSKD).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import DKD
        >>> student = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> teacher = torch.tensor([[3.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
        >>> loss = DKD(warmup_epochs=10)
        >>> round(loss(student, teacher, torch.tensor([0, 1]), epoch=0).item(), 3)
        0.758
        >>> loss.weights(epoch=0), loss.weights(epoch=9)
        ((1.0, 0.1), (1.0, 1.0))
    """

    cross_entropy_weight: float = 1.0
    distillation_weight: float = 1.0
    temperature: float = 4.0
    target_weight: float = 1.0
    other_weight: float = 8.0
    warmup_epochs: int = 20
    first_epoch: Literal[0, 1] = 1
    standardize: bool = False

    NEEDS: ClassVar = {
        'temperature': POSITIVE,
        'warmup_epochs': EPOCHS,
        'first_epoch': FIRST_EPOCH,
    }
    PRESETS: ClassVar = {
        'authors': {'first_epoch': 0},
        'official_standardized': {'temperature': 2.0, 'distillation_weight': 9.0},
    }

    def weights(self, epoch: int) -> tuple[float, float]:
        """Return the weights of cross-entropy and distillation loss in an epoch.

        Args:
            epoch: Number of finished epochs, 0 in the first.
        """
        warmup = min((epoch + self.first_epoch) / self.warmup_epochs, 1.0)
        return self.cross_entropy_weight, self.distillation_weight * warmup

    def schedule(self, epoch: int) -> Hashable:
        """Return what depends on the epoch: the weights.

        Args:
            epoch: Number of finished epochs, 0 in the first.
        """
        return self.weights(epoch)

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int
    ) -> Tensor:
        """Compute the distillation loss, without its weight.

        Args:
            student_logits: Shape (B, C).
            teacher_logits: Shape (B, C); no gradient reaches them.
            target: Class indices, int64, shape (B,).
            epoch: Not used.

        Returns:
            Scalar, 0 or more up to rounding.

        Raises:
            ValueError: As for :func:`dkd_terms`.
        """
        logits = self.comparable(student_logits, teacher_logits)
        target_class, other_classes = dkd_terms(*logits, target, self.temperature)
        terms = self.target_weight * target_class + self.other_weight * other_classes
        return row_mean(terms)
