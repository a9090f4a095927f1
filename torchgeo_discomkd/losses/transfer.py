# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transfer between paired samples: one modality guides the others.

These two terms are not in the paper of DisCoM-KD. They compare rows of the same samples
and send no gradient to the guide. Sources: Hinton et al., 2015,
https://arxiv.org/abs/1503.02531, for the predictions; Garg et al., Environmental Data
Science 2023, 'Cross-modal distillation for flood extent mapping', for an optical
teacher of a radar classifier on pairs, most of them without labels.
"""

import torch
from torch import Tensor

from .kd import kd_loss
from .multilabel import binary_kd_loss
from .rows import Rows, cosine
from .several import row_mean


def prediction_transfer_loss(
    logits: Rows, guide: str, temperature: float = 4.0, multilabel: bool = False
) -> Tensor:
    """T^2 KL(softmax(guide / T) || softmax(own / T)), summed over the other modalities.

    Args:
        logits: Unnormalised scores of the same samples, shape (B, C) for each of two
            modalities or more.
        guide: The modality that the others imitate; no gradient reaches it.
        temperature: T > 0.
        multilabel: Whether each column is a decision of its own, so that the divergence
            is one of Bernoulli distributions, see :func:`binary_kd_loss`.

    Returns:
        Scalar, 0 or more up to rounding: a mean over samples for each modality but the
        guide. At least float32.

    Raises:
        ValueError: If *guide* is not among the modalities or is the only one, shapes
            differ or the temperature is not positive.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import prediction_transfer_loss
        >>> ms, sar = torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2, requires_grad=True)
        >>> loss = prediction_transfer_loss({'ms': ms, 'sar': sar}, guide='ms')
        >>> round(loss.item(), 3)
        0.485
        >>> loss.backward()
        >>> (sar.grad[0, 0] < 0).item()  # a descent step on 'sar' approaches 'ms'
        True
    """
    others = _guided(logits, guide)
    divergence = binary_kd_loss if multilabel else kd_loss
    losses = [divergence(rows, logits[guide], temperature) for rows in others]
    return torch.stack(losses).sum()


def embedding_transfer_loss(embeddings: Rows, guide: str) -> Tensor:
    """1 - cosine(own, guide), summed over the other modalities.

    Args:
        embeddings: Invariant embeddings of the same samples, shape (B, D) for each of
            two modalities or more.
        guide: The modality that the others approach; no gradient reaches it.

    Returns:
        Scalar, 0 to 2 for each modality but the guide: a mean over samples. The cosine
        with a vector of zeros is 0. At least float32.

    Raises:
        ValueError: If *guide* is not among the modalities or is the only one, or shapes
            differ.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import embedding_transfer_loss
        >>> east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> embedding_transfer_loss({'ms': east, 'sar': 3 * east}, guide='ms')
        tensor(0.)
        >>> embedding_transfer_loss({'ms': east, 'sar': north, 'dem': -east}, 'ms')
        tensor(3.)
    """
    others, target = _guided(embeddings, guide), embeddings[guide].detach()
    return torch.stack([row_mean(1 - cosine(rows, target)) for rows in others]).sum()


def _guided(rows: Rows, guide: str) -> list[Tensor]:
    """Return the rows of all modalities but the guide."""
    if guide not in rows or len(rows) < 2:
        raise ValueError(
            f"guide='{guide}', but the modalities are {list(rows)}: name one of two or "
            'more.'
        )
    shapes = {m: tuple(x.shape) for m, x in rows.items()}
    if len(set(shapes.values())) > 1 or not len(rows[guide]):
        raise ValueError(
            f'The shapes are {shapes}: give the same samples in all modalities, at '
            'least one.'
        )
    return [x for modality, x in rows.items() if modality != guide]
