# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Use a trained classifier on tiles and scenes of one modality."""

from .combine import CombinedPredictor, classify_combined, load_combined
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
from .sensors import SensorTile, match_tiles
from .tiles import TilesSummary, classify_tiles

__all__ = (
    'CombinedPredictor',
    'Predictor',
    'RayEngine',
    'SceneOutputs',
    'SceneResult',
    'SceneSummary',
    'ScenesSummary',
    'SensorTile',
    'TilesSummary',
    'classify_combined',
    'classify_scene',
    'classify_scenes',
    'classify_tiles',
    'load_combined',
    'load_predictor',
    'match_tiles',
)
