# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.
