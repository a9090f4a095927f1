# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify whole scenes into maps."""

from .many import classify_scenes
from .mapping import classify_scene
from .outputs import SceneOutputs, SceneSummary
from .results import SceneResult, ScenesSummary

__all__ = (
    'SceneOutputs',
    'SceneResult',
    'SceneSummary',
    'ScenesSummary',
    'classify_scene',
    'classify_scenes',
)
