# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measurements of speed, run by hand: ``python -m tests.speed.<name>``."""
