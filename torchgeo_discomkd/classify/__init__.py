# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Use a trained classifier on tiles and scenes of one modality."""

from .predictor import Predictor, load_predictor
from .scene import SceneOutputs, SceneSummary, classify_scene
from .tiles import TilesSummary, classify_tiles

__all__ = (
    'Predictor',
    'SceneOutputs',
    'SceneSummary',
    'TilesSummary',
    'classify_scene',
    'classify_tiles',
    'load_predictor',
)
