# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify a whole scene into a map."""

from .mapping import classify_scene
from .outputs import SceneOutputs, SceneSummary

__all__ = ('SceneOutputs', 'SceneSummary', 'classify_scene')
