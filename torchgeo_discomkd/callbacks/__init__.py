# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Callbacks of torchgeo_discomkd."""

from ..performance.channels_last import ChannelsLast
from .best_classifiers import BestClassifiers
from .calibration import Calibration
from .cuda_graphs import CudaGraphs
from .epoch_lines import EpochLines
from .last_checkpoint import LastCheckpoint
from .prediction_writer import PredictionWriter
from .run_folder import run_folder
from .run_manifest import RunManifest
from .run_summary import RunSummary
from .training_cost import TrainingCost

__all__ = (
    'BestClassifiers',
    'Calibration',
    'ChannelsLast',
    'CudaGraphs',
    'EpochLines',
    'LastCheckpoint',
    'PredictionWriter',
    'RunManifest',
    'RunSummary',
    'TrainingCost',
    'run_folder',
)
