# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Open land of the simulated tiles: fields, meadows, orchards, woods and water."""

import numpy as np

from .canvas import CANVAS_PIXEL, Canvas
from .shapes import Labels, Mask, edges, lattice, strips, voronoi, winding

GREEN_CROPS = ['cereal', 'maize', 'rape', 'cereal']
BARE_FIELDS = ['ploughed', 'stubble', 'ploughed']


def _hedges(canvas: Canvas, labels: Labels, share: float, *names: str) -> None:
    """Paint the boundaries of parcels where a slow field lies above a quantile."""
    line = edges(labels)
    line[:, 1:] |= line[:, :-1] & (canvas.rng.uniform() < 0.5)
    field = canvas.noise(80)
    canvas.paint(line & (field > np.quantile(field, 1 - share)), *names)


def _tramlines(canvas: Canvas, labels: Labels, amplitude: float) -> None:
    """Add the tracks of machines, in a separate direction for each parcel."""
    rng, count = canvas.rng, int(labels.max()) + 1
    angle = rng.choice([0, np.pi / 2], count)[labels] + rng.normal(0, 0.1)
    pitch = rng.uniform(18, 40, count)[labels]
    depth = amplitude * rng.uniform(0, 1, count)[labels]
    across = canvas.x * np.cos(angle) + canvas.y * np.sin(angle)
    canvas.fraction += depth * np.sin(2 * np.pi * across / pitch)


def annual_crop(canvas: Canvas) -> None:
    """Paint large fields of crops in different stages of growth.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    u, v = canvas.axes(warp=rng.choice([0, 6]))
    scale = rng.uniform(0.5, 1.5)
    labels = strips(u, v, (90 * scale, 260 * scale), (150 * scale, 500 * scale), rng)
    kinds = [*rng.choice(GREEN_CROPS, 2), *rng.choice(BARE_FIELDS, rng.integers(1, 4))]
    canvas.paint_each(labels, kinds, mask=True)
    _tramlines(canvas, labels, 0.08)
    if rng.uniform() < 0.5:
        _hedges(canvas, labels, rng.uniform(0.1, 0.6), 'pasture', 'broadleaf')


def pasture(canvas: Canvas) -> None:
    """Paint meadows between hedges, with scattered trees.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    u, v = canvas.axes(warp=rng.uniform(5, 25))
    labels = voronoi(u, v * rng.uniform(0.6, 1), int(rng.integers(3, 30)), rng)
    kinds = ['pasture'] * 9 + list(rng.choice(['herbs', 'stubble', 'pasture'], 1))
    canvas.paint_each(labels, kinds, mask=True)
    canvas.relief *= 1.3
    if rng.uniform() < 0.75:
        _hedges(
            canvas, labels, rng.uniform(0.15, 0.9), 'broadleaf', 'broadleaf', 'shrub'
        )
    if rng.uniform() < 0.5:
        trees = canvas.noise(8) + 0.6 * canvas.noise(80)
        canvas.paint(trees > rng.uniform(2.4, 3.2), 'broadleaf')


def herbaceous(canvas: Canvas) -> None:
    """Paint natural grassland with scrub and bare ground, often on slopes.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    canvas.relief += abs(rng.normal(0, 0.3))
    kinds = ['herbs', 'herbs', 'pasture'] if rng.uniform() < 0.25 else ['herbs']
    canvas.paint_each((canvas.noise(90) > 0).astype(int), kinds, mask=True)
    terrain = canvas.noise(300, fractal=True)
    for name, share in (('shrub', 0.4), ('rock', 0.18)):
        field = canvas.noise(rng.uniform(8, 30)) + terrain
        bound = rng.uniform(0.03, share)
        canvas.paint(field > np.quantile(field, 1 - bound), name)
        terrain = -terrain
    if rng.uniform() < 0.35:
        path = winding(*canvas.axes(), rng.uniform(30, 160), rng)
        canvas.paint(abs(path) < rng.uniform(2, 6), 'track')


def permanent_crop(canvas: Canvas) -> None:
    """Paint plots of orchards and vineyards in rows.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    u, v = canvas.axes(warp=rng.uniform(0, 12))
    scale = rng.uniform(0.7, 1.6)
    labels = strips(u, v, (60 * scale, 150 * scale), (90 * scale, 300 * scale), rng)
    others = list(rng.choice(['ploughed', 'stubble', 'herbs', 'cereal', 'pasture'], 2))
    canvas.paint_each(labels, ['between'] * 8 + others, mask=True)
    planted = rng.uniform(size=int(labels.max()) + 1) < rng.uniform(0.6, 1)
    _rows(canvas, labels, planted[labels])
    if rng.uniform() < 0.7:
        _hedges(canvas, labels, rng.uniform(0.2, 0.9), 'track', 'shrub', 'between')


def _rows(canvas: Canvas, labels: Labels, planted: Mask) -> None:
    """Plant rows of trees or vines; plots keep one of two directions."""
    rng, count = canvas.rng, int(labels.max()) + 1
    u, v = canvas.axes()
    turned = (rng.uniform(size=count) < 0.5)[labels]
    u, v = np.where(turned, v, u), np.where(turned, u, v)
    pitch = rng.uniform(20, 40)
    cells = lattice(u, v, pitch, rng.choice([9.0, pitch]))
    width = pitch * rng.uniform(0.2, 0.38, count)[labels]
    vigour = rng.uniform(size=cells.count)[cells.cell]
    rows = (abs(cells.du) < width) & (vigour > 0.1)
    canvas.paint_each(labels, ['canopy'], rows & planted)


def forest(canvas: Canvas) -> None:
    """Paint woods of coniferous and broadleaved trees.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    canvas.relief += abs(rng.normal(0, 0.15))
    field = canvas.noise(rng.uniform(20, 120))
    canvas.paint(True, 'conifer', 'broadleaf')
    canvas.paint(field > rng.normal(0.6, 1), 'conifer', 'broadleaf')
    if rng.uniform() < 0.25:
        path = winding(*canvas.axes(), rng.uniform(10, 120), rng)
        canvas.paint(abs(path) < rng.uniform(3, 8), 'track', 'pasture')
    if rng.uniform() < 0.2:
        glade = canvas.noise(60) + canvas.noise(20) * 0.4
        canvas.paint(glade > rng.uniform(1.4, 2.6), 'pasture', 'herbs', 'shrub')


def sea_lake(canvas: Canvas) -> None:
    """Paint open water, sometimes with a stretch of shore.

    Args:
        canvas: Canvas to paint on.
    """
    rng = canvas.rng
    canvas.relief = 0.0
    canvas.paint(True, 'water')
    canvas.fraction += rng.uniform(0, 0.05) * canvas.noise(250, fractal=True)
    if rng.uniform() < 0.15:
        reach = canvas.n * CANVAS_PIXEL * rng.uniform(0.3, 0.5)
        shore = winding(*canvas.axes(), rng.uniform(40, 200), rng) - reach
        canvas.paint(shore > 0, 'broadleaf', 'pasture', 'herbs', 'conifer')
        canvas.paint(abs(shore) < rng.uniform(0, 15), 'rock', 'track')
