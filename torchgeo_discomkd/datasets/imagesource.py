# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a pack is made of: all images of a data set, whatever the split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS


@dataclass(frozen=True)
class ImageSource:
    """All images of one modality."""

    #: Folder below each base (folders), or prefix of the file (arrays).
    folder: str

    #: Path or another unique name of each image, N of them.
    paths: Sequence[str]

    #: Names of the bands that the files themselves give, in order.
    descriptions: tuple[str, ...] | None

    #: Number of bands, height and width.
    shape: tuple[int, int, int]

    #: Type of the values in the source.
    dtype: np.dtype[Any]

    #: Unit of the values that the user gave.
    unit: str | None

    #: From a row, 0 to N - 1, to raw values (C, H, W), float32, missing pixels NaN.
    read: Callable[[int], NDArray[np.float32]]

    #: From a row to where the image lies on the Earth; None if it does not tell.
    locate: Callable[[int], tuple[CRS, Affine] | None]


@dataclass(frozen=True)
class DataSource:
    """All images of a data set and what splits and labels are read from."""

    #: Folder of the data.
    root: Path

    #: Kind of source.
    layout: Literal['folders', 'arrays']

    #: Folders of the splits, or one empty text.
    bases: tuple[str, ...]

    #: The images of each modality.
    images: dict[str, ImageSource]

    #: Content of the small files beside the images.
    tables: dict[str, bytes]

    #: Hash of the files.
    fingerprint: str
