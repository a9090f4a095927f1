# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The five loss terms of DisCoM-KD (Ienco & Dantas, BMVC 2024), Eq. 2 to 6.

Source: https://arxiv.org/abs/2408.07080. Every function takes one tensor per modality
in a mapping from modality name to rows, two or more modalities, each with its own
number of rows B_m. A modality's index is its position in the first mapping.

The paper and its released code differ in two choices, each of which is an argument:

* *reduction*: 'sum_of_means' (paper) sums one mean per modality and kind of embedding.
  'mean_of_rows' (released code) averages over the rows of all modalities at once: each
  modality counts by its number of rows, and with M modalities of equal batch size
  a term is 1/M of the paper's, :func:`modality_loss` 1/(2M), since its mean is also
  over both kinds of embedding.
* *targets* of the modality classifiers: 'index' (paper) is the modality's index.
  'released' is a soft target, (1, 1) for the first modality and (0, 0) for the second:
  it asks for a uniform prediction on the first and ignores the second.

Eq. 6 is written for one sample; here every term averages over the batch. A label of -1
marks a sample without a label: Eq. 2 and Eq. 5 average over the others, and are 0 if
there are none. A data set with labels must therefore never use -1 for a class.
"""

from typing import Literal

import torch
from torch import Tensor

from .adversary import Adversary, discriminator_size, one_vs_rest_rows, pairwise_rows
from .rows import (
    Reduction,
    Rows,
    check_modalities,
    cosine,
    cross_entropy_rows,
    labelled_rows,
    reduce_rows,
)

type Targets = Literal['index', 'released']


def classification_loss(
    logits: Rows,
    labels: Rows,
    reduction: Reduction = 'sum_of_means',
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the task classifiers, one per modality (Eq. 2).

    Args:
        logits: Unnormalised scores, shape (B_m, C) for each modality.
        labels: Class indices, int64, shape (B_m,) for each modality, -1 for a sample
            without a label; or class probabilities, float, shape (B_m, C); or, for any
            number of labels in a sample, int64 of 0 and 1, shape (B_m, C), whose binary
            cross-entropy is averaged over labels, -1 everywhere without labels.
        reduction: How rows and modalities are combined.
        class_weights: Weight of each class, 0 or more, shape (C,); every mean is then
            the weighted one, in which a row counts by the weight of its class. With
            several labels in a sample: the weight of the samples that have it.
            Default: 1.
        label_smoothing: Share of the target that all classes have equally, in [0, 1].

    Returns:
        Scalar, 0 or more.

    Raises:
        ValueError: If the modalities differ or *reduction* is unknown.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import classification_loss
        >>> logits = {'ms': torch.zeros(4, 2), 'sar': torch.zeros(3, 2)}
        >>> labels = {'ms': torch.tensor([0, 1, 0, 1]), 'sar': torch.tensor([1, 1, 0])}
        >>> classification_loss(logits, labels)  # ln 2 from each modality
        tensor(1.3863)
        >>> classification_loss(logits, labels, reduction='mean_of_rows')
        tensor(0.6931)
    """
    check_modalities(logits, labels)
    options = class_weights, label_smoothing
    return reduce_rows(labelled_rows(logits, labels, reduction, *options), reduction)


def modality_classification_loss(
    logits: Rows, targets: Targets = 'index', reduction: Reduction = 'sum_of_means'
) -> Tensor:
    """Cross-entropy of one modality classifier: Eq. 3, and one half of Eq. 4.

    Args:
        logits: Unnormalised scores of the M modalities, shape (B_m, M) for each.
        targets: What the classifier is asked to predict.
        reduction: How rows and modalities are combined.

    Returns:
        Scalar, 0 or more.

    Raises:
        ValueError: If an option is unknown, the number of columns is not the number of
            modalities, or *targets* is 'released' and there are not exactly two.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import modality_classification_loss
        >>> scores = torch.tensor([[9.0, 0.0]])
        >>> right = modality_classification_loss({'ms': scores, 'sar': scores.flip(1)})
        >>> wrong = modality_classification_loss({'ms': scores.flip(1), 'sar': scores})
        >>> round(right.item(), 4), round(wrong.item(), 4)
        (0.0002, 18.0002)
    """
    return reduce_rows(_modality_rows(logits, targets), reduction)


def adversarial_loss(
    logits: Rows,
    targets: Targets = 'index',
    reduction: Reduction = 'sum_of_means',
    adversary: Adversary = 'joint',
) -> Tensor:
    """Cross-entropy of the modality discriminator (Eq. 3).

    The sign is positive: the encoders work against it because the discriminator's
    input passed through :func:`~torchgeo_discomkd.losses.gradient_reversal`.

    Args:
        logits: Discriminator scores of invariant embeddings, for each of M modalities:
            shape (B_m, M), with 'pairwise' (B_m, M(M - 1)), see
            :func:`~torchgeo_discomkd.losses.discriminator_size`.
        targets: What the discriminator is asked to predict.
        reduction: How rows and modalities are combined.
        adversary: One question about all modalities ('joint'), one about each pair
            ('pairwise'), or one about each modality ('one-vs-rest'). Forms for more
            than two modalities go beyond the paper; with two, the first two are the
            same.

    Returns:
        Scalar, 0 or more. Equal scores give M ln M for 'joint' and M ln 2 otherwise.

    Raises:
        ValueError: As for :func:`modality_classification_loss`, or if *adversary* is
            unknown, or not 'joint' and *targets* is 'released'.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import adversarial_loss, gradient_reversal
        >>> ms, sar = torch.tensor([[4.0, 0.0]]), torch.zeros(1, 2, requires_grad=True)
        >>> loss = adversarial_loss({'ms': ms, 'sar': gradient_reversal(sar)})
        >>> loss.backward()
        >>> sar.grad  # a descent step on 'sar' makes the discriminator worse
        tensor([[-0.5000,  0.5000]])
        >>> guess = {m: torch.zeros(1, 3) for m in ('ms', 'sar', 'dem')}
        >>> adversarial_loss(guess), adversarial_loss(guess, adversary='one-vs-rest')
        (tensor(3.2958), tensor(2.0794))
    """
    if adversary == 'joint':
        return modality_classification_loss(logits, targets, reduction)
    if targets != 'index':
        raise ValueError(
            f"targets='{targets}' is defined for adversary='joint', not '{adversary}'."
        )
    _check_columns(logits, discriminator_size(adversary, len(logits)))
    rows = pairwise_rows if adversary == 'pairwise' else one_vs_rest_rows
    return reduce_rows(rows(logits), reduction)


def modality_loss(
    informative_logits: Rows,
    irrelevant_logits: Rows,
    targets: Targets = 'index',
    reduction: Reduction = 'sum_of_means',
) -> Tensor:
    """Cross-entropy of the two modality classifiers of specific embeddings (Eq. 4).

    Args:
        informative_logits: Scores of informative embeddings, shape (B_m, M) for each.
        irrelevant_logits: Scores of irrelevant embeddings, shape (B_m, M) for each.
        targets: What the classifiers are asked to predict.
        reduction: How rows, modalities and the two classifiers are combined.

    Returns:
        Scalar, 0 or more.

    Raises:
        ValueError: If the modalities differ, and as for
            :func:`modality_classification_loss`.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import modality_loss
        >>> logits = {'ms': torch.zeros(4, 2), 'sar': torch.zeros(4, 2)}
        >>> modality_loss(logits, logits)  # 4 ln 2
        tensor(2.7726)
        >>> modality_loss(logits, logits, reduction='mean_of_rows')
        tensor(0.6931)
    """
    check_modalities(informative_logits, irrelevant_logits)
    ordered = {m: irrelevant_logits[m] for m in informative_logits}
    rows = _modality_rows(informative_logits, targets) + _modality_rows(
        ordered, targets
    )
    return reduce_rows(rows, reduction)


def auxiliary_loss(
    invariant_logits: Rows,
    informative_logits: Rows,
    labels: Rows,
    reduction: Reduction = 'sum_of_means',
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the shared auxiliary task classifier (Eq. 5).

    Args:
        invariant_logits: Scores of invariant embeddings, shape (B_m, C) for each.
        informative_logits: Scores of informative embeddings, shape (B_m, C) for each.
        labels: As for :func:`classification_loss`.
        reduction: How rows and modalities are combined; the two kinds of embedding are
            always summed.
        class_weights: As for :func:`classification_loss`.
        label_smoothing: As for :func:`classification_loss`.

    Returns:
        Scalar, 0 or more.

    Raises:
        ValueError: If the modalities differ or *reduction* is unknown.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import auxiliary_loss
        >>> logits = {'ms': torch.zeros(4, 3), 'sar': torch.zeros(2, 3)}
        >>> labels = {'ms': torch.tensor([0, 1, 2, 0]), 'sar': torch.tensor([2, 1])}
        >>> auxiliary_loss(logits, logits, labels)  # 4 ln 3
        tensor(4.3944)
    """
    check_modalities(invariant_logits, informative_logits, labels)
    options = class_weights, label_smoothing
    terms = [
        reduce_rows(labelled_rows(logits, labels, reduction, *options), reduction)
        for logits in (invariant_logits, informative_logits)
    ]
    return terms[0] + terms[1]


def orthogonality_loss(
    invariant: Rows,
    informative: Rows,
    irrelevant: Rows,
    mode: Literal['signed', 'absolute', 'squared'] = 'signed',
    reduction: Reduction = 'sum_of_means',
) -> Tensor:
    """Cosine of (invariant, informative) plus cosine of (informative, irrelevant).

    Eq. 6 takes the signed cosine. With embeddings of 0 or more (a projection head that
    ends in a ReLU) its minimum is orthogonality; with signed embeddings it is the
    opposite direction, so use 'absolute' or 'squared' there.

    Args:
        invariant: Embeddings, shape (B_m, D) for each modality.
        informative: Embeddings, shape (B_m, D) for each modality.
        irrelevant: Embeddings, shape (B_m, D) for each modality.
        mode: Which value of each cosine is minimised.
        reduction: How rows and modalities are combined; the two pairs are always
            summed.

    Returns:
        Scalar, with 'sum_of_means' in [-2M, 2M] for 'signed' and [0, 2M] otherwise.
        The cosine with a vector of zeros is 0.

    Raises:
        ValueError: If the modalities differ or an option is unknown.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import orthogonality_loss
        >>> east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> invariant = {'ms': east, 'sar': east}
        >>> informative = {'ms': north, 'sar': 3 * east}
        >>> irrelevant = {'ms': east, 'sar': north}
        >>> orthogonality_loss(invariant, informative, irrelevant)  # 1 of 4 is parallel
        tensor(1.)
    """
    check_modalities(invariant, informative, irrelevant)
    pairs = ((invariant, informative), (informative, irrelevant))
    terms = [
        reduce_rows([_penalty(cosine(a[m], b[m]), mode) for m in invariant], reduction)
        for a, b in pairs
    ]
    return terms[0] + terms[1]


def _modality_rows(logits: Rows, targets: Targets) -> list[Tensor]:
    number = len(logits)
    _check_columns(logits, number)
    match targets:
        case 'index':
            labels = {
                modality: torch.full_like(rows[:, 0], index, dtype=torch.long)
                for index, (modality, rows) in enumerate(logits.items())
            }
        case 'released':
            if number != 2:
                raise ValueError(
                    f"targets='released' is defined for 2 modalities, not {number} "
                    f"{list(logits)}: use targets='index'."
                )
            first, second = logits
            labels = {
                first: torch.ones_like(logits[first]),
                second: torch.zeros_like(logits[second]),
            }
        case _:
            raise ValueError(f"targets='{targets}': use 'index' or 'released'.")
    return cross_entropy_rows(logits, labels)


def _check_columns(logits: Rows, columns: int) -> None:
    for modality, rows in logits.items():
        if rows.shape[1] != columns:
            raise ValueError(
                f"The logits of '{modality}' have {rows.shape[1]} columns, but there "
                f'are {len(logits)} modalities {list(logits)}, which need {columns}: '
                'give every modality of the network, in its order.'
            )


def _penalty(cosine: Tensor, mode: str) -> Tensor:
    match mode:
        case 'signed':
            return cosine
        case 'absolute':
            return cosine.abs()
        case 'squared':
            return cosine.square()
        case _:
            raise ValueError(f"mode='{mode}': use 'signed', 'absolute' or 'squared'.")
