# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transforms of torchgeo_discomkd."""

from .strong import RandomStrongView
from .symmetry import RandomSymmetry, apply_symmetry

__all__ = ('RandomStrongView', 'RandomSymmetry', 'apply_symmetry')
