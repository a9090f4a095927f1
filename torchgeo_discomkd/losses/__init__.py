# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Losses, written with torch alone: pure functions of logits and embeddings."""

from .ctkd import (
    CurriculumTemperature,
    InstanceTemperature,
    curriculum_lambda,
    instance_kd_loss,
)
from .discomkd import (
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    modality_classification_loss,
    modality_loss,
    orthogonality_loss,
)
from .dkd import dkd_loss, dkd_terms
from .gradient_reversal import GradientReversal, gradient_reversal
from .kd import kd_loss
from .lskd import standardize_logits
from .mlkd import (
    batch_consistency_loss,
    class_consistency_loss,
    mlkd_loss,
    official_mlkd_loss,
)

__all__ = (
    'CurriculumTemperature',
    'GradientReversal',
    'InstanceTemperature',
    'adversarial_loss',
    'auxiliary_loss',
    'batch_consistency_loss',
    'class_consistency_loss',
    'classification_loss',
    'curriculum_lambda',
    'dkd_loss',
    'dkd_terms',
    'gradient_reversal',
    'instance_kd_loss',
    'kd_loss',
    'mlkd_loss',
    'modality_classification_loss',
    'modality_loss',
    'official_mlkd_loss',
    'orthogonality_loss',
    'standardize_logits',
)
