# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the losses of several modalities share: rows by modality, and their means."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .multilabel import UNLABELLED, binary_cross_entropy_rows, is_multilabel
from .several import averaged, is_shared, row_mean

type Rows = Mapping[str, Tensor]
type Reduction = Literal['sum_of_means', 'mean_of_rows']


def labelled_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy, averaged over the samples that have a label.

    With class weights it is PyTorch's weighted mean: a sample counts by the weight of
    its class. PyTorch's own mean is NaN if no sample counts. Nothing is read from the
    device.

    Args:
        logits: Unnormalised scores, shape (B, C).
        labels: Class indices, int64, shape (B,); -1 marks a sample without a label, so
            a data set with labels must never use it for a class.
        class_weights: Weight of each class, 0 or more, shape (C,). Default: 1.
        label_smoothing: Share of the target that all classes have equally, in [0, 1],
            as in PyTorch.

    Returns:
        Scalar, 0 or more; 0, with a gradient of 0, if no sample has a label, or one of
        a class whose weight is not 0.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import labelled_cross_entropy
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
        >>> labelled_cross_entropy(logits, torch.tensor([1, -1]))  # ln 2
        tensor(0.6931)
        >>> labelled_cross_entropy(logits, torch.tensor([-1, -1]))
        tensor(0.)
        >>> weights = torch.tensor([1.0, 3.0])
        >>> labelled_cross_entropy(logits, torch.tensor([1, 0]), weights)  # 3/4 ln 2
        tensor(0.5199)
    """
    if class_weights is None and not label_smoothing and not is_shared():
        loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED)
        return torch.where((labels != UNLABELLED).any(), loss, 0.0)
    options = class_weights, label_smoothing
    [rows] = labelled_rows({'': logits}, {'': labels}, 'sum_of_means', *options)
    return row_mean(rows)


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


def cross_entropy_rows(
    logits: Rows,
    labels: Rows,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> list[Tensor]:
    """Return the cross-entropy of each row.

    Args:
        logits: Shape (B_m, C) for each modality.
        labels: int64 (B_m,), or class probabilities (B_m, C), for each modality; or,
            for several labels in a sample, int64 (B_m, C) of 0 and 1, see
            :func:`~.multilabel.binary_cross_entropy_rows`.
        class_weights: Weight of each class, shape (C,). Default: 1.
        label_smoothing: As for :func:`labelled_cross_entropy`.

    Returns:
        Shape (B_m,) for each modality; 0 for a label of -1.
    """
    found = []
    for modality, rows in logits.items():
        weight = class_weights
        if is_multilabel(labels[modality]):
            options = weight, label_smoothing
            found.append(binary_cross_entropy_rows(rows, labels[modality], *options))
            continue
        if weight is not None:
            # the weights are not rounded to half precision
            rows = rows.to(torch.promote_types(rows.dtype, weight.dtype))
            weight = weight.to(rows.dtype)
        found.append(
            F.cross_entropy(
                rows,
                labels[modality],
                weight,
                reduction='none',
                ignore_index=UNLABELLED,
                label_smoothing=label_smoothing,
            )
        )
    return found


def counts_of(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return how much each row counts in a mean.

    Args:
        labels: int64 (B,), or class probabilities (B, C), or int64 (B, C) of 0 and 1.
        class_weights: Weight of each class, shape (C,). Default: 1.

    Returns:
        Shape (B,): the weight of the row's class, 0 without a label; for probabilities
        1, as in PyTorch; for several labels the share of them that is known.
    """
    if is_multilabel(labels):
        return (labels != UNLABELLED).float().mean(dim=1)
    # of probabilities, which are never -1, the first column will do
    known = (labels if labels.ndim == 1 else labels[:, 0]) != UNLABELLED
    if class_weights is None or labels.ndim > 1:
        return known
    return class_weights[labels.clamp(min=0)] * known


def labelled_rows(
    logits: Rows,
    labels: Rows,
    reduction: Reduction,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> list[Tensor]:
    """Return cross-entropies whose mean is that of the rows that have a label.

    Args:
        logits: Shape (B_m, C) for each modality.
        labels: As for :func:`cross_entropy_rows`.
        reduction: The reduction that follows.
        class_weights: Weight of each class, shape (C,); the mean is the weighted one.
        label_smoothing: As for :func:`labelled_cross_entropy`.

    Returns:
        Shape (B_m,) for each modality.
    """
    rows = cross_entropy_rows(logits, labels, class_weights, label_smoothing)
    counts = [counts_of(labels[m], class_weights) for m in logits]
    if reduction == 'mean_of_rows':
        counts = [torch.cat(counts)] * len(rows)
    return [r * _factor(c, r.dtype) for r, c in zip(rows, counts, strict=True)]


def _factor(counts: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what turns a mean over all rows into one over those that count."""
    total, number = counts.sum(dtype=dtype), len(counts)
    if is_shared():
        known = counts.sum(dtype=torch.float32)
        shared = averaged(torch.stack([known, torch.full_like(known, number)]))
        total, number = shared.to(dtype)
    # exactly 1 if every row counts as one
    return torch.where(total > 0, number / torch.where(total > 0, total, 1), 0)


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
        rows: Shape (B_m,) for each modality; one without rows adds nothing.
        reduction: Whether to sum one mean per modality, or to average over all rows.

    Returns:
        Scalar.

    Raises:
        ValueError: If *reduction* is unknown.
    """
    match reduction:
        case 'sum_of_means':
            return torch.stack([row_mean(r) for r in rows]).sum()
        case 'mean_of_rows':
            return row_mean(torch.cat(list(rows)))
        case _:
            raise ValueError(
                f"reduction='{reduction}': use 'sum_of_means' or 'mean_of_rows'."
            )
