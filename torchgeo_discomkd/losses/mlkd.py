# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Multi-level logit distillation (MLKD).

Source: Jin et al., CVPR 2023, 'Multi-level logit distillation'. To KD at several
temperatures (instance level) it adds the consistency of two Gram matrices of the class
probabilities P, of shape (B, C): between classes (C x C) and between samples (B x B).

The terms have very different scales. Between an undecided student and a confident
teacher of balanced classes the class term is (B / C)^2 (1 - 1 / C) and the batch term
(B / C) (1 - 1 / C): 147 and 11.5 for 128 samples of 10 classes, but 0.41 and 0.63 for
the 64 samples of 100 classes that the method was made for. With few classes the class
term can drown all others, which is why each has its own weight; standardised logits
(:func:`~torchgeo_discomkd.losses.standardize_logits`) make both small.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .distillation import (
    ALL_POSITIVE,
    POSITIVE,
    DistillationLoss,
    Preset,
    standardize_logits,
)
from .kd import kd_loss
from .logits import check_logits, check_temperature, log_probabilities, widen
from .several import row_mean


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

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import class_consistency_loss
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
        >>> round(class_consistency_loss(student, teacher).item(), 3)
        0.014
        >>> class_consistency_loss(student, teacher, reduction='none').shape
        torch.Size([2, 2])
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

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import batch_consistency_loss
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
        >>> round(batch_consistency_loss(student, teacher).item(), 3)
        0.008
        >>> batch_consistency_loss(student, teacher, reduction='none').shape
        torch.Size([3, 3])
    """
    p, q = _probabilities(student, teacher, temperature)
    return _consistency(p, q, reduction)


@dataclass(eq=False)
class MLKD(DistillationLoss):
    """Cross-entropy plus instance, class and batch terms of a single view.

    These are :func:`~torchgeo_discomkd.losses.kd_loss`, :func:`class_consistency_loss`
    and :func:`batch_consistency_loss`, summed over temperatures. Their scales differ:
    see the top of this module.

    Please cite Jin et al., CVPR 2023, 'Multi-level logit distillation'.

    Args:
        cross_entropy_weight: Weight of the cross-entropy.
        distillation_weight: Weight of the distillation loss.
        temperatures: One or more, summed over.
        class_weight: Weight of the class consistency.
        batch_weight: Weight of the batch consistency.
        swapped_kl: Whether the instance term is what the authors of DisCoM-KD ran: a KL
            routine that was given probabilities instead of their logarithms, with
            teacher and student swapped: the mean over samples and classes of
            q (ln q - p), where p and q are the teacher's and the student's
            probabilities. Its minimum is at q = softmax(p), not at q = p, and it can be
            negative.
        standardize: Whether to standardise the logits of student and teacher before all
            terms of the distillation loss (LSKD).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import MLKD
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
        >>> loss = MLKD(temperatures=(2.0, 4.0), class_weight=0.5)
        >>> round(loss(student, teacher, torch.tensor([0, 1]), epoch=0).item(), 3)
        0.579
    """

    cross_entropy_weight: float = 1.0
    distillation_weight: float = 1.0
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0)
    class_weight: float = 1.0
    batch_weight: float = 1.0
    swapped_kl: bool = False
    standardize: bool = False

    NEEDS: ClassVar = {'temperatures': ALL_POSITIVE}
    PRESETS: ClassVar = {'authors': {'swapped_kl': True}}

    @classmethod
    def preset(
        cls, name: Preset = 'default', standardize: bool = False, **settings: Any
    ) -> DistillationLoss:
        """Return the loss with the settings of a publication.

        Args:
            name: As for :meth:`DistillationLoss.preset`; 'official' is
                :class:`OfficialMLKD`.
            standardize: Whether to standardise the logits (LSKD).
            settings: Settings that replace those of the preset.

        Raises:
            SettingError: If *name* is unknown or a setting out of range.
        """
        if name == 'official':
            return OfficialMLKD.preset(name, standardize, **settings)
        return super().preset(name, standardize, **settings)

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
            Scalar.

        Raises:
            ValueError: If shapes differ.
        """
        logits = self.comparable(student_logits, teacher_logits)
        instance_loss = _swapped_kd_loss if self.swapped_kl else kd_loss
        terms = [
            instance_loss(*logits, temperature)
            + self.class_weight * class_consistency_loss(*logits, temperature)
            + self.batch_weight * batch_consistency_loss(*logits, temperature)
            for temperature in self.temperatures
        ]
        return torch.stack(terms).sum()


@dataclass(eq=False)
class OfficialMLKD(DistillationLoss):
    """MLKD as its published code computes it, on a weak and a strong view.

    At the temperatures T, 2, 3, 5 and 6 the weak view gives instance, class and batch
    terms. The code differs from what the paper describes, and so does this loss:

    * The strong view gives instance terms only, at T, 3 and 5. At 2 and 6 the weak
      view's instance terms are added once more, in their place.
    * The masks of unconfident samples and classes multiply terms that are already
      averaged, so they are mere constants. m, for the weak instance terms above and the
      batch terms, is the fraction of samples whose teacher confidence is at most its
      median; c, for the class terms, the fraction of classes whose summed teacher
      probability is. Both are about 1/2; m is larger where many confidences round to 1.

    Please cite Jin et al., CVPR 2023, 'Multi-level logit distillation'.

    Args:
        cross_entropy_weight: Weight of the cross-entropy of either view.
        distillation_weight: Weight of the distillation loss.
        temperature: The first of the five.
        class_weight: Weight of the class consistency.
        batch_weight: Weight of the batch consistency.
        standardize: Whether to standardise the logits of the instance terms (LSKD);
            class and batch terms keep the raw ones.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import OfficialMLKD
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
        >>> strong = student / 2, teacher / 2  # logits of the strong view
        >>> loss = OfficialMLKD()
        >>> target = torch.tensor([0, 1])
        >>> round(loss(student, teacher, target, epoch=0, strong=strong).item(), 3)
        2.257
    """

    cross_entropy_weight: float = 0.1
    distillation_weight: float = 0.9
    temperature: float = 4.0
    class_weight: float = 1.0
    batch_weight: float = 1.0
    standardize: bool = False

    two_views: ClassVar[bool] = True
    NEEDS: ClassVar = {'temperature': POSITIVE}
    PRESETS: ClassVar = {
        'official_standardized': {'temperature': 2.0, 'distillation_weight': 9.0}
    }

    def schedule(self, epoch: int) -> Hashable:
        """Return what depends on the epoch: nothing.

        Args:
            epoch: Number of finished epochs, 0 in the first.
        """
        return ()

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor,
        epoch: int,
        strong: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Compute the loss of two views; see :meth:`DistillationLoss.forward`.

        Args:
            student_logits: Logits of the weak view, shape (B, C).
            teacher_logits: Logits of the weak view; no gradient reaches them.
            target: Not used.
            epoch: Not used.
            strong: Logits of student and teacher for the strong view, each of shape
                (B, C).

        Returns:
            Scalar, 0 or more up to rounding.

        Raises:
            ValueError: If there is no strong view, or shapes differ.
        """
        if strong is None:
            raise ValueError(
                'OfficialMLKD compares two views: give strong=(student_logits, '
                'teacher_logits) of the strong view.'
            )
        raw = student_logits, teacher_logits
        check_logits(*raw, *strong)
        scale = standardize_logits if self.standardize else widen
        weak = scale(student_logits), scale(teacher_logits)
        strong = scale(strong[0]), scale(strong[1])
        samples, classes = _mask_fractions(teacher_logits)
        terms = []
        for t, second in (
            (self.temperature, strong),
            (2.0, weak),
            (3.0, strong),
            (5.0, strong),
            (6.0, weak),
        ):
            instance = samples * kd_loss(*weak, t) + kd_loss(*second, t)
            of_classes = classes * class_consistency_loss(*raw, t)
            of_batch = samples * batch_consistency_loss(*raw, t)
            terms.append(
                instance + self.class_weight * of_classes + self.batch_weight * of_batch
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
    return row_mean((log_student.exp() * (log_student - p)).mean(dim=1))


def _mask_fractions(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fractions of samples and of classes that the masks keep."""
    p = log_probabilities(teacher.detach(), 1.0).exp()
    confidence, mass = p.amax(dim=1), p.sum(dim=0)
    return (
        (confidence <= confidence.median()).to(p.dtype).mean(),
        (mass <= mass.median()).to(p.dtype).mean(),
    )
