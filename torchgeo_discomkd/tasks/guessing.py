# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the terms of DisCoM-KD are if nothing has been learned."""

from collections.abc import Sequence

import torch

from ..losses import (
    Adversary,
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    discriminator_size,
    modality_loss,
)
from ..metadata import LabelTask


def terms_of_guessing(
    modalities: Sequence[str],
    num_classes: int,
    formulation: str,
    adversary: Adversary,
    task: LabelTask,
) -> dict[str, float]:
    """Return the terms of Eq. 7 that equal probabilities give, by name.

    Args:
        modalities: The modalities.
        num_classes: Number of classes or labels.
        formulation: 'paper', or 'released', whose modality terms have soft targets that
            equal probabilities meet: they are left out.
        adversary: Form of the discriminator.
        task: Kind of labels.
    """
    several = task == 'multilabel'
    shape = (1, num_classes) if several else (1,)
    logits = {m: torch.zeros(1, num_classes) for m in modalities}
    labels = {m: torch.zeros(shape, dtype=torch.long) for m in modalities}
    if formulation == 'released':
        terms = {
            'classification': classification_loss(logits, labels, 'mean_of_rows'),
            'auxiliary': auxiliary_loss(logits, logits, labels, 'mean_of_rows'),
        }
    else:
        scores = {m: torch.zeros(1, len(modalities)) for m in modalities}
        size = discriminator_size(adversary, len(modalities))
        found = {m: torch.zeros(1, size) for m in modalities}
        terms = {
            'classification': classification_loss(logits, labels),
            'adversarial': adversarial_loss(found, adversary=adversary),
            'modality': modality_loss(scores, scores),
            'auxiliary': auxiliary_loss(logits, logits, labels),
        }
    return {name: float(term) for name, term in terms.items()}
