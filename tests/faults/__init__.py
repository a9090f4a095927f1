# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Faults on purpose, run by hand: ``python -m tests.faults.<name>``."""
