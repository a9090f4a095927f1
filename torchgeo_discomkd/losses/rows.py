# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the losses of several modalities share: rows by modality, and their means."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

type Rows = Mapping[str, Tensor]
type Reduction = Literal['sum_of_means', 'mean_of_rows']

#: Label of a sample that has none.
UNLABELLED = -1


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, averaged over the samples that have a label.

    PyTorch's own mean is NaN if no sample has one. Nothing is read from the device.

    Args:
        logits: Unnormalised scores, shape (B, C).
        labels: Class indices, int64, shape (B,); -1 marks a sample without a label, so
            a data set with labels must never use it for a class.

    Returns:
        Scalar, 0 or more; 0, with a gradient of 0, if no sample has a label.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import labelled_cross_entropy
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
        >>> labelled_cross_entropy(logits, torch.tensor([1, -1]))  # ln 2
        tensor(0.6931)
        >>> labelled_cross_entropy(logits, torch.tensor([-1, -1]))
        tensor(0.)
    """
    loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED)
    return torch.where((labels != UNLABELLED).any(), loss, 0.0)


def check_modalities(first: Rows, *others: Rows) -> None:
    """Check that all arguments of a loss have the same modalities.

    Args:
        first: Rows by modality.
        others: Rows by modality.

    Raises:
        ValueError: If they differ.
    """
    for other in others:
        if set(other) != set(first):
            raise ValueError(
                f'Modalities differ between arguments: {list(first)} and '
                f'{list(other)}. Give every argument the same modalities.'
            )


def cross_entropy_rows(logits: Rows, labels: Rows) -> list[Tensor]:
    """Return the cross-entropy of each row.

    Args:
        logits: Shape (B_m, C) for each modality.
        labels: int64 (B_m,), or class probabilities (B_m, C), for each modality.

    Returns:
        Shape (B_m,) for each modality; 0 for a label of -1.
    """
    return [
        F.cross_entropy(
            rows, labels[modality], reduction='none', ignore_index=UNLABELLED
        )
        for modality, rows in logits.items()
    ]


def labelled_rows(logits: Rows, labels: Rows, reduction: Reduction) -> list[Tensor]:
    """Return cross-entropies whose mean is that of the rows that have a label.

    Args:
        logits: Shape (B_m, C) for each modality.
        labels: As for :func:`cross_entropy_rows`.
        reduction: The reduction that follows.

    Returns:
        Shape (B_m,) for each modality.
    """
    rows = cross_entropy_rows(logits, labels)
    # of probabilities, which are never -1, the first column will do
    known = [labels[m].reshape(len(labels[m]), -1)[:, 0] != UNLABELLED for m in logits]
    if reduction == 'mean_of_rows':
        known = [torch.cat(known)] * len(rows)
    # the factor is exactly 1 if all rows have a label
    return [
        r * (len(k) / k.sum(dtype=r.dtype).clamp(min=1))
        for r, k in zip(rows, known, strict=True)
    ]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of each pair of rows.

    Args:
        a: Shape (B, D).
        b: Shape (B, D).

    Returns:
        At least float32, shape (B,); 0 with a vector of zeros.
    """
    # half precision cannot hold the lower bound of the norms
    dtype = torch.promote_types(a.dtype, torch.float32)
    return F.cosine_similarity(a.to(dtype), b.to(dtype), dim=1, eps=1e-12)


def reduce_rows(rows: Iterable[Tensor], reduction: Reduction) -> Tensor:
    """Combine the rows of all modalities.

    Args:
        rows: Shape (B_m,) for each modality.
        reduction: Whether to sum one mean per modality, or to average over all rows.

    Returns:
        Scalar.

    Raises:
        ValueError: If *reduction* is unknown.
    """
    match reduction:
        case 'sum_of_means':
            return torch.stack([r.mean() for r in rows]).sum()
        case 'mean_of_rows':
            return torch.cat(list(rows)).mean()
        case _:
            raise ValueError(
                f"reduction='{reduction}': use 'sum_of_means' or 'mean_of_rows'."
            )
