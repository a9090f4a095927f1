# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the distillation losses share: log-probabilities and checks of input.

All of them take unnormalised scores (logits) of the same B samples and C classes, of a
student and of a teacher, and never send a gradient to the teacher. They compute in log
space and at least in float32, half precision included.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Return at least float32.

    Args:
        x: Any floating-point tensor.

    Returns:
        *x*, as float32 if it has half precision.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def log_probabilities(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ln softmax(logits / temperature) of each row.

    Args:
        logits: Shape (B, C).
        temperature: One number, or one for each row, shape (B, 1).

    Returns:
        Shape (B, C), 0 or less.
    """
    logits = widen(logits)
    # near the largest logit this difference is exact; the quotient of both is rounded
    shifted = logits - logits.amax(dim=1, keepdim=True).detach()
    return F.log_softmax(shifted / temperature, dim=1)


def kl_divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of each row.

    Args:
        log_student: Log-probabilities, shape (B, C).
        log_teacher: Log-probabilities, shape (B, C).

    Returns:
        Shape (B,), 0 or more up to rounding.
    """
    divergence = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    return divergence.sum(dim=1)


def check_logits(*logits: Tensor) -> None:
    """Check that all logits have the same shape: samples and classes.

    Args:
        logits: Shape (B, C) for each.

    Raises:
        ValueError: If a shape is not (B, C) with B >= 1 and C >= 2, or they differ.
    """
    shapes = [tuple(x.shape) for x in logits]
    for shape in shapes:
        if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
            raise ValueError(
                f'Logits have shape {shape}: give (B, C), with at least one row and '
                'two classes.'
            )
        if shape != shapes[0]:
            raise ValueError(
                f'Logits have shapes {shapes[0]} and {shape}: give student and teacher '
                'the same samples and the same classes.'
            )


def check_target(target: Tensor, logits: Tensor) -> None:
    """Check class indices against logits.

    The values are read on the CPU only. Reading them on another device would stall it;
    there, indexing with them asserts their range on the device itself.

    Args:
        target: Class indices, int64, shape (B,).
        logits: Shape (B, C).

    Raises:
        ValueError: If shape or dtype is wrong or, on the CPU, an index is out of range.
    """
    rows, classes = logits.shape
    if target.shape != (rows,) or target.dtype != torch.long:
        raise ValueError(
            f'The target has shape {tuple(target.shape)} and dtype {target.dtype}: '
            f'give int64 class indices of shape ({rows},), one for each row of logits.'
        )
    if target.device.type == 'cpu':
        wrong = target[(target < 0) | (target >= classes)]
        if len(wrong):
            raise ValueError(
                f'The target holds the class index {wrong[0].item()}, but the logits '
                f'have {classes} classes: give indices from 0 to {classes - 1}.'
            )


def check_temperature(temperature: float | Tensor) -> None:
    """Check that temperatures are positive.

    Args:
        temperature: A number or a tensor; the values of a tensor are read on the CPU
            only: reading them on another device would stall it.

    Raises:
        ValueError: If a temperature is not positive and finite.
    """
    if isinstance(temperature, Tensor):
        if temperature.device.type != 'cpu':
            return
        values = temperature.detach().flatten().tolist()
    else:
        values = [temperature]
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(
                f'temperature={value}: give a positive number, for instance 4.'
            )
