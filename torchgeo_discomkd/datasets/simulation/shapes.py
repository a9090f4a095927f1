# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Shapes of the simulated land: noise, parcels, lattices and winding lines.

All lengths are in metres. Only NumPy is used, so that a seed gives the same shapes on
every platform up to rounding.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Labels = NDArray[np.integer]


@cache
def _frequencies(n: int) -> Array:
    """Return the radial frequency of rfft2's coefficients, cycles per pixel."""
    return np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None])


def noise(n: int, scale: float, rng: Generator, fractal: bool = False) -> Array:
    """Draw a smooth random field by filtering white noise in the frequency domain.

    Args:
        n: Height and width in pixels.
        scale: Standard deviation of the Gaussian filter in pixels, or the longest
            wavelength of a fractal field.
        rng: Source of randomness.
        fractal: Let the amplitude fall with frequency as terrain does.

    Returns:
        Field of mean 0 and standard deviation 1, shape (n, n).
    """
    period = n + n // 2  # the filter is periodic, the tile must not be
    frequency = _frequencies(period)
    if fractal:
        gain = np.maximum(frequency, 1 / scale) ** -1.8
    else:
        gain = np.exp(-2 * (np.pi * scale * frequency) ** 2)
    spectrum = np.fft.rfft2(rng.standard_normal((period, period))) * gain
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(period, period))[:n, :n]
    field -= field.mean()
    return field / field.std()


def rotate(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Return coordinates along and across a direction.

    Args:
        x: First coordinate.
        y: Second coordinate.
        angle: The direction, radians from the first axis.
    """
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def strips(
    u: Array,
    v: Array,
    width: tuple[float, float],
    length: tuple[float, float],
    rng: Generator,
) -> Labels:
    """Cut the plane into strips and each strip into parcels.

    Args:
        u: Coordinate across the strips, metres.
        v: Coordinate along the strips, metres.
        width: Narrowest and widest strip, metres.
        length: Shortest and longest parcel of a strip, metres.
        rng: Source of randomness.

    Returns:
        Parcel numbers 0, 1, ..., shape of *u*.
    """
    count = int(np.ptp(u) / width[0]) + 2
    cuts = u.min() + np.cumsum(rng.uniform(*width, count))
    cuts -= rng.uniform(0, width[0])
    strip = np.searchsorted(cuts, u)
    step = rng.uniform(*length, count + 1)
    phase = rng.uniform(0, 1, count + 1)
    parcel = np.floor(v / step[strip] + phase[strip]).astype(int)
    _, labels = np.unique(strip * 1000 + parcel, return_inverse=True)
    return labels.reshape(u.shape)


def voronoi(u: Array, v: Array, count: int, rng: Generator) -> Labels:
    """Cut the plane into irregular parcels around random points.

    Args:
        u: First coordinate, metres.
        v: Second coordinate, metres.
        count: Number of points.
        rng: Source of randomness.

    Returns:
        Parcel numbers below *count*, shape of *u*.
    """
    pu = rng.uniform(u.min(), u.max(), count)
    pv = rng.uniform(v.min(), v.max(), count)
    return np.argmin((u[..., None] - pu) ** 2 + (v[..., None] - pv) ** 2, axis=-1)


def edges(labels: Labels | Mask) -> Mask:
    """Mark pixels whose right or lower neighbour has a different label.

    Args:
        labels: Label of each pixel, shape (n, n).
    """
    mask = np.zeros(labels.shape, bool)
    mask[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    mask[:-1] |= labels[1:] != labels[:-1]
    return mask


class Lattice(NamedTuple):
    """A rotated lattice of cells.

    Attributes:
        du: Offset from the centre of the cell, metres, shape (n, n).
        dv: The same for the other direction.
        cell: Number of the cell, shape (n, n).
        count: Number of cells.
    """

    du: Array
    dv: Array
    cell: Labels
    count: int


def lattice(u: Array, v: Array, pitch_u: float, pitch_v: float) -> Lattice:
    """Divide the plane into equal cells.

    Args:
        u: First coordinate, metres.
        v: Second coordinate, metres.
        pitch_u: Size of a cell along *u*, metres.
        pitch_v: Size of a cell along *v*, metres.

    Returns:
        The cells.
    """
    i, j = np.floor(u / pitch_u), np.floor(v / pitch_v)
    du, dv = u - (i + 0.5) * pitch_u, v - (j + 0.5) * pitch_v
    row, column = (i - i.min()).astype(int), (j - j.min()).astype(int)
    columns = int(column.max()) + 1
    return Lattice(du, dv, row * columns + column, (int(row.max()) + 1) * columns)


def winding(u: Array, v: Array, bend: float, rng: Generator) -> Array:
    """Return the signed distance to a winding line along *u*.

    Args:
        u: Coordinate along the line, metres.
        v: Coordinate across the line, metres.
        bend: Amplitude of the windings, metres.
        rng: Source of randomness.

    Returns:
        Distance in metres, shape of *u*.
    """
    course, slope = np.zeros_like(u), np.zeros_like(u)
    for wavelength in (1500.0, 700.0, 330.0):
        k = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.2))
        amplitude = bend * wavelength / 1500 * rng.uniform(0.2, 1)
        phase = rng.uniform(0, 2 * np.pi)
        course += amplitude * (np.sin(k * u + phase) - np.sin(phase))
        slope += amplitude * k * np.cos(k * u + phase)
    return (v - course) / np.hypot(1, slope)
