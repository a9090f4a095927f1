# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulation of paired Sentinel-2 and Sentinel-1 land-cover tiles."""

from .writer import simulate, simulate_scene, simulate_tile

__all__ = ('simulate', 'simulate_scene', 'simulate_tile')
