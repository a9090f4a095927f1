# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Curriculum temperature for knowledge distillation (CTKD).

Source: Li et al., AAAI 2023, https://arxiv.org/abs/2211.16231. The temperature is
trained against the student: its gradient is reversed, by a strength that grows from
epoch to epoch. Give the parameters of the module here to the student's optimiser.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradient_reversal import gradient_reversal
from .logits import check_logits, check_temperature, log_probabilities, widen


def curriculum_lambda(epoch: int, loops: int = 10) -> float:
    """Factor of the temperature's gradient: cosine from 0 at epoch 0 to -1.

    Args:
        epoch: Epoch of the schedule, 0 or more.
        loops: Epoch from which the factor is -1, 1 or more.

    Returns:
        -(1 - cos(pi min(epoch, loops) / loops)) / 2, in [-1, 0].

    Raises:
        ValueError: If *epoch* is negative or *loops* not positive.
    """
    if epoch < 0:
        raise ValueError(f'epoch={epoch}: give the number of the epoch, 0 or more.')
    if loops < 1:
        raise ValueError(f'loops={loops}: give a number of epochs, 1 or more.')
    return -(1 - math.cos(math.pi * min(epoch, loops) / loops)) / 2


class _Curriculum(nn.Module):
    """Turns raw values into temperatures and reverses their gradient."""

    def __init__(
        self, t_start: float, t_end: float, loops: int, first_epoch: Literal[0, 1]
    ) -> None:
        """Initialize a new _Curriculum instance."""
        super().__init__()
        check_temperature(t_start)
        if not 0 <= t_end < math.inf:
            raise ValueError(f't_end={t_end}: give 0 or a positive number.')
        if first_epoch not in (0, 1):
            raise ValueError(f'first_epoch={first_epoch}: use 0 or 1.')
        curriculum_lambda(0, loops)
        self.t_start = t_start
        self.t_end = t_end
        self.loops = loops
        self.first_epoch = first_epoch

    def temperature(self, raw: Tensor, epoch: int) -> Tensor:
        """Return t_start + t_end * sigmoid(raw), whose gradient is reversed.

        Args:
            raw: Any shape.
            epoch: Finished epochs.

        Returns:
            Shape of *raw*, in [t_start, t_start + t_end].
        """
        factor = curriculum_lambda(epoch + self.first_epoch, self.loops)
        return self.t_start + self.t_end * gradient_reversal(raw, -factor).sigmoid()

    def extra_repr(self) -> str:
        """Return the options, for the printed form of a model."""
        return (
            f't_start={self.t_start}, t_end={self.t_end}, loops={self.loops}, '
            f'first_epoch={self.first_epoch}'
        )


class CurriculumTemperature(_Curriculum):
    """One temperature for all samples, T = t_start + t_end * sigmoid(raw).

    Use it as :func:`~torchgeo_discomkd.losses.kd_loss`'s temperature. The one parameter
    is *raw*; the epoch is an argument of the call, so that nothing else has state.
    """

    def __init__(
        self,
        t_start: float = 1.0,
        t_end: float = 20.0,
        loops: int = 10,
        first_epoch: Literal[0, 1] = 1,
        raw: float = 1.0,
    ) -> None:
        """Initialize a new CurriculumTemperature instance.

        Args:
            t_start: Lowest temperature, positive.
            t_end: Width of the range of temperatures, 0 or more.
            loops: Epochs of the schedule; see :func:`curriculum_lambda`.
            first_epoch: Number that the schedule gives to the first epoch. With 0, the
                temperature does not move in that epoch.
            raw: Initial value of the parameter; 1 is a temperature of 15.62.

        Raises:
            ValueError: If an argument is out of range.
        """
        super().__init__(t_start, t_end, loops, first_epoch)
        self.raw = nn.Parameter(torch.tensor(float(raw)))

    def forward(self, epoch: int) -> Tensor:
        """Return the temperature.

        The gradient that reaches *raw* is multiplied by :func:`curriculum_lambda`,
        which is 0 or negative: a descent step ascends the loss.

        Args:
            epoch: Finished epochs, as Lightning's ``current_epoch``: 0 in the first.

        Returns:
            Scalar, in [t_start, t_start + t_end].

        Raises:
            ValueError: If *epoch* is negative.
        """
        return self.temperature(self.raw, epoch)


class InstanceTemperature(_Curriculum):
    """One temperature for each sample, from the predictions of student and teacher.

    Use it as :func:`instance_kd_loss`'s temperatures. The paper's code does not hold
    its network; here it is Linear-ReLU-Linear on the class probabilities of both. The
    last layer starts with weights 0 and bias *raw*: all samples have the temperature of
    :class:`CurriculumTemperature` at first.
    """

    def __init__(
        self,
        num_classes: int,
        hidden_size: int = 64,
        t_start: float = 1.0,
        t_end: float = 20.0,
        loops: int = 10,
        first_epoch: Literal[0, 1] = 1,
        raw: float = 1.0,
    ) -> None:
        """Initialize a new InstanceTemperature instance.

        Args:
            num_classes: Number C of classes, 2 or more.
            hidden_size: Number of hidden features, 1 or more.
            t_start: Lowest temperature, positive.
            t_end: Width of the range of temperatures, 0 or more.
            loops: Epochs of the schedule; see :func:`curriculum_lambda`.
            first_epoch: Number that the schedule gives to the first epoch. With 0, the
                temperatures do not move in that epoch.
            raw: Initial output of the network; 1 is a temperature of 15.62.

        Raises:
            ValueError: If an argument of the schedule or range is out of range.
        """
        super().__init__(t_start, t_end, loops, first_epoch)
        self.num_classes = num_classes
        last = nn.Linear(hidden_size, 1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, raw)
        self.network = nn.Sequential(
            nn.Linear(2 * num_classes, hidden_size), nn.ReLU(), last
        )

    def forward(self, student: Tensor, teacher: Tensor, epoch: int) -> Tensor:
        """Return the temperatures of a batch.

        Gradients reach the parameters, multiplied as in
        :meth:`CurriculumTemperature.forward`, but not the logits.

        Args:
            student: Logits, shape (B, C).
            teacher: Logits, shape (B, C).
            epoch: Finished epochs: 0 in the first.

        Returns:
            Shape (B,), in [t_start, t_start + t_end].

        Raises:
            ValueError: If *epoch* is negative or shapes are wrong.
        """
        check_logits(student, teacher)
        if student.shape[1] != self.num_classes:
            raise ValueError(
                f'Logits have {student.shape[1]} classes, but this module was made for '
                f'{self.num_classes}: give num_classes={student.shape[1]}.'
            )
        predictions = [F.softmax(widen(x.detach()), dim=1) for x in (student, teacher)]
        raw = self.network(torch.cat(predictions, dim=1)).squeeze(1)
        return self.temperature(widen(raw), epoch)


def instance_kd_loss(student: Tensor, teacher: Tensor, temperatures: Tensor) -> Tensor:
    """Distillation with one temperature for each sample.

    It is the mean of T_i^2 sum_c (p_c + 1e-7) (ln(p_c + 1e-7) - ln q_c), where p and q
    are the teacher's and the student's probabilities at T_i. Because of the 1e-7 of the
    paper's code, it differs slightly from :func:`~torchgeo_discomkd.losses.kd_loss`.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperatures: Positive, shape (B,); differentiated.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes differ or a temperature is not positive.
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
    return (temperatures.square() * rows).mean()
