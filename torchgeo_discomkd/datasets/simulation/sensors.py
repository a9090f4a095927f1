# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The two sensors that observe a simulated layout."""

from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .canvas import CANVAS_PIXEL, OVERSAMPLING, Ground
from .materials import MS_BANDS
from .shapes import Array

#: Reflectance added by a clear atmosphere, mostly Rayleigh scattering.
PATH = np.array(
    [.093, .066, .040, .024, .019, .014, .012, .010, .003, .0008, .0015, .0008, .009]
)  # fmt: skip

#: Transmittance of the atmosphere; B09 is in a water vapour band, B10 in a cirrus one.
TRANSMITTANCE = np.array(
    [.70, .78, .82, .88, .90, .92, .94, .92, .27, .0, .94, .90, .96]
)  # fmt: skip

#: Ground resolution of each band in units of 10 m.
RESOLUTION = np.array([6, 1, 1, 1, 2, 2, 2, 1, 6, 6, 2, 2, 2])

#: Standard deviation of the point spread for each resolution, pixels of the canvas.
POINT_SPREAD = {1: 1.1, 2: 2.0, 6: 6.0}

#: Share of the light that the air scatters in from the surroundings.
ADJACENCY = 0.08

#: Positions of the bands that see water vapour (B09) and thin cirrus (B10).
VAPOUR, CIRRUS = MS_BANDS.index('B09'), MS_BANDS.index('B10')

#: Nominal equivalent number of looks of Sentinel-1 IW GRD products.
LOOKS = 4.4

#: Noise-equivalent sigma0 of VV and VH, linear power.
NOISE_FLOOR = 10 ** (np.array([-27, -32], np.float32) / 10)

#: Weights of five single looks whose sum has an equivalent number of looks of 4.4:
#: (4 + w)^2 / (4 + w^2) = 4.4.
_LOOK_WEIGHTS = np.array([1, 1, 1, 1, (8 - np.sqrt(42.24)) / 6.8])


@cache
def _point_spread(n: int, step: int, sigma: float) -> Array:
    """Return the matrix that blurs one axis and keeps every *step*-th position.

    Args:
        n: Number of pixels of the input.
        step: Ratio of the pixel sizes of output and input.
        sigma: Standard deviation of the Gaussian point spread, input pixels.

    Returns:
        float32 matrix with rows that sum to 1, shape (n / step, n).
    """
    centres = (np.arange(n // step) + 0.5) * step - 0.5
    matrix = np.exp(-0.5 * ((np.arange(n) - centres[:, None]) / sigma) ** 2)
    matrix[matrix < 1e-7] = 0  # subnormal numbers are slow
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def blur(image: Array, step: int, sigma: float) -> Array:
    """Blur and decimate the last two axes of an image.

    Args:
        image: Shape (..., n, n).
        step: Ratio of the pixel sizes of output and input.
        sigma: Standard deviation of the Gaussian point spread, input pixels.

    Returns:
        Shape (..., n / step, n / step).
    """
    matrix = _point_spread(image.shape[-1], step, sigma)
    return matrix @ image @ matrix.T


def _atmosphere(rng: Generator) -> tuple[Array, Array]:
    """Draw path reflectance and transmittance, shape (13,) each, of one tile."""
    haze = rng.gamma(6, 1 / 6)
    path = PATH * (0.85 + 0.25 * haze) + 0.006 * max(haze - 1, 0)
    path[CIRRUS] = PATH[CIRRUS] * rng.gamma(3, 1 / 3) + 0.0004
    transmittance = TRANSMITTANCE * (1 - 0.03 * haze)
    transmittance[VAPOUR] *= rng.uniform(0.7, 1.4)
    return path, transmittance


def ms_image(ground: Ground, rng: Generator) -> NDArray[np.uint16]:
    """Simulate Sentinel-2's image of a layout.

    Args:
        ground: Surfaces, textures and terrain.
        rng: Source of randomness.

    Returns:
        Top-of-atmosphere reflectance times 10 000, uint16, shape (13, size, size).
    """
    start, end = np.moveaxis(ground.reflectance.astype(np.float32), 0, -1)
    fraction = ground.fraction.astype(np.float32)
    shade = np.clip(1 + ground.south - ground.east, 0.4, 1.6)
    light = rng.uniform(0.85, 1.12) * (1 + ground.grain) * shade
    surface = start[:, ground.cover] + fraction * (end - start)[:, ground.cover]
    surface = np.maximum(surface, 0) * light.astype(np.float32)
    size = len(fraction) // OVERSAMPLING
    image = np.empty((len(PATH), size, size), np.float32)
    for resolution, sigma in POINT_SPREAD.items():
        bands = resolution == RESOLUTION
        image[bands] = blur(surface[bands], OVERSAMPLING, sigma)
    image = (1 - ADJACENCY) * image + ADJACENCY * blur(image, 1, 7)
    path, transmittance = (x[:, None, None] for x in _atmosphere(rng))
    image = path + transmittance * image
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= (0.0006 + 0.004 * image) * (RESOLUTION < 6)[:, None, None] + 0.00004
    return np.clip(np.rint(1e4 * (image + noise)), 1, 65535).astype(np.uint16)


def speckle(size: int, rng: Generator, correlation: float = 0.7) -> Array:
    """Draw fully developed speckle of 4.4 looks.

    The sum of five squared moduli of circular Gaussian fields, weighted so that the
    equivalent number of looks is that of Sentinel-1 GRD products; each field is
    correlated in space, because pixels are smaller than the resolution.

    Args:
        size: Height and width in pixels.
        rng: Source of randomness.
        correlation: Standard deviation of the point spread in pixels; 0 for none.

    Returns:
        Multiplicative noise of mean 1, shape (size, size).
    """
    field = rng.standard_normal((10, size, size), np.float32)
    if correlation:
        matrix = _point_spread(size, 1, correlation)
        matrix = matrix / np.sqrt((matrix**2).sum(1, keepdims=True))
        field = matrix @ field @ matrix.T
    weights = np.repeat(_LOOK_WEIGHTS, 2)[:, None, None] / (2 * _LOOK_WEIGHTS.sum())
    return (weights * field**2).sum(0)


def sar_image(ground: Ground, rng: Generator) -> NDArray[np.float32]:
    """Simulate Sentinel-1's image of a layout.

    Args:
        ground: Surfaces, textures, terrain and point targets.
        rng: Source of randomness.

    Returns:
        Sigma0 in VV and VH, dB, float32, shape (2, size, size).
    """
    start, end = np.moveaxis(ground.backscatter, 0, -1)
    level = start[:, ground.cover] + ground.fraction * (end - start)[:, ground.cover]
    level += ground.coarse + np.clip(10 * ground.east, -6, 6)
    level += rng.normal(0, 1.6) + rng.normal(0, 0.4, (2, 1, 1))
    depolarised = 10 ** (rng.normal(-8.5, 1) / 10)
    power = 10 ** (level / 10) + ground.echo * [[[1]], [[depolarised]]]
    power = blur(power.astype(np.float32), OVERSAMPLING, 7 / CANVAS_PIXEL)
    power = power + NOISE_FLOOR[:, None, None]
    size = power.shape[-1]
    power *= np.stack([speckle(size, rng), speckle(size, rng)])
    return (10 * np.log10(power)).astype(np.float32)
