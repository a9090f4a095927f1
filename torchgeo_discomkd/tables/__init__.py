# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tables of predictions with one row per tile. TorchGeo is not imported here."""

from .combination import Combination, fit_weights, pool
from .formats import TableFormat
from .prediction import Prediction
from .table import PredictionTable

__all__ = (
    'Combination',
    'Prediction',
    'PredictionTable',
    'TableFormat',
    'fit_weights',
    'pool',
)
