# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Materials of the simulated tiles: one table drives both sensors.

A material is a line between two end members, e.g. from bare soil to a closed canopy.
The position of a surface on that line determines its reflectance *and* its backscatter,
so what the two sensors see is correlated without being redundant.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from .shapes import Array

#: Sentinel-2 bands in the order of EuroSAT's files: B8A comes last.
MS_BANDS = (
    'B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B09', 'B10', 'B11', 'B12',
    'B8A',
)  # fmt: skip

#: Sentinel-1 bands.
SAR_BANDS = ('VV', 'VH')

#: Surface reflectance of the end members in the order of MS_BANDS.
SPECTRA = {
    name: np.array(values, np.float32)
    for name, values in {
        'clear': (.020, .018, .014, .008, .007, .006, .006, .005, .005, .0, .003, .002, .005),
        'turbid': (.055, .085, .130, .125, .105, .046, .042, .034, .022, .0, .005, .003, .026),
        'conifer': (.008, .010, .019, .010, .036, .140, .180, .190, .200, .0, .085, .036, .205),
        'leaf': (.018, .024, .048, .024, .085, .280, .370, .375, .390, .0, .170, .070, .400),
        'lush': (.022, .030, .064, .034, .105, .310, .400, .410, .430, .0, .215, .095, .440),
        'bloom': (.030, .038, .130, .110, .190, .340, .410, .430, .450, .0, .230, .110, .460),
        'straw': (.050, .068, .098, .135, .165, .200, .225, .240, .260, .0, .330, .225, .265),
        'soil': (.040, .052, .078, .105, .125, .142, .158, .172, .190, .0, .255, .205, .190),
        'sand': (.130, .165, .215, .270, .295, .310, .325, .340, .360, .0, .430, .370, .355),
        'asphalt': (.060, .070, .078, .084, .088, .094, .098, .102, .106, .0, .120, .110, .106),
        'concrete': (.170, .200, .220, .235, .240, .245, .250, .255, .260, .0, .285, .260, .260),
        'tile': (.050, .060, .080, .140, .165, .180, .190, .205, .210, .0, .270, .240, .215),
        'metal': (.300, .360, .380, .390, .390, .390, .390, .390, .390, .0, .360, .310, .390),
    }.items()
}  # fmt: skip

#: How strongly the brightness of the ground affects an end member.
GROUND = {'soil': 1.0, 'sand': 1.0, 'straw': 0.6}


class Material(NamedTuple):
    """A line between two end members.

    Attributes:
        start: End member at fraction 0.
        end: End member at fraction 1.
        low: Lowest fraction of a surface.
        high: Highest fraction of a surface.
        brightness: Relative standard deviation of the reflectance between surfaces.
        patch: Amplitude of slow variation of the fraction inside a surface.
        grain: Amplitude of pixel-scale variation inside a surface, relative.
        vv: Backscatter sigma0 in VV at fraction 0 and 1, dB.
        vh: Backscatter sigma0 in VH at fraction 0 and 1, dB.
        spread: Standard deviation of the backscatter between surfaces, dB.
        coarse: Amplitude of pixel-scale variation of the backscatter, dB.
    """

    start: str
    end: str
    low: float
    high: float
    brightness: float
    patch: float
    grain: float
    vv: tuple[float, float]
    vh: tuple[float, float]
    spread: float
    coarse: float


MATERIALS = {
    'water': Material('clear', 'turbid', 0, .7, .08, .015, .01, (-20.5, -20.5), (-28.5, -28.5), 2.6, .2),
    'conifer': Material('conifer', 'leaf', 0, .4, .10, .15, .10, (-9.5, -8.9), (-15.4, -14.6), .7, .7),
    'broadleaf': Material('conifer', 'leaf', .5, 1, .08, .10, .08, (-9.2, -8.7), (-14.8, -14.1), .7, .7),
    'pasture': Material('straw', 'lush', .5, 1, .07, .12, .03, (-12.6, -11.8), (-20., -18.8), 1.5, .3),
    'herbs': Material('straw', 'lush', .05, .6, .12, .22, .07, (-12., -11.5), (-20., -18.4), 1.2, .6),
    'shrub': Material('straw', 'conifer', .35, .9, .12, .2, .12, (-11., -10.), (-17.8, -15.8), 1., .9),
    'cereal': Material('soil', 'lush', .3, 1, .08, .10, .02, (-11., -13.5), (-19.5, -18.8), 1.8, .3),
    'maize': Material('soil', 'leaf', .3, 1, .08, .10, .03, (-11., -9.2), (-20., -15.0), 1.5, .3),
    'rape': Material('lush', 'bloom', 0, 1, .08, .10, .02, (-10.5, -10.), (-15.8, -15.), .9, .3),
    'ploughed': Material('soil', 'sand', 0, .55, .15, .10, .03, (-9.5, -13.), (-18., -22.), 2.2, .4),
    'stubble': Material('soil', 'straw', .2, 1, .12, .12, .03, (-11.5, -12.5), (-19.5, -20.5), 1.3, .3),
    'rock': Material('straw', 'sand', .2, 1, .15, .2, .08, (-11., -12.), (-19., -20.), 1.2, .8),
    'track': Material('soil', 'sand', .3, 1, .1, .1, .03, (-12., -14.), (-20., -22.), 1., .3),
    'canopy': Material('straw', 'leaf', .6, 1, .1, .1, .08, (-10., -8.8), (-17., -15.3), .9, .6),
    'between': Material('soil', 'straw', 0, .7, .15, .12, .04, (-11.5, -12.5), (-19., -20.5), 1.3, .4),
    'asphalt': Material('asphalt', 'concrete', 0, .6, .1, .08, .03, (-15., -14.), (-23., -22.), 1.2, .4),
    'yard': Material('asphalt', 'concrete', 0, .6, .12, .2, .10, (-11.5, -10.5), (-19.5, -18.5), 1.2, 1.5),
    'tile_roof': Material('asphalt', 'tile', .4, 1, .15, .05, .08, (-8., -8.), (-15.5, -15.5), 1., 1.),
    'grey_roof': Material('asphalt', 'concrete', 0, 1, .15, .05, .08, (-9., -9.), (-16.5, -16.5), 1., 1.),
    'metal_roof': Material('concrete', 'metal', 0, .8, .2, .05, .03, (-11., -11.), (-19., -19.), 1.5, .6),
}  # fmt: skip


class Surface(NamedTuple):
    """One drawn instance of a material, such as a field or a roof.

    Attributes:
        reflectance: End members times the brightness, shape (2, 13).
        backscatter: dB at fraction 0 and 1, VV and VH, shape (2, 2).
        texture: Fraction, patch, grain and coarse amplitude, shape (4,).
    """

    reflectance: Array
    backscatter: Array
    texture: Array


class Region(NamedTuple):
    """Properties shared by all surfaces of a tile.

    Attributes:
        season: Position of the vegetation between dry (0) and lush (1).
        soil: Brightness of bare ground relative to the tables.
    """

    season: float
    soil: float


def draw_surface(name: str, region: Region, rng: Generator) -> Surface:
    """Draw one surface of a material.

    Args:
        name: Key of MATERIALS.
        region: Properties shared by all surfaces of the tile.
        rng: Source of randomness.

    Returns:
        The surface.
    """
    material = MATERIALS[name]
    stage = 0.4 * region.season + 0.6 * rng.uniform()
    fraction = material.low + (material.high - material.low) * stage
    brightness = np.exp(material.brightness * rng.standard_normal())
    ends = np.stack(
        [
            SPECTRA[end] * region.soil ** GROUND.get(end, 0)
            for end in (material.start, material.end)
        ]
    )
    offset = material.spread * rng.standard_normal()
    offsets = offset + 0.4 * material.spread * rng.standard_normal(2)
    return Surface(
        brightness * ends,
        np.array([material.vv, material.vh]).T + offsets,
        np.array([fraction, material.patch, material.grain, material.coarse]),
    )
