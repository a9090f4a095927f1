# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Losses in plain PyTorch: pure functions, and one module per distillation method."""

from .adversary import Adversary, TermScale, discriminator_size, term_scales
from .ctkd import CTKD, curriculum_lambda, instance_kd_loss
from .discomkd import (
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    modality_classification_loss,
    modality_loss,
    orthogonality_loss,
)
from .distillation import DistillationLoss, Preset, standardize_logits
from .dkd import DKD, dkd_terms
from .gradient_reversal import gradient_reversal
from .kd import KD, kd_loss
from .labelled import LabelledBinaryCrossEntropy, LabelledCrossEntropy
from .mlkd import MLKD, OfficialMLKD, batch_consistency_loss, class_consistency_loss
from .multilabel import binary_cross_entropy_rows, binary_kd_loss
from .rows import labelled_cross_entropy
from .transfer import embedding_transfer_loss, prediction_transfer_loss

__all__ = (
    'CTKD',
    'DKD',
    'KD',
    'MLKD',
    'Adversary',
    'DistillationLoss',
    'LabelledBinaryCrossEntropy',
    'LabelledCrossEntropy',
    'OfficialMLKD',
    'Preset',
    'TermScale',
    'adversarial_loss',
    'auxiliary_loss',
    'batch_consistency_loss',
    'binary_cross_entropy_rows',
    'binary_kd_loss',
    'class_consistency_loss',
    'classification_loss',
    'curriculum_lambda',
    'discriminator_size',
    'dkd_terms',
    'embedding_transfer_loss',
    'gradient_reversal',
    'instance_kd_loss',
    'kd_loss',
    'labelled_cross_entropy',
    'modality_classification_loss',
    'modality_loss',
    'orthogonality_loss',
    'prediction_transfer_loss',
    'standardize_logits',
    'term_scales',
)
