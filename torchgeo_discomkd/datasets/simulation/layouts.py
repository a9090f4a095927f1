# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Built-up land, roads and rivers of the simulated tiles."""

from collections.abc import Callable

import numpy as np

from .canvas import CANVAS_PIXEL, Canvas
from .openland import annual_crop, forest, herbaceous, pasture, permanent_crop, sea_lake
from .shapes import Array, Labels, Mask, edges, lattice, winding

ROOFS = ['tile_roof', 'grey_roof']


def _corners(canvas: Canvas, mask: Mask, cell: Labels, level: float) -> None:
    """Add double-bounce echoes, one strength per building, where *mask* is set.

    Args:
        canvas: Canvas to paint on.
        mask: Walls that reflect.
        cell: Number of the building at each pixel.
        level: Median sigma0 of a corner, dB.
    """
    strength = canvas.rng.normal(level, 6, int(cell.max()) + 1)
    canvas.echo += mask * 10 ** (np.minimum(strength, 22) / 10)[cell]


def _park(canvas: Canvas, region: Mask | bool) -> None:
    """Paint a park into the built-up land of some tiles."""
    if canvas.rng.uniform() < 0.4:
        park = (canvas.noise(65) > canvas.rng.uniform(0.8, 2)) & region
        canvas.paint(park, 'pasture', 'broadleaf', 'herbs')
        canvas.echo[park] = 0


def residential(canvas: Canvas, region: Mask | bool = True) -> None:
    """Paint blocks of houses with gardens along streets.

    Args:
        canvas: Canvas to paint on.
        region: Where to paint; True for the whole tile.
    """
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    u, v = canvas.axes(warp=rng.uniform(0, 25), angle=angle)
    garden = lattice(u, v, rng.uniform(20, 30), rng.uniform(14, 24))
    canvas.paint_each(
        (canvas.noise(12) > rng.normal(0.5, 0.5)).astype(int),
        ['pasture', 'herbs', 'broadleaf', 'yard', 'broadleaf'],
        region,
    )
    built = rng.uniform(size=garden.count) < rng.uniform(0.5, 0.95)
    half = rng.uniform(4, 8, garden.count)[garden.cell]
    house = (abs(garden.du) < half) & (abs(garden.dv) < half) & built[garden.cell]
    house &= region
    roofs = rng.choice(ROOFS, 3)
    kinds = rng.integers(0, 3, garden.count)[garden.cell]
    for kind, name in enumerate(roofs):
        canvas.paint(house & (kinds == kind), str(name))
    aligned = 4 * np.cos(2 * angle) ** 8
    _corners(canvas, house & edges(house), garden.cell, -5.5 + aligned)
    street = lattice(u, v, rng.uniform(50, 80), rng.uniform(90, 180))
    along = abs(street.du) > street.du.max() - rng.uniform(2.5, 4.5)
    across = abs(street.dv) > street.dv.max() - rng.uniform(2.5, 4.5)
    canvas.paint((along | across) & region, 'asphalt')
    canvas.echo[(along | across) & region] = 0
    _park(canvas, region)


def industrial(canvas: Canvas, region: Mask | bool = True) -> None:
    """Paint large halls, yards and tanks.

    Args:
        canvas: Canvas to paint on.
        region: Where to paint; True for the whole tile.
    """
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    u, v = canvas.axes(angle=angle)
    canvas.paint_each(
        (canvas.noise(40) > rng.normal(0.7, 0.5)).astype(int),
        ['yard', 'yard', 'asphalt', 'herbs', 'track'],
        region,
    )
    plots = lattice(u, v, rng.uniform(60, 150), rng.uniform(50, 110))
    half_u = rng.uniform(0.15, 0.48, plots.count)[plots.cell] * np.ptp(plots.du)
    half_v = rng.uniform(0.15, 0.48, plots.count)[plots.cell] * np.ptp(plots.dv)
    built = (rng.uniform(size=plots.count) < rng.uniform(0.4, 0.95))[plots.cell]
    if rng.uniform() < 0.15:
        hall = np.hypot(plots.du, plots.dv) < np.minimum(half_u, half_v)
    else:
        hall = (abs(plots.du) < half_u) & (abs(plots.dv) < half_v)
    hall &= built & region
    kinds = rng.integers(0, 4, plots.count)[plots.cell]
    for kind in range(4):
        canvas.paint(hall & (kinds == kind), 'metal_roof', 'grey_roof')
    aligned = 5 * np.cos(2 * angle) ** 8
    _corners(canvas, hall & edges(hall), plots.cell, 7 + aligned)
    street = lattice(u, v, rng.uniform(120, 300), rng.uniform(120, 300))
    road = abs(street.du) > street.du.max() - rng.uniform(3, 7)
    canvas.paint(road & region, 'asphalt')
    _park(canvas, region)


def _suburb(canvas: Canvas) -> None:
    """Paint partly built-up open land."""
    openland = (annual_crop, pasture, forest)
    openland[canvas.rng.integers(3)](canvas)
    region = canvas.noise(110) > canvas.rng.uniform(-0.3, 0.9)
    canvas.echo[region] = 0
    (residential, industrial)[canvas.rng.integers(2)](canvas, region)


BACKGROUNDS = (
    annual_crop, annual_crop, pasture, herbaceous, permanent_crop, forest, _suburb,
    _suburb, _suburb,
)  # fmt: skip


def _countryside(canvas: Canvas) -> None:
    """Paint one of the backgrounds that roads and rivers cross."""
    BACKGROUNDS[canvas.rng.integers(len(BACKGROUNDS))](canvas)


def _line(canvas: Canvas, bend: float) -> Array:
    """Return the signed distance to a line that crosses the middle of the tile."""
    u, v = canvas.axes()
    shift = canvas.n * CANVAS_PIXEL * canvas.rng.uniform(-0.25, 0.25)
    return winding(u, v - shift, bend, canvas.rng)


def _road(canvas: Canvas, distance: Array, half: float) -> None:
    """Paint a road with verges, a median and a few echoes of rails and cars."""
    rng = canvas.rng
    verge = abs(distance) < half + rng.uniform(5, 20)
    canvas.paint(verge, 'pasture', 'herbs', 'shrub', 'broadleaf')
    road = abs(distance) < half
    canvas.paint(road, 'asphalt')
    canvas.echo[verge] = 0
    if half > 11:
        canvas.paint(abs(distance) < 2.5, 'herbs', 'asphalt')
    rail = (abs(abs(distance) - half) < 3) & (rng.uniform(size=road.shape) < 0.1)
    canvas.echo += rail * 10 ** (rng.normal(0, 3) / 10)


def highway(canvas: Canvas) -> None:
    """Paint a motorway through countryside, sometimes with a junction.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    _countryside(canvas)
    half = rng.uniform(14, 22)
    if rng.uniform() < 0.5:
        _road(canvas, _line(canvas, rng.uniform(0, 40)), rng.uniform(5, 9))
    if rng.uniform() < 0.25:
        radius = rng.uniform(40, 90)
        x, y = rng.uniform(-150, 150, 2)
        ring = np.hypot(canvas.x - x, canvas.y - y) - radius
        _road(canvas, ring, rng.uniform(4, 6))
    _road(canvas, _line(canvas, rng.uniform(0, 70)), half)


def river(canvas: Canvas) -> None:
    """Paint a river through countryside.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    _countryside(canvas)
    canvas.relief *= 0.3
    half = np.exp(rng.uniform(np.log(18), np.log(120)))
    distance = _line(canvas, rng.uniform(0, 260))
    distance = distance + rng.uniform(0, 0.15) * half * canvas.noise(60)
    if rng.uniform() < 0.8:
        bank = abs(distance) < half + rng.uniform(0, 30)
        canvas.paint(bank, 'broadleaf', 'pasture', 'shrub', 'herbs', 'track')
        canvas.echo[bank] = 0
    water = abs(distance) < half
    canvas.paint(water, 'water')
    canvas.echo[water] = 0


#: The layout of each class; the keys are EuroSAT's class names.
LAYOUTS: dict[str, Callable[[Canvas], None]] = {
    'AnnualCrop': annual_crop,
    'Forest': forest,
    'HerbaceousVegetation': herbaceous,
    'Highway': highway,
    'Industrial': industrial,
    'Pasture': pasture,
    'PermanentCrop': permanent_crop,
    'Residential': residential,
    'River': river,
    'SeaLake': sea_lake,
}
