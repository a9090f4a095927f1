# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Import of checkpoints that the released code of DisCoM-KD wrote.

They are pickles. Only the ``import`` command and the functions here read one, without
running any code in it; training and classifying never read one.
"""

from .checkpoint import load_released_checkpoint
from .convert import import_released_checkpoint

__all__ = ('import_released_checkpoint', 'load_released_checkpoint')
