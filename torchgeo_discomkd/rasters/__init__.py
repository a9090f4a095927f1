# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images in files: a room without TorchGeo, so that classifying starts fast."""

from .readers import (
    Header,
    missing_to_nan,
    open_array,
    read_georeference,
    read_header,
    read_image,
)
from .units import check_unit

__all__ = (
    'Header',
    'check_unit',
    'missing_to_nan',
    'open_array',
    'read_georeference',
    'read_header',
    'read_image',
)
