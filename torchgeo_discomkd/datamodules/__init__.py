# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data modules of torchgeo_discomkd."""

from .base import MultiModalDataModule
from .bigearthnet import PairedBigEarthNetDataModule
from .copernicusbench import PairedCopernicusBenchDataModule
from .eurosatmssar import EuroSATMSSARDataModule
from .pairedarrays import PairedArraysDataModule
from .paireddatasets import PairedDatasetsDataModule
from .pairedfolders import PairedFoldersDataModule
from .sampling import RemainderBatchSampler, SeededSampler, seeded_generator
from .sartiles import SARTilesDataModule
from .sen12ms import PairedSEN12MSDataModule
from .simulatedmssar import SimulatedMSSARDataModule
from .simulatedmssarthermal import SimulatedMSSARThermalDataModule
from .so2sat import PairedSo2SatDataModule
from .treesatai import PairedTreeSatAIDataModule

__all__ = (
    'EuroSATMSSARDataModule',
    'MultiModalDataModule',
    'PairedArraysDataModule',
    'PairedBigEarthNetDataModule',
    'PairedCopernicusBenchDataModule',
    'PairedDatasetsDataModule',
    'PairedFoldersDataModule',
    'PairedSEN12MSDataModule',
    'PairedSo2SatDataModule',
    'PairedTreeSatAIDataModule',
    'RemainderBatchSampler',
    'SARTilesDataModule',
    'SeededSampler',
    'SimulatedMSSARDataModule',
    'SimulatedMSSARThermalDataModule',
    'seeded_generator',
)
