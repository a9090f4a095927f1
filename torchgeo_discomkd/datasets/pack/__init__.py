# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Pack a data set into one file that is read fast."""

from .packer import PackReport, pack

__all__ = ('PackReport', 'pack')
