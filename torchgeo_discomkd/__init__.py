# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Train with several sensors, classify with one: DisCoM-KD for TorchGeo."""

__author__ = 'torchgeo_discomkd Contributors'
__version__ = '0.1.0'
