# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The canvas on which a layout is painted before the sensors look at it."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from .materials import Region, Surface, draw_surface
from .shapes import Array, Labels, Mask, noise, rotate

#: Pixel size of the canvas in metres; sensors' pixels are OVERSAMPLING times as large.
CANVAS_PIXEL = 5.0
OVERSAMPLING = 2


class Ground(NamedTuple):
    """Scene that the sensors observe: K surfaces on a canvas of n x n pixels.

    Attributes:
        cover: Number of the surface at each pixel, below K, shape (n, n).
        fraction: Position between a material's end members, shape (n, n).
        grain: Relative variation of the reflectance, shape (n, n).
        coarse: Variation of the backscatter, dB, shape (n, n).
        east: Slope that rises to the east, shape (n, n).
        south: Slope that rises to the south, shape (n, n).
        echo: Sigma0 that point targets add in VV, linear power, shape (n, n).
        reflectance: Both ends of each surface, shape (K, 2, 13).
        backscatter: Both ends of each surface, VV and VH in dB, shape (K, 2, 2).
    """

    cover: Labels
    fraction: Array
    grain: Array
    coarse: Array
    east: Array
    south: Array
    echo: Array
    reflectance: Array
    backscatter: Array


class Canvas:
    """Material map, textures and point targets of one simulated tile.

    Attributes:
        n: Height and width in pixels of 5 m.
        x: Easting of each pixel relative to the centre, metres, shape (n, n).
        y: Northing of each pixel relative to the centre, metres, shape (n, n).
        cover: Number of the surface at each pixel, shape (n, n).
        fraction: Variation added to a surface's fraction by rows and patches, shape
            (n, n).
        echo: Sigma0 that point targets add in VV, linear power, shape (n, n).
        surfaces: The surfaces painted so far.
        region: Properties shared by all surfaces.
        relief: Steepness of the terrain, 0 (flat) to about 1.
    """

    def __init__(self, size: int, rng: Generator) -> None:
        """Initialize a blank canvas.

        Args:
            size: Height and width of the tile in pixels of 10 m.
            rng: Source of randomness of everything painted.
        """
        self.rng = rng
        self.n = n = size * OVERSAMPLING
        axis = (np.arange(n) + 0.5 - n / 2) * CANVAS_PIXEL
        self.x, self.y = np.meshgrid(axis, -axis)
        self.cover = np.zeros((n, n), int)
        self.fraction = np.zeros((n, n))
        self.echo = np.zeros((n, n))
        self.surfaces: list[Surface] = []
        self.region = Region(rng.uniform(), float(np.exp(rng.normal(0, 0.35))))
        self.relief = abs(rng.normal(0, 0.12))

    def noise(self, scale: float, fractal: bool = False) -> Array:
        """Draw a smooth random field of mean 0 and standard deviation 1.

        Args:
            scale: As in :func:`~.shapes.noise`, but in metres.
            fractal: Let the amplitude fall with frequency as terrain does.
        """
        return noise(self.n, scale / CANVAS_PIXEL, self.rng, fractal)

    def axes(
        self, warp: float = 0.0, angle: float | None = None
    ) -> tuple[Array, Array]:
        """Return coordinates in a random direction.

        Args:
            warp: How far lines deviate from straight ones, metres.
            angle: Direction in radians; random by default.

        Returns:
            Coordinates along and across, metres, from a random origin.
        """
        if angle is None:
            angle = self.rng.uniform(0, np.pi)
        u, v = rotate(self.x, self.y, angle)
        if warp:
            u, v = u + warp * self.noise(120), v + warp * self.noise(120)
        return u, v

    def paint(self, mask: Mask | bool, *names: str) -> None:
        """Cover a region with one new surface of a random material.

        Args:
            mask: The region, shape (n, n); True for the whole tile.
            *names: Materials to choose from.
        """
        name = names[self.rng.integers(len(names))]
        self.cover[mask] = len(self.surfaces)
        self.surfaces.append(draw_surface(name, self.region, self.rng))

    def paint_each(self, labels: Labels, names: list[str], mask: Mask | bool) -> None:
        """Cover every labelled region with a new surface of a random material.

        Args:
            labels: Number of the region at each pixel, shape (n, n).
            names: Materials to choose from.
            mask: Where to paint, shape (n, n); True for the whole tile.
        """
        base, count = len(self.surfaces), int(labels.max()) + 1
        for choice in self.rng.integers(len(names), size=count):
            surface = draw_surface(names[choice], self.region, self.rng)
            self.surfaces.append(surface)
        self.cover[mask] = base + labels[mask]

    def ground(self) -> Ground:
        """Add textures and terrain to what was painted."""
        texture = np.stack([surface.texture for surface in self.surfaces])
        fraction, patch, grain, coarse = np.moveaxis(texture[self.cover], -1, 0)
        terrain = self.noise(500, fractal=True)
        south, east = self.relief * np.stack(np.gradient(terrain))
        speck = self.noise(5)
        return Ground(
            self.cover,
            self.fraction + fraction + patch * self.noise(200, fractal=True),
            grain * speck,
            coarse * speck,
            east,
            south,
            self.echo,
            np.stack([surface.reflectance for surface in self.surfaces]),
            np.stack([surface.backscatter for surface in self.surfaces]),
        )
