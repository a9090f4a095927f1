# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets with several modalities, and unlabelled tiles of a single one."""

from .base import MultiModalDataset, collate_samples
from .bigearthnet import PairedBigEarthNet
from .copernicusbench import PairedCopernicusBench
from .eurosatmssar import EuroSATMSSAR
from .incomplete import IncompletePairs
from .joined import JoinedDataset, check_unlabelled
from .pack.writer import PackReport, write_pack
from .pairedarrays import PairedArrays
from .paireddatasets import PairedDatasets
from .pairedfolders import PairedFolders
from .profile import image_profile
from .sartiles import SARTiles
from .sen12ms import PairedSEN12MS
from .simulatedmssar import SimulatedMSSAR
from .simulatedmssarthermal import SimulatedMSSARThermal
from .so2sat import PairedSo2Sat
from .sources import (
    DatasetSource,
    file_stems,
    positions,
    sample_label_rows,
    sample_labels,
)
from .statistics import (
    BandStatistics,
    band_statistics,
    cached_statistics,
    statistics_rows,
)
from .stored import StoredDataset
from .treesatai import PairedTreeSatAI

__all__ = (
    'BandStatistics',
    'DatasetSource',
    'EuroSATMSSAR',
    'IncompletePairs',
    'JoinedDataset',
    'MultiModalDataset',
    'PackReport',
    'PairedArrays',
    'PairedBigEarthNet',
    'PairedCopernicusBench',
    'PairedDatasets',
    'PairedFolders',
    'PairedSEN12MS',
    'PairedSo2Sat',
    'PairedTreeSatAI',
    'SARTiles',
    'SimulatedMSSAR',
    'SimulatedMSSARThermal',
    'StoredDataset',
    'band_statistics',
    'cached_statistics',
    'check_unlabelled',
    'collate_samples',
    'file_stems',
    'image_profile',
    'positions',
    'sample_label_rows',
    'sample_labels',
    'statistics_rows',
    'write_pack',
)
