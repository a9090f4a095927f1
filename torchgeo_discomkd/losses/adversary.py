# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the discriminator of Eq. 3 is asked about M modalities, in three forms.

The paper has two modalities, where one question is enough: which of the two? For more
it leaves the term open. Here every modality adds one mean over its rows, whatever the
form, and i and j are positions of modalities:

* 'joint': one classifier of M classes. Row z of modality i adds CE(D(z), i), which is
  ln M if all scores are equal.
* 'pairwise': a classifier of two classes for each pair. Row z of modality i adds
  the mean over j != i of CE(D_ij(z), i), which is ln 2 if all scores are equal.
* 'one-vs-rest': a score s_i for each modality, whose sigmoid is the probability of
  'from i'. Row z of modality i adds -log(sigmoid(s_i(z))) / 2 and, for the others,
  the mean over j != i of -log(1 - sigmoid(s_j(z))) / 2: one modality and all others
  count the same, so equal probabilities stay the best guess. Also ln 2.

With two modalities 'joint' and 'pairwise' are the same, parameters included, and
'one-vs-rest' has their value if s_0 = -s_1 is the difference of their two scores.

Source: a domain classifier behind a gradient reversal is that of Ganin et al. 2016,
https://arxiv.org/abs/1505.07818; several domains in 'joint' form that of
Schoenauer-Sebag et al. 2019, https://arxiv.org/abs/1903.09239, and as several
classifiers of two domains that of Zhao et al. 2018, https://arxiv.org/abs/1705.09684.
"""

from collections.abc import Mapping
from itertools import combinations
from math import log
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .rows import Rows

type Adversary = Literal['joint', 'pairwise', 'one-vs-rest']
type TermScale = Literal['sum', 'constant_share']


def discriminator_size(adversary: Adversary, modalities: int) -> int:
    """Return the number of scores that a discriminator needs.

    Args:
        adversary: Form of the discriminator.
        modalities: Number M of modalities, two or more.

    Returns:
        M for 'joint' and 'one-vs-rest'; M(M - 1) for 'pairwise', which is two for each
        pair (0, 1), (0, 2), ..., (1, 2), ... in this order.

    Raises:
        ValueError: If *adversary* is unknown.

    Example:
        >>> from torchgeo_discomkd.losses import discriminator_size
        >>> [discriminator_size('pairwise', modalities) for modalities in (2, 3, 4)]
        [2, 6, 12]
    """
    match adversary:
        case 'joint' | 'one-vs-rest':
            return modalities
        case 'pairwise':
            return modalities * (modalities - 1)
        case _:
            raise ValueError(
                f"adversary='{adversary}': use 'joint', 'pairwise' or 'one-vs-rest'."
            )


def term_scales(adversary: Adversary, modalities: int) -> Mapping[str, float]:
    """Return factors that keep the terms as large as with two modalities.

    With M modalities, and the class and modality probabilities of a guess, Eq. 2, 5 and
    6 grow with M; Eq. 4 and a joint Eq. 3 grow with M ln M, the other forms of Eq. 3
    with M; the terms of a transfer grow with M - 1. The factors are thus 2/M,
    2/M * ln 2 / ln M and 1/(M - 1), all exactly 1 for M = 2.

    Args:
        adversary: Form of the discriminator.
        modalities: Number M of modalities, two or more.

    Returns:
        Factors by name of the term.

    Example:
        >>> from torchgeo_discomkd.losses import term_scales
        >>> scales = term_scales('joint', 4)
        >>> scales['classification'], scales['adversarial']
        (0.5, 0.25)
        >>> set(term_scales('pairwise', 2).values())
        {1.0}
    """
    each = 2 / modalities
    guess = log(2) / log(modalities)
    transfer = 1 / (modalities - 1)
    return {
        'classification': each,
        'adversarial': each * guess if adversary == 'joint' else each,
        'modality': each * guess,
        'auxiliary': each,
        'orthogonality': each,
        'prediction_transfer': transfer,
        'embedding_transfer': transfer,
    }


def pairwise_rows(logits: Rows) -> list[Tensor]:
    """Return the mean cross-entropy of each row over the pairs of its modality.

    Args:
        logits: Shape (B_m, M(M - 1)) for each of M modalities.

    Returns:
        Shape (B_m,) for each modality.
    """
    pairs = list(combinations(range(len(logits)), 2))
    found = []
    for index, rows in enumerate(logits.values()):
        scores = rows.unflatten(1, (len(pairs), 2))
        losses = []
        for number, pair in enumerate(pairs):
            if index in pair:
                target = torch.full_like(
                    rows[:, 0], pair.index(index), dtype=torch.long
                )
                own = F.cross_entropy(scores[:, number], target, reduction='none')
                losses.append(own)
        found.append(torch.stack(losses).mean(dim=0))
    return found


def one_vs_rest_rows(logits: Rows) -> list[Tensor]:
    """Return the balanced binary cross-entropy of each row.

    Args:
        logits: Shape (B_m, M) for each of M modalities.

    Returns:
        Shape (B_m,) for each modality.
    """
    found = []
    for index, rows in enumerate(logits.values()):
        target = torch.zeros_like(rows)
        target[:, index] = 1
        losses = F.binary_cross_entropy_with_logits(rows, target, reduction='none')
        own = losses[:, index]
        others = (losses.sum(dim=1) - own) / (len(logits) - 1)
        found.append((own + others) / 2)
    return found
