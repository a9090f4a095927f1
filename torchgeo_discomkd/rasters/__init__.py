# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images in files. TorchGeo is not imported here, so that classifying starts fast."""

from .counts import FolderCounts
from .decoding import missing_to_nan
from .finding import ImageFiles, find_images
from .opening import open_array
from .readers import Header, check_bands, read_georeference, read_header, read_image
from .scale import check_unit, convert_scale, guess_scale
from .selection import select_bands

__all__ = (
    'FolderCounts',
    'Header',
    'ImageFiles',
    'check_bands',
    'check_unit',
    'convert_scale',
    'find_images',
    'guess_scale',
    'missing_to_nan',
    'open_array',
    'read_georeference',
    'read_header',
    'read_image',
    'select_bands',
)
