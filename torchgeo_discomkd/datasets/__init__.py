# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets with several modalities."""

from .base import MultiModalDataset
from .eurosatmssar import EuroSATMSSAR
from .pairedarrays import PairedArrays
from .pairedfolders import PairedFolders
from .simulatedmssar import SimulatedMSSAR
from .statistics import BandStatistics, cached_statistics, compute_statistics

__all__ = (
    'BandStatistics',
    'EuroSATMSSAR',
    'MultiModalDataset',
    'PairedArrays',
    'PairedFolders',
    'SimulatedMSSAR',
    'cached_statistics',
    'compute_statistics',
)
