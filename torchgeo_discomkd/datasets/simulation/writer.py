# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write simulated tiles in the layout of EuroSAT and EuroSAT-SAR, and a scene."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from rasterio import CRS

from ...errors import LabelError, TileSizeError
from .canvas import Canvas, Ground
from .layouts import LAYOUTS
from .materials import MS_BANDS, SAR_BANDS
from .sensors import ms_image, sar_image
from .thermal import THERMAL_BANDS, thermal_image

#: Blocks of one land cover each, in rows and columns of the scene.
BLOCKS = (6, 6)


def simulate_tile(
    name: str, rng: Generator, size: int = 64
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Draw one pair of simulated tiles from one land-cover layout.

    Args:
        name: One of EuroSAT's ten class names.
        rng: Source of randomness.
        size: Height and width in pixels of 10 m.

    Returns:
        The Sentinel-2 tile, top-of-atmosphere reflectance times 10 000 in EuroSAT's
        band order, uint16, shape (13, size, size); and the Sentinel-1 tile, sigma0 of
        VV and VH in dB, float32, shape (2, size, size).

    Raises:
        LabelError: If the class is unknown.
        TileSizeError: If the tile is smaller than 8 pixels.

    Example:
        >>> import numpy as np
        >>> ms, sar = simulate_tile('Forest', np.random.default_rng(0), size=8)
        >>> ms.shape, ms.dtype, sar.shape, sar.dtype
        ((13, 8, 8), dtype('uint16'), (2, 8, 8), dtype('float32'))
    """
    ground = _ground(name, rng, size)
    return ms_image(ground, rng), sar_image(ground, rng)


def _ground(name: str, rng: Generator, size: int) -> Ground:
    """Draw the scene that the sensors observe."""
    if size < 8:
        raise TileSizeError(f'size={size}: simulated tiles need at least 8 pixels.')
    if name not in LAYOUTS:
        raise LabelError(
            f'{name!r} is not a class of the simulation: use one of {list(LAYOUTS)}.'
        )
    canvas = Canvas(size, rng)
    LAYOUTS[name](canvas)
    return canvas.ground()


def simulate(
    root: Path,
    tiles_per_class: int = 150,
    size: int = 64,
    seed: int = 0,
    thermal: bool = False,
) -> None:
    """Write a simulated data set of paired Sentinel-2 and Sentinel-1 tiles.

    Files are ``EuroSAT_MS/<Class>/<Class>_<n>.tif`` and
    ``EuroSAT-SAR/<Class>/<Class>_<n>.tif`` for n = 1 to *tiles_per_class*. The pixels
    of a tile depend only on the seed, its class and n.

    Args:
        root: Folder to write to; created if it does not exist.
        tiles_per_class: Number of pairs of each class.
        size: Height and width in pixels of 10 m.
        seed: Seed of the data set.
        thermal: Whether a thermal sensor observes the same tiles, too; its files are
            ``Thermal/<Class>/<Class>_<n>.tif``, and all others stay as they are.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate(Path(root), tiles_per_class=1, size=8)
        ...     tiles = sorted(Path(root, 'EuroSAT-SAR').glob('*/*.tif'))
        >>> len(tiles), tiles[1].name
        (10, 'Forest_1.tif')
    """
    for label, name in enumerate(LAYOUTS):
        folders = [root / 'EuroSAT_MS' / name, root / 'EuroSAT-SAR' / name]
        bands = [MS_BANDS, SAR_BANDS]
        if thermal:
            folders.append(root / 'Thermal' / name)
            bands.append(THERMAL_BANDS)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for n in range(1, tiles_per_class + 1):
            rng = default_rng(SeedSequence([seed, label, n]))
            crs, transform = _place(rng)
            ground = _ground(name, rng, size)
            # the thermal sensor comes last, so that it changes no other image
            images = [ms_image(ground, rng), sar_image(ground, rng)]
            if thermal:
                images.append(thermal_image(ground, rng))
            for folder, image, names in zip(folders, images, bands, strict=True):
                write_image(folder / f'{name}_{n}.tif', image, names, crs, transform)


def simulate_scene(root: Path, size: int = 64, seed: int = 0) -> None:
    """Write a scene to try a SAR classifier on: a patchwork of all classes.

    Files are ``scene/sar.tif`` (VV and VH in dB, float32) and ``scene/classes.tif``
    (uint8, 1 for the first class in alphabetical order and so on). Every block is
    2 x *size* pixels high and wide and shows one class. The scene shares no pixels with
    the tiles of the same seed.

    Args:
        root: Folder to write to; created if it does not exist.
        size: Height and width of a tile in pixels of 10 m.
        seed: Seed of the data set.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.rasters import read_image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate_scene(Path(root), size=8)
        ...     scene = read_image(Path(root, 'scene', 'sar.tif'))
        >>> scene.shape
        (2, 96, 96)
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


def _place(rng: Generator) -> tuple[CRS, Affine]:
    """Draw a place in Europe between 7 W and 24 E, 38 N and 56 N."""
    zone = int(rng.integers(30, 35))
    east = 10 * int(rng.integers(30_000, 69_000))
    north = 10 * int(rng.integers(421_000, 620_000))
    return CRS.from_epsg(32600 + zone), Affine(10, 0, east, 0, -10, north)


def write_image(
    path: Path, image: NDArray, bands: tuple[str, ...], crs: CRS, transform: Affine
) -> None:
    """Write one image as a GeoTIFF.

    Args:
        path: The file.
        image: Shape (C, H, W).
        bands: C names.
        crs: Coordinate reference system.
        transform: From pixel (column, row) to its coordinates.
    """
    count, height, width = image.shape
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        count=count,
        height=height,
        width=width,
        dtype=image.dtype,
        crs=crs,
        transform=transform,
    ) as file:
        file.write(image)
        file.descriptions = bands
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION='simulated by torchgeo_discomkd')
