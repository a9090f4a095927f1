# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transforms of torchgeo_discomkd."""

from .symmetry import RandomSymmetry, apply_symmetry

__all__ = ('RandomSymmetry', 'apply_symmetry')
