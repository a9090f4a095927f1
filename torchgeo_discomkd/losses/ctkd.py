# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Curriculum temperature for knowledge distillation (CTKD).

Source: Li et al., AAAI 2023, https://arxiv.org/abs/2211.16231. The temperature is
trained against the student: its gradient is reversed, by a strength that grows from
epoch to epoch.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from .distillation import EPOCHS, FIRST_EPOCH, POSITIVE, DistillationLoss
from .gradient_reversal import gradient_reversal
from .kd import kd_loss
from .logits import check_logits, check_temperature, log_probabilities, widen
from .several import row_mean


def curriculum_lambda(epoch: int, loops: int = 10) -> float:
    """Return the factor of the temperature's gradient, a cosine from 0 to -1.

    Args:
        epoch: Epoch of the schedule, 0 or more.
        loops: Epoch from which the factor is -1, 1 or more.

    Returns:
        -(1 - cos(pi min(epoch, loops) / loops)) / 2, in [-1, 0].

    Raises:
        ValueError: If *epoch* is negative or *loops* not positive.

    Example:
        >>> from torchgeo_discomkd.losses import curriculum_lambda
        >>> [round(curriculum_lambda(epoch, loops=10), 2) for epoch in (1, 5, 20)]
        [-0.02, -0.5, -1.0]
    """
    if epoch < 0:
        raise ValueError(f'epoch={epoch}: give the number of the epoch, 0 or more.')
    if loops < 1:
        raise ValueError(f'loops={loops}: give a number of epochs, 1 or more.')
    return -(1 - math.cos(math.pi * min(epoch, loops) / loops)) / 2


def instance_kd_loss(student: Tensor, teacher: Tensor, temperatures: Tensor) -> Tensor:
    """Distillation with one temperature for each sample.

    This is the mean of T_i^2 sum_c (p_c + 1e-7) (ln(p_c + 1e-7) - ln q_c), where p and
    q are the teacher's and the student's probabilities at T_i. Because of the 1e-7 of
    the paper's code, it differs slightly from
    :func:`~torchgeo_discomkd.losses.kd_loss`.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperatures: Positive, shape (B,); differentiated.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes differ or a temperature is not positive.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import instance_kd_loss
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
        >>> temperatures = torch.tensor([1.0, 4.0])
        >>> round(instance_kd_loss(student, teacher, temperatures).item(), 3)
        0.245
    """
    check_logits(student, teacher)
    check_temperature(temperatures)
    if temperatures.shape != student.shape[:1]:
        raise ValueError(
            f'Temperatures have shape {tuple(temperatures.shape)}: give '
            f'({student.shape[0]},), one for each row of logits.'
        )
    column = temperatures.unsqueeze(1)
    log_student = log_probabilities(student, column)
    p = log_probabilities(teacher.detach(), column).exp() + 1e-7
    rows = (p * (p.log() - log_student)).sum(dim=1)
    return row_mean(temperatures.square() * rows)


@dataclass(eq=False)
class CTKD(DistillationLoss):
    """Cross-entropy and KD at a temperature that is trained against the student.

    The temperature is T = *temperature_start* + *temperature_end* sigmoid(r). The
    parameter r is :attr:`raw`, initially 1, which gives a temperature of 15.62. With
    *instance_temperature*, r is the output of :attr:`network`, Linear-ReLU-Linear on
    the class probabilities of student and teacher; the paper's code does not include
    its own. Its last layer starts with weights 0 and bias 1, so all samples start with
    the same T. The epoch is an argument of the call, so the loss keeps no other state.

    Please cite https://arxiv.org/abs/2211.16231.

    Args:
        cross_entropy_weight: Weight of the cross-entropy.
        distillation_weight: Weight of the distillation loss.
        warmup_epochs: Epochs until the reversed gradient of the temperature has its
            full weight.
        first_epoch: Number of the first epoch in the warm-up. With 0 the temperature
            does not move in that epoch.
        temperature_lr: Learning rate of the temperature. Neither the paper nor its code
            gives one for Adam; with the default, r moves by at most 1 in 1000 steps.
        temperature_start: Lowest temperature.
        temperature_end: Width of the range above it, as in the paper's code.
        instance_temperature: Whether a small network gives each sample its own
            temperature.
        num_classes: Number of classes that this network is built for. Default: that of
            the task, see :meth:`prepare`.
        standardize: Whether to standardise the logits of student and teacher before the
            distillation loss (LSKD).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import CTKD
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
        >>> loss = CTKD()
        >>> round(loss(student, teacher, torch.tensor([0, 1]), epoch=0).item(), 3)
        0.311
        >>> round(loss.monitored['temperature'].item(), 2)
        15.62
    """

    cross_entropy_weight: float = 0.1
    distillation_weight: float = 0.9
    warmup_epochs: int = 10
    first_epoch: Literal[0, 1] = 1
    temperature_lr: float = 1e-3
    temperature_start: float = 1.0
    temperature_end: float = 20.0
    instance_temperature: bool = False
    num_classes: int | None = None
    standardize: bool = False

    MONITORED: ClassVar = ('temperature',)
    NEEDS: ClassVar = {
        'warmup_epochs': EPOCHS,
        'first_epoch': FIRST_EPOCH,
        'temperature_lr': POSITIVE,
        'temperature_start': POSITIVE,
    }
    PRESETS: ClassVar = {
        'authors': {'warmup_epochs': 5, 'first_epoch': 0, 'temperature_lr': 1e-4},
        'official': {'temperature_lr': 0.05},
        'official_standardized': {'distillation_weight': 9.0},
    }

    def __post_init__(self) -> None:
        """Check the settings and initialize the temperature.

        Raises:
            SettingError: If a setting is out of range.
        """
        super().__post_init__()
        self.lr = self.temperature_lr
        if not self.instance_temperature:
            self.raw = nn.Parameter(torch.tensor(1.0))
        elif self.num_classes is not None:
            # the student starts as it does with any other loss
            with torch.random.fork_rng(devices=[]):
                self._build(self.num_classes)

    def prepare(self, num_classes: int) -> None:
        """Build the network of *instance_temperature*, if it is not there yet.

        Args:
            num_classes: Number of classes.

        Raises:
            SettingError: If it was built for another number.
        """
        if not self.instance_temperature:
            return
        if self.num_classes is None:
            self.num_classes = num_classes
            self._build(num_classes)
        elif self.num_classes != num_classes:
            raise SettingError(
                f'num_classes={self.num_classes} of the loss, but the student has '
                f'{num_classes} classes: omit --model.loss.num_classes.'
            )

    def _build(self, num_classes: int) -> None:
        first, last = nn.Linear(2 * num_classes, 64), nn.Linear(64, 1)
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)
        self.network = nn.Sequential(first, nn.ReLU(), last)

    def temperature(self, student: Tensor, teacher: Tensor, epoch: int) -> Tensor:
        """Return the temperature, one for all samples or one for each.

        The gradient that reaches the parameters is multiplied by
        :func:`curriculum_lambda`, which is 0 or negative: a descent step ascends the
        loss. No gradient reaches the logits.

        Args:
            student: Logits, shape (B, C).
            teacher: Logits, shape (B, C).
            epoch: Number of finished epochs, 0 in the first.

        Returns:
            Shape () or, with *instance_temperature*, (B,).

        Raises:
            ValueError: If *epoch* is negative or shapes are wrong.
        """
        raw = (
            self._raw_of_each(student, teacher)
            if self.instance_temperature
            else self.raw
        )
        factor = curriculum_lambda(epoch + self.first_epoch, self.warmup_epochs)
        share = gradient_reversal(raw, -factor).sigmoid()
        return self.temperature_start + self.temperature_end * share

    def _raw_of_each(self, student: Tensor, teacher: Tensor) -> Tensor:
        check_logits(student, teacher)
        if student.shape[1] != self.num_classes:
            raise ValueError(
                f'Logits have {student.shape[1]} classes, but this module was built '
                f'for {self.num_classes}: give num_classes={student.shape[1]}.'
            )
        predictions = [F.softmax(widen(x.detach()), dim=1) for x in (student, teacher)]
        return widen(self.network(torch.cat(predictions, dim=1)).squeeze(1))

    def schedule(self, epoch: int) -> Hashable:
        """Return what depends on the epoch: the reversed gradient.

        Args:
            epoch: Number of finished epochs, 0 in the first.
        """
        return curriculum_lambda(epoch + self.first_epoch, self.warmup_epochs)

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int
    ) -> Tensor:
        """Compute the distillation loss, without its weight.

        Args:
            student_logits: Shape (B, C).
            teacher_logits: Shape (B, C); no gradient reaches them.
            target: Not used.
            epoch: Number of finished epochs, 0 in the first.

        Returns:
            Scalar, 0 or more up to rounding.

        Raises:
            ValueError: If shapes differ or *epoch* is negative.
        """
        logits = self.comparable(student_logits, teacher_logits)
        temperature = self.temperature(*logits, epoch)
        self.monitored = {'temperature': temperature.detach().mean()}
        loss = instance_kd_loss if self.instance_temperature else kd_loss
        return loss(*logits, temperature)
