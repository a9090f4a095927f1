# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Callbacks of torchgeo_discomkd."""

from .best_classifiers import BestClassifiers
from .last_checkpoint import LastCheckpoint
from .manifest import RunManifest
from .prediction_writer import PredictionWriter
from .run_folder import run_folder
from .summary import RunSummary

__all__ = (
    'BestClassifiers',
    'LastCheckpoint',
    'PredictionWriter',
    'RunManifest',
    'RunSummary',
    'run_folder',
)
