# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Use a trained classifier on tiles and scenes of one modality."""

from .api import classify

__all__ = ('classify',)
