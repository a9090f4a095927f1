# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data modules of torchgeo_discomkd."""

from .base import MultiModalDataModule
from .eurosatmssar import EuroSATMSSARDataModule
from .pairedarrays import PairedArraysDataModule
from .paireddatasets import PairedDatasetsDataModule
from .pairedfolders import PairedFoldersDataModule
from .sampling import RemainderBatchSampler, SeededSampler, seeded_generator
from .sartiles import SARTilesDataModule
from .simulatedmssar import SimulatedMSSARDataModule
from .simulatedmssarthermal import SimulatedMSSARThermalDataModule

__all__ = (
    'EuroSATMSSARDataModule',
    'MultiModalDataModule',
    'PairedArraysDataModule',
    'PairedDatasetsDataModule',
    'PairedFoldersDataModule',
    'RemainderBatchSampler',
    'SARTilesDataModule',
    'SeededSampler',
    'SimulatedMSSARDataModule',
    'SimulatedMSSARThermalDataModule',
    'seeded_generator',
)
