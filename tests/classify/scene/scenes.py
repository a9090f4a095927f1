# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes on disk and a classifier with a known rule, for the tests of maps."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from torchgeo_discomkd.classify.predictor import Predictor
from torchgeo_discomkd.models import ModalityMetadata
from torchgeo_discomkd.rasters.finding import ImageFiles

from ..tile_data import make_metadata

CLASSES = ('Water', 'Crop', 'City')

#: Mean of the first band, in dB, that is most typical of each class.
TYPICAL = (-20.0, -12.0, -4.0)

UTM = Affine(10, 0, 500_000, 0, -10, 4_000_000)


def probabilities(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Classify by the distance of the first band's mean from the typical ones."""
    flat = images[:, 0].reshape(len(images), -1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        mean = np.nan_to_num(np.nanmean(flat.astype(np.float64), axis=1), nan=-12)
    scores = np.exp(-np.abs(mean[:, np.newaxis] - np.array(TYPICAL)) / 3)
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def make_predictor(
    tile: tuple[int, int] | None = (8, 8),
    bands: Sequence[str] = ('VV', 'VH'),
    unit: str = 'dB',
    classes: Sequence[str] = CLASSES,
    compute: Any = probabilities,
) -> Predictor:
    """Return a classifier that follows :func:`probabilities`."""
    metadata = replace(
        make_metadata(),
        classes=tuple(classes),
        modalities={'sar': ModalityMetadata(len(bands), tuple(bands), unit, tile)},
    )
    return Predictor(metadata, 'sar', 'rule of the tests', None, 'cpu', compute)


def write_scene(
    path: Path,
    array: NDArray[Any],
    transform: Affine | None = UTM,
    crs: str | None = 'EPSG:32633',
    descriptions: Sequence[str] | None = ('VV', 'VH'),
    mask: NDArray[np.bool_] | None = None,
    **profile: Any,
) -> ImageFiles:
    """Write an array (C, H, W) as GeoTIFF."""
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            count=array.shape[0],
            height=array.shape[1],
            width=array.shape[2],
            dtype=array.dtype,
            crs=crs,
            transform=transform,
            **profile,
        ) as file:
            file.write(array)
            if descriptions is not None:
                file.descriptions = tuple(descriptions)
            if mask is not None:
                file.write_mask(mask)
    return ImageFiles((str(path),))


def uniform(value: float, *shape: int) -> NDArray[np.float32]:
    """Return backscatter that is the same everywhere, but for a trace of noise."""
    noise = np.random.default_rng(0).normal(0, 1e-3 * abs(value), shape)
    return (value + noise).astype(np.float32)


def random_scene(
    height: int, width: int, seed: int = 0, missing: float = 0.0
) -> NDArray[np.float32]:
    """Return backscatter in dB, shape (2, height, width), smooth enough to have areas.

    The part *missing* of it are NaN, in patches.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-22, -2, (height // 6 + 2, width // 6 + 2))
    base = np.kron(coarse, np.ones((6, 6)))[:height, :width]
    scene = np.stack([base, base - 7]) + rng.normal(0, 1, (2, height, width))
    patches = np.kron(rng.random((height // 4 + 1, width // 4 + 1)), np.ones((4, 4)))
    scene[:, patches[:height, :width] < missing] = np.nan
    return scene.astype(np.float32)


def read(path: Path) -> NDArray[Any]:
    """Return the only band of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        file = rasterio.open(path)
    with file:
        assert file.count == 1
        return file.read(1)
