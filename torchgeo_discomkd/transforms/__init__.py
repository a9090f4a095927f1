# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transforms of torchgeo_discomkd."""

from .modalities import ImageToModalities, ModalityToImage
from .strong import RandomStrongView
from .symmetry import RandomSymmetry, apply_symmetry

__all__ = (
    'ImageToModalities',
    'ModalityToImage',
    'RandomStrongView',
    'RandomSymmetry',
    'apply_symmetry',
)
