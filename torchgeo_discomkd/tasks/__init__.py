# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks of torchgeo_discomkd."""

from .base import MultiModalTask
from .discomkd import DisCoMKD
from .distillation import Distillation
from .fusion import FusionClassification
from .metrics import classification_metrics
from .multilabel_metrics import multilabel_metrics
from .pretrained import PretrainedClassification
from .training import MultiModalTrainingTask

__all__ = (
    'DisCoMKD',
    'Distillation',
    'FusionClassification',
    'MultiModalTask',
    'MultiModalTrainingTask',
    'PretrainedClassification',
    'classification_metrics',
    'multilabel_metrics',
)
