# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""One file that holds all images of a data set: format, reader and writer."""
