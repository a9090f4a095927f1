# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Knowledge distillation (KD) from softened class probabilities.

Source: Hinton et al., 2015, https://arxiv.org/abs/1503.02531. KDv1 and KDv2 (Xue et
al., ICLR 2023, https://arxiv.org/abs/2206.06487) weigh it against the cross-entropy,
alpha * CE + (1 - alpha) * KD, with alpha 0 and 0.5. With several labels in a sample it
compares Bernoulli distributions, see :mod:`.multilabel`.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from .distillation import FRACTION, POSITIVE, DistillationLoss
from .logits import check_logits, check_temperature, kl_divergence, log_probabilities
from .multilabel import binary_kd_loss
from .several import row_mean


def kd_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float | Tensor = 4.0,
    reduction: Literal['batchmean', 'mean', 'none'] = 'batchmean',
) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)).

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperature: T > 0. A tensor of shape () is differentiated, T^2 included.
        reduction: 'batchmean' averages over the samples. 'mean' averages over samples
            and classes, which is 1/C of that; with T = 1, some of Xue et al.'s code has
            this form. 'none' returns one value for each sample.

    Returns:
        Scalar, or shape (B,) for 'none'; 0 or more up to rounding.

    Raises:
        ValueError: If shapes differ, the temperature is not one positive number or
            *reduction* is unknown.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import kd_loss
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
        >>> loss = kd_loss(student, teacher, temperature=4.0, reduction='none')
        >>> [round(x, 3) for x in loss.tolist()]
        [0.0, 0.459]
    """
    check_logits(student, teacher)
    check_temperature(temperature)
    if isinstance(temperature, Tensor) and temperature.ndim:
        raise ValueError(
            f'The temperature has shape {tuple(temperature.shape)}: give a scalar, or '
            'one temperature for each sample to instance_kd_loss.'
        )
    rows = temperature**2 * kl_divergence(
        log_probabilities(student, temperature),
        log_probabilities(teacher.detach(), temperature),
    )
    match reduction:
        case 'batchmean':
            return row_mean(rows)
        case 'mean':
            return row_mean(rows) / student.shape[1]
        case 'none':
            return rows
        case _:
            raise ValueError(
                f"reduction='{reduction}': use 'batchmean', 'mean' or 'none'."
            )


@dataclass(eq=False)
class KD(DistillationLoss):
    """alpha * cross-entropy + (1 - alpha) * :func:`kd_loss`.

    With several labels in a sample both are binary, see :func:`binary_kd_loss`.

    Please cite https://arxiv.org/abs/1503.02531 and https://arxiv.org/abs/2206.06487.

    Args:
        alpha: 0 to 1. 0 is KDv1, 0.5 KDv2.
        temperature: T > 0.
        standardize: Whether to standardise the logits of student and teacher before the
            distillation loss (LSKD).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import KD
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
        >>> loss = KD(alpha=0.5, temperature=4.0)
        >>> round(loss(student, teacher, torch.tensor([0, 1]), epoch=0).item(), 3)
        0.285
        >>> KD.preset('official')
        KD(alpha=0.5, temperature=1.0, standardize=False)
    """

    alpha: float = 0.5
    temperature: float = 4.0
    standardize: bool = False

    TASKS: ClassVar = ('multiclass', 'multilabel', 'binary')
    NEEDS: ClassVar = {'alpha': FRACTION, 'temperature': POSITIVE}
    PRESETS: ClassVar = {
        'official': {'temperature': 1.0},
        'official_standardized': {'temperature': 2.0},
    }

    def weights(self, epoch: int) -> tuple[float, float]:
        """Return the weights of cross-entropy and distillation loss.

        Args:
            epoch: Not used: the weights are always alpha and 1 - alpha.
        """
        return self.alpha, 1 - self.alpha

    def schedule(self, epoch: int) -> Hashable:
        """Return what depends on the epoch: nothing.

        Args:
            epoch: Number of finished epochs, 0 in the first.
        """
        return ()

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int
    ) -> Tensor:
        """Compute the distillation loss, without its weight.

        Args:
            student_logits: Shape (B, C).
            teacher_logits: Shape (B, C); no gradient reaches them.
            target: Not used.
            epoch: Not used.

        Returns:
            Scalar, 0 or more up to rounding.

        Raises:
            ValueError: If shapes differ.
        """
        if self.task == 'multilabel':
            return binary_kd_loss(student_logits, teacher_logits, self.temperature)
        logits = self.comparable(student_logits, teacher_logits)
        return kd_loss(*logits, self.temperature)
