# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Losses, written with torch alone: pure functions of logits and embeddings."""

from .discomkd import (
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    modality_classification_loss,
    modality_loss,
    orthogonality_loss,
)
from .gradient_reversal import GradientReversal, gradient_reversal

__all__ = (
    'GradientReversal',
    'adversarial_loss',
    'auxiliary_loss',
    'classification_loss',
    'gradient_reversal',
    'modality_classification_loss',
    'modality_loss',
    'orthogonality_loss',
)
