# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run torchgeo_discomkd with ``python -m torchgeo_discomkd``."""

from .commands import main

if __name__ == '__main__':
    main()
