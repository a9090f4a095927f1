# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Multi-level logit distillation (MLKD).

Source: Jin et al., CVPR 2023, 'Multi-level logit distillation'. To KD at several
temperatures (instance level) it adds the consistency of two Gram matrices of the class
probabilities P, of shape (B, C): between classes (C x C) and between samples (B x B).

The terms have very different scales. Between an undecided student and a certain teacher
of balanced classes the class term is (B / C)^2 (1 - 1 / C) and the batch term
(B / C) (1 - 1 / C): 147 and 11.5 for 128 samples of 10 classes, but 0.41 and 0.63 for
the 64 samples of 100 classes that the method was made for. With few classes the class
term can drown all others, which is why each has its own weight; standardised logits
(:func:`~torchgeo_discomkd.losses.standardize_logits`) make both small.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .kd import kd_loss
from .logits import (
    check_logits,
    check_temperature,
    check_weights,
    log_probabilities,
    widen,
)
from .lskd import standardize_logits


def class_consistency_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    reduction: Literal['rowmean', 'none'] = 'rowmean',
) -> Tensor:
    """||P_t' P_t - P_s' P_s||^2 / C with P = softmax(logits / T), without T^2.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperature: T > 0.
        reduction: 'rowmean' sums the squares and divides by the C rows of the matrix.
            'none' returns the matrix of squares, divided by C.

    Returns:
        Scalar, 0 or more, or shape (C, C) for 'none'.

    Raises:
        ValueError: If shapes differ, the temperature is not positive or *reduction* is
            unknown.
    """
    p, q = _probabilities(student, teacher, temperature)
    return _consistency(p.mT, q.mT, reduction)


def batch_consistency_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    reduction: Literal['rowmean', 'none'] = 'rowmean',
) -> Tensor:
    """||P_t P_t' - P_s P_s'||^2 / B with P = softmax(logits / T), without T^2.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperature: T > 0.
        reduction: 'rowmean' sums the squares and divides by the B rows of the matrix.
            'none' returns the matrix of squares, divided by B.

    Returns:
        Scalar, 0 or more, or shape (B, B) for 'none'.

    Raises:
        ValueError: If shapes differ, the temperature is not positive or *reduction* is
            unknown.
    """
    p, q = _probabilities(student, teacher, temperature)
    return _consistency(p, q, reduction)


def mlkd_loss(
    student: Tensor,
    teacher: Tensor,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    kd_weight: float = 1.0,
    class_weight: float = 1.0,
    batch_weight: float = 1.0,
    variant: Literal['clean', 'authors'] = 'clean',
) -> Tensor:
    """Weighted instance, class and batch terms of one view, summed over temperatures.

    For the two views of the paper's code see :func:`official_mlkd_loss`. The scales of
    the terms differ: see the head of this module.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperatures: One or more, each > 0.
        kd_weight: Weight of the instance term, 0 or more.
        class_weight: Weight of :func:`class_consistency_loss`, 0 or more.
        batch_weight: Weight of :func:`batch_consistency_loss`, 0 or more.
        variant: The instance term. 'clean' is
            :func:`~torchgeo_discomkd.losses.kd_loss`. 'authors' is what the authors of
            DisCoM-KD ran: a KL routine that was given probabilities instead of their
            logarithms, and teacher and student in each other's place, the mean over
            samples and classes of q (ln q - p), where p and q are the teacher's and the
            student's probabilities. Its minimum is at q = softmax(p), not at q = p, and
            it can be negative.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes differ, a temperature is not positive, there is none, a
            weight is negative or *variant* is unknown.
    """
    check_weights(
        kd_weight=kd_weight, class_weight=class_weight, batch_weight=batch_weight
    )
    if not temperatures:
        raise ValueError(f'temperatures={temperatures}: give one or more.')
    match variant:
        case 'clean':
            instance_loss = kd_loss
        case 'authors':
            instance_loss = _swapped_kd_loss
        case _:
            raise ValueError(f"variant='{variant}': use 'clean' or 'authors'.")
    terms = [
        kd_weight * instance_loss(student, teacher, temperature)
        + class_weight * class_consistency_loss(student, teacher, temperature)
        + batch_weight * batch_consistency_loss(student, teacher, temperature)
        for temperature in temperatures
    ]
    return torch.stack(terms).sum()


def official_mlkd_loss(
    student_weak: Tensor,
    teacher_weak: Tensor,
    student_strong: Tensor,
    teacher_strong: Tensor,
    temperature: float = 4.0,
    kd_weight: float = 1.0,
    class_weight: float = 1.0,
    batch_weight: float = 1.0,
    standardize: bool = False,
) -> Tensor:
    """MLKD as its published code computes it, on a weak and a strong view.

    At the temperatures T, 2, 3, 5 and 6 the weak view gives instance, class and batch
    terms. The code differs from what the paper describes, and so does this function:

    * The strong view gives instance terms only, at T, 3 and 5. At 2 and 6 the weak
      view's instance terms enter once more, in their place.
    * The masks of unconfident samples and classes multiply terms that are averaged
      already: they are mere constants. m, for the weak instance terms above and the
      batch terms, is the fraction of samples whose teacher confidence is at most its
      median; c, for the class terms, the fraction of classes whose summed teacher
      probability is. Both are about 1/2; m is more where many confidences round to 1.

    Its weight of the cross-entropy, of either view, is not part of this loss.

    Args:
        student_weak: Logits of the weakly augmented view, shape (B, C).
        teacher_weak: Logits, shape (B, C); no gradient reaches them.
        student_strong: Logits of the strongly augmented view, shape (B, C).
        teacher_strong: Logits, shape (B, C); no gradient reaches them.
        temperature: T > 0.
        kd_weight: Weight of the instance terms, 0 or more.
        class_weight: Weight of the class terms, 0 or more.
        batch_weight: Weight of the batch terms, 0 or more.
        standardize: Standardise the logits of the instance terms (LSKD); class and
            batch terms keep the raw ones, as in the code of LSKD.

    Returns:
        Scalar, 0 or more up to rounding.

    Raises:
        ValueError: If shapes differ, the temperature is not positive or a weight is
            negative.
    """
    check_weights(
        kd_weight=kd_weight, class_weight=class_weight, batch_weight=batch_weight
    )
    check_logits(student_weak, teacher_weak, student_strong, teacher_strong)
    scale = standardize_logits if standardize else widen
    weak = scale(student_weak), scale(teacher_weak)
    strong = scale(student_strong), scale(teacher_strong)
    samples, classes = _mask_fractions(teacher_weak)

    terms = []
    for t, second in (
        (temperature, strong),
        (2.0, weak),
        (3.0, strong),
        (5.0, strong),
        (6.0, weak),
    ):
        instance = samples * kd_loss(*weak, t) + kd_loss(*second, t)
        of_classes = classes * class_consistency_loss(student_weak, teacher_weak, t)
        of_batch = samples * batch_consistency_loss(student_weak, teacher_weak, t)
        terms.append(
            kd_weight * instance + class_weight * of_classes + batch_weight * of_batch
        )
    return torch.stack(terms).sum()


def _probabilities(
    student: Tensor, teacher: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    check_logits(student, teacher)
    check_temperature(temperature)
    return (
        log_probabilities(student, temperature).exp(),
        log_probabilities(teacher.detach(), temperature).exp(),
    )


def _consistency(student: Tensor, teacher: Tensor, reduction: str) -> Tensor:
    # the difference of two products must not be taken in half precision
    with torch.autocast(student.device.type, enabled=False):
        difference = teacher @ teacher.mT - student @ student.mT
    squares = difference.square() / len(student)
    match reduction:
        case 'rowmean':
            return squares.sum()
        case 'none':
            return squares
        case _:
            raise ValueError(f"reduction='{reduction}': use 'rowmean' or 'none'.")


def _swapped_kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    check_logits(student, teacher)
    check_temperature(temperature)
    log_student = log_probabilities(student, temperature)
    p = log_probabilities(teacher.detach(), temperature).exp()
    return (log_student.exp() * (log_student - p)).mean()


def _mask_fractions(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fractions of samples and of classes that the masks keep."""
    p = log_probabilities(teacher.detach(), 1.0).exp()
    confidence, mass = p.amax(dim=1), p.sum(dim=0)
    return (
        (confidence <= confidence.median()).to(p.dtype).mean(),
        (mass <= mass.median()).to(p.dtype).mean(),
    )
