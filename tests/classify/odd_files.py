# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""One image in dB, written in the ways in which such files circulate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from .scene.scenes import UTM, write_scene

Image = NDArray[np.float32]


def make_image(size: int) -> Image:
    """Return VV and VH in dB, which change slowly from west to east."""
    rng = np.random.default_rng(0)
    trend = np.linspace(-1.5, 1.5, size)
    mean = np.array([-11.0, -18.0])[:, None, None] + trend
    return rng.normal(mean, 3, (2, size, size)).astype(np.float32)


def is_hole(image: Image) -> NDArray[np.bool_]:
    """Return the pixels that are missing in files with missing pixels: the north."""
    rows, columns = image.shape[1:]
    return np.repeat(np.arange(rows)[:, None] < rows // 3, columns, axis=1)


def filled(image: Image, value: float) -> Image:
    """Return an image with a value in the hole."""
    return np.where(is_hole(image), np.float32(value), image)


def multiple(image: Image, factor: int) -> NDArray[np.int16]:
    return np.rint(factor * image).astype(np.int16)


def _write_scaled(path: Path, image: Image) -> None:
    write_scene(path, multiple(image, 100))
    with rasterio.open(path, 'r+') as file:
        file.scales, file.offsets = (0.01, 0.01), (0.0, 0.0)


def _write_alpha(path: Path, image: Image) -> None:
    opacity = np.where(is_hole(image), np.float32(0), np.float32(255))
    shape = {'count': 3, 'height': image.shape[1], 'width': image.shape[2]}
    place = {'crs': 'EPSG:32633', 'transform': UTM, 'dtype': 'float32'}
    with rasterio.open(path, 'w', 'GTiff', **shape, **place) as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
        file.write(np.concatenate([image, opacity[None]]))


def _write_sidecar(path: Path, image: Image) -> None:
    write_scene(path, filled(image, 7), descriptions=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, 'r+') as file:
        file.write_mask(~is_hole(image))


def _write_grey(path: Path, image: Image) -> None:
    grey = np.clip(6 * (image + 30), 0, 255).astype(np.uint8)
    write_scene(path, grey, descriptions=None)


def _named(*names: str) -> Callable[[Path, Image], None]:
    def write(path: Path, image: Image) -> None:
        write_scene(path, image, descriptions=names)

    return write


def _changed(
    change: Callable[[Image], NDArray[Any]], **profile: Any
) -> Callable[[Path, Image], None]:
    def write(path: Path, image: Image) -> None:
        write_scene(path, change(image), **profile)

    return write


def _write_third(path: Path, image: Image) -> None:
    layers = np.stack([image[0] - image[1], image[1], image[0]])
    write_scene(path, layers, descriptions=['', 'VH', 'VV'])


def _write_fine(path: Path, image: Image) -> None:
    fine = np.repeat(np.repeat(image, 2, axis=1), 2, axis=2)
    write_scene(path, fine, transform=UTM @ UTM.scale(0.5))


@dataclass(frozen=True)
class Odd:
    """One way to write an image.

    Attributes:
        write: Writes it.
        holes: Whether pixels are missing in it.
        problem: Pattern of the error or warning; None if it is understood as it is.
        refused: Whether the problem is an error, or else a warning.
        options: What makes it the plain image.
        tolerance: Largest difference of probabilities, because of rounding.
    """

    write: Callable[[Path, Image], None]
    holes: bool = False
    problem: str | None = None
    refused: bool = False
    options: Sequence[str] = ()
    tolerance: float = 1e-4


#: All ways. Rounding to hundredths or tenths of dB changes probabilities a little.
ODD = {
    'plain': Odd(_named('VV', 'VH')),
    'power': Odd(_changed(lambda db: 10 ** (db / np.float32(10))), tolerance=1e-3),
    'scaled': Odd(_write_scaled, tolerance=2e-3),
    'swapped and named': Odd(_changed(lambda db: db[::-1], descriptions=('VH', 'VV'))),
    'names of SNAP': Odd(
        _changed(lambda db: db[::-1], descriptions=('Sigma0_VH_db', 'Sigma0_VV_db'))
    ),
    'third band without name': Odd(_write_third),
    'declared nodata': Odd(
        _changed(lambda db: filled(db, -9999), nodata=-9999), holes=True
    ),
    'alpha band': Odd(_write_alpha, holes=True),
    'mask next to it': Odd(_write_sidecar, holes=True),
    'x 100': Odd(
        _changed(lambda db: multiple(db, 100)),
        problem='dB times 100, .* add --scale db_x100',
        refused=True,
        options=['--scale', 'db_x100'],
        tolerance=2e-3,
    ),
    'x 10': Odd(
        _changed(lambda db: multiple(db, 10)),
        problem='dB times 10, .* add --scale db_x10',
        refused=True,
        options=['--scale', 'db_x10'],
        tolerance=2e-2,
    ),
    'filled with -9999': Odd(
        _changed(lambda db: filled(db, -9999)),
        holes=True,
        problem='[0-9]+ % are -9999, .* add --nodata=-9999',
        refused=True,
        options=['--nodata=-9999'],
    ),
    'HH and HV': Odd(
        _named('HH', 'HV'),
        problem=r'2 bands \(HH, HV\), .* add --bands 1,2',
        refused=True,
        options=['--bands', '1,2'],
    ),
    'optical names': Odd(
        _named('B4', 'B8'),
        problem=r'2 bands \(B4, B8\), .* add --bands 1,2',
        refused=True,
        options=['--bands', '1,2'],
    ),
    'VV twice': Odd(
        _named('VV', 'VV'),
        problem="1 and 2 could be 'VV'.*with --bands",
        refused=True,
        options=['--bands', '1,2'],
    ),
    'one name': Odd(
        _named('VV', ''),
        problem=r'2 bands \(VV, unnamed\), .* add --bands 1,2',
        refused=True,
        options=['--bands', '1,2'],
    ),
    'grey': Odd(_write_grey, problem='neither in dB nor linear power', refused=True),
    'filled with 0': Odd(
        _changed(lambda db: filled(db, 0)),
        holes=True,
        problem='[0-9]+ % of VV have the same value, 0 .* add --nodata=0',
        options=['--nodata=0'],
    ),
    'amplitude': Odd(
        _changed(lambda db: 10 ** (db / np.float32(20))),
        problem=r'VH mean -[89]\..*, in training -21 to -15',
        options=['--scale', 'amplitude'],
        tolerance=1e-3,
    ),
    'pixels of 5 m': Odd(
        _write_fine, problem='pixels of 5 m, in training 10 m', options=['--resample']
    ),
}
