# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What only makes things faster; results differ by rounding at most.

Every trick is measured in docs/performance.md, by a script in tests/speed. Nothing is
imported here: each module is used alone, some without PyTorch.
"""

__all__ = ()
