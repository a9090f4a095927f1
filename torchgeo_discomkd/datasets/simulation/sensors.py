# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The two sensors that look at a simulated layout."""

from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .canvas import CANVAS_PIXEL, OVERSAMPLING, Canvas

Array = NDArray[np.floating]

#: Reflectance added by a clear atmosphere, mostly Rayleigh scattering.
PATH = np.array(
    [.093, .066, .040, .024, .019, .014, .012, .010, .003, .0008, .0015, .0008, .009]
)  # fmt: skip

#: Transmittance of the atmosphere; B09 lies in a water vapour band, B10 in a cirrus one.
TRANSMITTANCE = np.array(
    [.70, .78, .82, .88, .90, .92, .94, .92, .27, .0, .94, .90, .96]
)  # fmt: skip

#: Ground resolution of each band in units of 10 m.
RESOLUTION = np.array([6, 1, 1, 1, 2, 2, 2, 1, 6, 6, 2, 2, 2])

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
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def _blur(image: Array, step: int, sigma: float) -> Array:
    """Blur and decimate the last two axes of an image."""
    matrix = _point_spread(image.shape[-1], step, sigma)
    return matrix @ image @ matrix.T


def ms_image(
    canvas: Canvas, shade: Array, grain: Array, rng: Generator
) -> NDArray[np.uint16]:
    """Look at a layout as Sentinel-2 does (simulated).

    Args:
        canvas: The painted layout.
        shade: Slope towards the sun, shape (n, n).
        grain: Pixel-scale texture, shape (n, n).
        rng: Source of randomness.

    Returns:
        Top-of-atmosphere reflectance times 10 000, uint16, shape (13, size, size).
    """
    ends = np.stack([s.reflectance for s in canvas.surfaces]).astype(np.float32)
    texture = np.stack([s.texture for s in canvas.surfaces])
    cover = canvas.cover
    light = (1 + grain * texture[cover, 2]) * np.clip(1 + shade, 0.4, 1.6)
    start, change = ends[:, 0].T, (ends[:, 1] - ends[:, 0]).T
    ground = start[:, cover] + canvas.fraction.astype(np.float32) * change[:, cover]
    ground = np.maximum(ground, 0) * light.astype(np.float32)
    sun = rng.uniform(0.85, 1.12)
    haze = rng.gamma(6, 1 / 6)
    vapour = rng.uniform(0.7, 1.4)
    path = PATH * (0.85 + 0.25 * haze) + 0.006 * max(haze - 1, 0)
    path[9] = PATH[9] * rng.gamma(8, 1 / 8) + 0.0004
    transmittance = TRANSMITTANCE * (1 - 0.03 * haze)
    transmittance[8] *= vapour
    size = canvas.n // OVERSAMPLING
    image = np.empty((len(PATH), size, size), np.float32)
    for resolution, sigma in ((1, 1.1), (2, 2.0), (6, 6.0)):
        bands = resolution == RESOLUTION
        image[bands] = _blur(ground[bands], OVERSAMPLING, sigma)
    image = 0.92 * image + 0.08 * _blur(image, 1, 7)
    toa = path[:, None, None] + sun * transmittance[:, None, None] * image
    noise = rng.standard_normal(toa.shape, np.float32)
    noise *= (0.0006 + 0.004 * toa) * (RESOLUTION < 6)[:, None, None] + 0.00004
    return np.clip(np.rint(1e4 * (toa + noise)), 1, 65535).astype(np.uint16)


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


def sar_image(
    canvas: Canvas, slope: Array, grain: Array, rng: Generator
) -> NDArray[np.float32]:
    """Look at a layout as Sentinel-1 does (simulated).

    Args:
        canvas: The painted layout.
        slope: Slope towards the radar, shape (n, n).
        grain: Pixel-scale texture, shape (n, n).
        rng: Source of randomness.

    Returns:
        Sigma0 in VV and VH, dB, float32, shape (2, size, size).
    """
    table = np.stack([s.backscatter for s in canvas.surfaces])
    texture = np.stack([s.texture for s in canvas.surfaces])
    cover = canvas.cover
    start, change = table[:, 0].T, (table[:, 1] - table[:, 0]).T
    level = start[:, cover] + canvas.fraction * change[:, cover]
    level = level + grain * texture[cover, 3]
    level += (
        np.clip(10 * slope, -6, 6) + rng.normal(0, 1.2) + rng.normal(0, 0.4, (2, 1, 1))
    )
    power = 10 ** (level / 10)
    power[0] += canvas.echo
    power[1] += canvas.echo * 10 ** (rng.normal(-8.5, 1) / 10)
    power = _blur(power.astype(np.float32), OVERSAMPLING, 7 / CANVAS_PIXEL)
    power = power + NOISE_FLOOR[:, None, None]
    size = power.shape[-1]
    power *= np.stack([speckle(size, rng), speckle(size, rng)])
    return (10 * np.log10(power)).astype(np.float32)
