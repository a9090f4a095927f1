# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tables of predictions, one row a tile: a room without TorchGeo."""

from .formats import TableFormat
from .prediction import Prediction
from .table import PredictionTable

__all__ = ('Prediction', 'PredictionTable', 'TableFormat')
