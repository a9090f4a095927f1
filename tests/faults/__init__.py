# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scripts that do to the program what a long life does to it, and count what happens.

Run them as modules, for example ``python -m tests.faults.mutate --inputs 20000``.
"""
