# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Encoders, the DisCoM-KD network and the classifiers that it leaves behind."""

from ..metadata import ClassifierMetadata, ImageProfile, ModalityMetadata
from .calibration import fit_temperature, store_temperature
from .classifier_file import (
    LoadedClassifier,
    load_classifier,
    load_metadata,
    restore_classifier,
    save_classifier,
)
from .discomkd import (
    DisCoMKDNetwork,
    DisCoMKDOutput,
    DisentangledClassifier,
    DisentangledEncoder,
    Embeddings,
    read_outs,
)
from .encoder import check_tile_size, create_encoder
from .fusion import FusionClassifier
from .normalization import Normalization
from .thresholds import choose_thresholds

__all__ = (
    'ClassifierMetadata',
    'DisCoMKDNetwork',
    'DisCoMKDOutput',
    'DisentangledClassifier',
    'DisentangledEncoder',
    'Embeddings',
    'FusionClassifier',
    'ImageProfile',
    'LoadedClassifier',
    'ModalityMetadata',
    'Normalization',
    'check_tile_size',
    'choose_thresholds',
    'create_encoder',
    'fit_temperature',
    'load_classifier',
    'load_metadata',
    'read_outs',
    'restore_classifier',
    'save_classifier',
    'store_temperature',
)
