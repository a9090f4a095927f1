# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The loss of each distillation method, by its settings."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..losses import (
    CurriculumTemperature,
    InstanceTemperature,
    dkd_loss,
    instance_kd_loss,
    kd_loss,
    mlkd_loss,
)

#: Module that holds the temperature of CTKD.
type Curriculum = CurriculumTemperature | InstanceTemperature


def create_curriculum(settings: Mapping[str, Any], num_classes: int) -> Curriculum:
    """Create the temperature of CTKD.

    Args:
        settings: Settings of the method.
        num_classes: Number of classes.

    Returns:
        A module with one temperature for all samples, or with one for each.
    """
    options = {
        't_start': settings['temperature_start'],
        't_end': settings['temperature_end'],
        'loops': settings['warmup_epochs'],
        'first_epoch': settings['first_epoch'],
    }
    if settings['instance_temperature']:
        return InstanceTemperature(num_classes, **options)
    return CurriculumTemperature(**options)


def curriculum_temperature(
    curriculum: Curriculum, student: Tensor, teacher: Tensor, epoch: int
) -> Tensor:
    """Return the temperature of CTKD.

    Args:
        curriculum: What :func:`create_curriculum` returned.
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C).
        epoch: Finished epochs.

    Returns:
        Shape (), or (B,) if each sample has its own.
    """
    if isinstance(curriculum, InstanceTemperature):
        return curriculum(student, teacher, epoch)
    return curriculum(epoch)


def single_view_loss(
    method: str,
    settings: Mapping[str, Any],
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: Tensor | None,
) -> Tensor:
    """Compute the distillation loss of one view, without its weight.

    Args:
        method: 'kd', 'dkd', 'ctkd' or 'mlkd'.
        settings: Settings of the method.
        student: Logits, shape (B, C), standardised if that is wanted.
        teacher: Logits, shape (B, C), likewise.
        labels: int64 (B,).
        temperature: That of 'ctkd', shape () or (B,).

    Returns:
        Scalar.
    """
    if temperature is not None:
        loss = instance_kd_loss if temperature.ndim else kd_loss
        return loss(student, teacher, temperature)
    match method:
        case 'kd':
            return kd_loss(student, teacher, settings['temperature'])
        case 'dkd':
            return dkd_loss(
                student,
                teacher,
                labels,
                settings['target_weight'],
                settings['other_weight'],
                settings['temperature'],
            )
        case _:
            return mlkd_loss(
                student,
                teacher,
                settings['temperatures'],
                class_weight=settings['class_weight'],
                batch_weight=settings['batch_weight'],
                variant='authors' if settings['swapped_kl'] else 'clean',
            )
