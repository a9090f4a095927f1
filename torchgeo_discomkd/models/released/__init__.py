# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Import of checkpoints that the released code of DisCoM-KD wrote.

They are pickles. Only the ``import`` command and the functions here read one, without
running what it may hold; training and classifying never do.
"""

from .checkpoint import load_released_checkpoint
from .convert import import_released_checkpoint

__all__ = ('import_released_checkpoint', 'load_released_checkpoint')
