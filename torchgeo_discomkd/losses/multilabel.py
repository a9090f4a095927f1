# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Losses of samples with any number of labels: one binary decision for each label.

The paper of DisCoM-KD is about one class for each sample. With several labels, the
softmax of Eq. 2 and 5 becomes a sigmoid for each label, as in TorchGeo's
``Classification(task='multilabel', loss='bce')``, and the divergence of a student from
its teacher one of Bernoulli distributions, as in Yang et al., 'Multi-Label Knowledge
Distillation', ICCV 2023, https://arxiv.org/abs/2308.06453.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import check_temperature, widen
from .several import row_mean

#: Label of a sample that has none, and of a label that is not known of a sample.
UNLABELLED = -1


def is_multilabel(labels: Tensor) -> bool:
    """Return whether a batch of labels has any number of them for each sample.

    Args:
        labels: int64 (B,) of classes, float (B, C) of probabilities or int64 (B, C) of
            0, 1 and -1.
    """
    return labels.ndim == 2 and not labels.is_floating_point()


def binary_cross_entropy_rows(
    logits: Tensor,
    labels: Tensor,
    pos_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the binary cross-entropy of each sample, averaged over all C labels.

    Args:
        logits: Unnormalised scores, shape (B, C).
        labels: int64 (B, C): 1 for a label that the sample has, 0 for one that it has
            not, -1 for one that is not known.
        pos_weight: Weight of the term of each label in the samples that have it, shape
            (C,), as in PyTorch and TorchGeo. Default: 1.
        label_smoothing: Share of each target that 0 and 1 have equally, in [0, 1]: a
            target y becomes (1 - s) y + s / 2.

    Returns:
        Shape (B,), 0 or more; labels that are not known count as 0.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import binary_cross_entropy_rows
        >>> labels = torch.tensor([[1, 0], [1, -1], [-1, -1]])
        >>> binary_cross_entropy_rows(torch.zeros(3, 2), labels)  # ln 2, its half, 0
        tensor([0.6931, 0.3466, 0.0000])
    """
    if pos_weight is not None:
        # the weights are not rounded to half precision
        logits = logits.to(torch.promote_types(logits.dtype, pos_weight.dtype))
        pos_weight = pos_weight.to(logits.dtype)
    target = labels.clamp(min=0).to(logits.dtype)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / 2
    entropy = F.binary_cross_entropy_with_logits(
        logits, target, pos_weight=pos_weight, reduction='none'
    )
    return torch.where(labels == UNLABELLED, 0, entropy).mean(dim=1)


def binary_kd_loss(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 4.0
) -> Tensor:
    """T^2 KL(Bernoulli(teacher / T) || Bernoulli(student / T)), averaged over labels.

    Yang et al. sum over the labels; here they are averaged, like the binary
    cross-entropy beside it. With one label this equals :func:`kd_loss` of the two
    logits 0 and z.

    Args:
        student: Logits, shape (B, C).
        teacher: Logits, shape (B, C); no gradient reaches them.
        temperature: T > 0.

    Returns:
        Scalar, 0 or more up to rounding: the mean over samples and labels. At least
        float32.

    Raises:
        ValueError: If shapes differ or the temperature is not positive.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import binary_kd_loss
        >>> student = torch.tensor([[2.0, 0.0]])
        >>> binary_kd_loss(student, student)
        tensor(0.)
        >>> round(binary_kd_loss(student, torch.tensor([[2.0, 3.0]])).item(), 3)
        0.525
    """
    if student.shape != teacher.shape or student.ndim != 2 or not student.numel():
        raise ValueError(
            f'Logits have shapes {tuple(student.shape)} and {tuple(teacher.shape)}: '
            'give student and teacher the same samples and the same labels, (B, C).'
        )
    check_temperature(temperature)
    z, other = widen(student) / temperature, widen(teacher.detach()) / temperature
    # ln p and ln (1 - p): nothing cancels
    divergence = other.sigmoid() * (F.logsigmoid(other) - F.logsigmoid(z))
    divergence += (-other).sigmoid() * (F.logsigmoid(-other) - F.logsigmoid(-z))
    return temperature**2 * row_mean(divergence.mean(dim=1))
