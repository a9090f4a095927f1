# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Several processes of one training: what they decide, sum up and refuse together."""

from .agreement import (
    first_decides,
    gathered,
    raise_everywhere,
    raising_everywhere,
    summed,
)
from .strategies import check_strategy, is_divided

__all__ = (
    'check_strategy',
    'first_decides',
    'gathered',
    'is_divided',
    'raise_everywhere',
    'raising_everywhere',
    'summed',
)
