# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Use a trained classifier on tiles and scenes of one modality."""

from .predictor import Predictor, load_predictor
from .ray_engine import RayEngine
from .scene import (
    SceneOutputs,
    SceneResult,
    ScenesSummary,
    SceneSummary,
    classify_scene,
    classify_scenes,
)
from .tiles import TilesSummary, classify_tiles

__all__ = (
    'Predictor',
    'RayEngine',
    'SceneOutputs',
    'SceneResult',
    'SceneSummary',
    'ScenesSummary',
    'TilesSummary',
    'classify_scene',
    'classify_scenes',
    'classify_tiles',
    'load_predictor',
)
