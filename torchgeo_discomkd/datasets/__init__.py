# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets with several modalities, and tiles of one to predict."""

from .base import MultiModalDataset
from .eurosatmssar import EuroSATMSSAR
from .pairedarrays import PairedArrays
from .pairedfolders import PairedFolders
from .samples import collate_samples
from .sartiles import SARTiles
from .simulatedmssar import SimulatedMSSAR
from .statistics import (
    BandStatistics,
    band_statistics,
    cached_statistics,
    compute_statistics,
    statistics_rows,
)

__all__ = (
    'BandStatistics',
    'EuroSATMSSAR',
    'MultiModalDataset',
    'PairedArrays',
    'PairedFolders',
    'SARTiles',
    'SimulatedMSSAR',
    'band_statistics',
    'cached_statistics',
    'collate_samples',
    'compute_statistics',
    'statistics_rows',
)
