# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write a simulated Sentinel-1 scene with known land cover."""

from pathlib import Path

import numpy as np
from affine import Affine
from numpy.random import SeedSequence, default_rng
from rasterio import CRS

from .layouts import LAYOUTS
from .materials import SAR_BANDS
from .writer import simulate_tile, write_image

#: Blocks of one land cover each, in rows and columns of the scene.
BLOCKS = (6, 6)


def simulate_scene(root: Path, size: int = 64, seed: int = 0) -> None:
    """Write a scene to try a SAR classifier on: a patchwork of all classes.

    Files are ``scene/sar.tif`` (VV and VH in dB, float32) and ``scene/classes.tif``
    (uint8, 1 for the first class in alphabetical order and so on). Every block has
    2 x *size* pixels in height and width and shows one class. None of it is in the
    tiles of the same seed.

    Args:
        root: Folder to write to; it is made if need be.
        size: Height and width of a tile in pixels of 10 m.
        seed: Seed of the data set.
    """
    rows, columns = BLOCKS
    names = list(LAYOUTS)
    order = default_rng(SeedSequence([seed, len(names)])).permutation(rows * columns)
    classes = (order % len(names)).reshape(rows, columns)
    edge = 2 * size
    scene = np.empty((2, rows * edge, columns * edge), np.float32)
    for (row, column), label in np.ndenumerate(classes):
        rng = default_rng(SeedSequence([seed, len(names), row, column]))
        _, sar = simulate_tile(names[label], rng, edge)
        y, x = row * edge, column * edge
        scene[:, y : y + edge, x : x + edge] = sar
    truth = np.kron(classes + 1, np.ones((edge, edge))).astype(np.uint8)[np.newaxis]
    crs, transform = CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_400_000)
    folder = root / 'scene'
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / 'sar.tif', scene, SAR_BANDS, crs, transform)
    write_image(folder / 'classes.tif', truth, ('class',), crs, transform)
