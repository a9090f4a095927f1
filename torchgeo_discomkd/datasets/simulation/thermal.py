# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A third sensor that observes a simulated layout: the temperature of its surfaces."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .canvas import CANVAS_PIXEL, OVERSAMPLING, Ground
from .materials import MS_BANDS
from .sensors import blur

#: Band of the thermal sensor.
THERMAL_BANDS = ('LST',)

#: Ground resolution of the sensor in metres, as that of ECOSTRESS.
RESOLUTION = 70.0

#: Noise of the sensor in kelvin.
NOISE = 0.3

_GREEN, _RED, _NIR = (MS_BANDS.index(band) for band in ('B03', 'B04', 'B08'))


def thermal_image(ground: Ground, rng: Generator) -> NDArray[np.float32]:
    """Simulate a thermal sensor's image of a layout around noon.

    A surface is warmer than the air by what it absorbs, the less the more its plants
    evaporate; open water stays at its own temperature. Each surface, field or roof has
    an offset of its own, the air differs between tiles, and slopes towards the sun are
    warmer. Details below 70 m are lost.

    Args:
        ground: Surfaces, textures and terrain.
        rng: Source of randomness.

    Returns:
        Surface temperature in kelvin, float32, shape (1, size, size).
    """
    start, end = ground.reflectance[:, 0], ground.reflectance[:, 1]
    fraction = ground.fraction[..., np.newaxis]
    bands = [_GREEN, _RED, _NIR]
    spectrum = start[ground.cover][..., bands]
    spectrum += fraction * (end[ground.cover][..., bands] - spectrum)
    green, red, near = np.moveaxis(np.maximum(spectrum, 1e-4), -1, 0)
    plants = np.clip((near - red) / (near + red), 0, 1)
    absorbed = 1 - (red + near) / 2
    excess = 24 * absorbed - 20 * plants + 15 * (ground.south - ground.east)
    excess += rng.normal(0, 1.2, len(start))[ground.cover]
    air = rng.normal(293, 5)
    water = green > near
    kelvin = air + np.where(water, rng.normal(-2, 1.5), excess)
    image = blur(kelvin.astype(np.float32), OVERSAMPLING, RESOLUTION / 2 / CANVAS_PIXEL)
    image = image[np.newaxis]
    return image + NOISE * rng.standard_normal(image.shape, np.float32)
