# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Figure of a map: classes with legend, confidence, coordinates and a scale bar."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader

from ...files import writing
from ...rasters.opening import open_raster
from ...rasters.pixel_size import ground_steps
from ...tables.text import xml_text
from .legend import NODATA, Legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

# Cells along the longer side of a panel: more cannot be seen at 150 dots per inch.
_MOST_CELLS = 1000

# Longer side of a panel on paper.
_PANEL_INCHES = 5.0

# Panels that are less high per width than this are above each other.
_FLAT = 0.5

# A cell is drawn narrower than its coordinates say, but not more than by this factor.
_NARROWEST = 0.05


def write_preview(
    class_map: Path,
    confidence_map: Path,
    legend: Legend,
    cells: Mapping[str, int],
    output: Path,
) -> None:
    """Draw a map as PNG, large maps from their overviews.

    Args:
        class_map: GeoTIFF with the values of *legend*.
        confidence_map: GeoTIFF with the confidence of the same cells.
        legend: Classes of the map.
        cells: Number of cells of each class, for the legend.
        output: The file to write.

    Raises:
        OutputError: If it cannot be written.
    """
    with open_raster(class_map) as file:
        classes = _read(file, Resampling.mode)
        view = _View(file)
    with open_raster(confidence_map) as file:
        confidence = _read(file, Resampling.average)
    patches = _make_patches(legend, cells, bool((classes == NODATA).any()))
    figure, columns = _make_figure(view.ratio, list(patches))
    first, second = figure.axes
    _draw_classes(first, classes, view, legend)
    _draw_confidence(second, confidence, view)
    drawn = figure.legend(
        list(patches.values()),
        # names follow: one that begins with an underscore would be left out
        [''] * len(patches),
        loc='outside lower center',
        ncols=columns,
        frameon=False,
    )
    for text, label in zip(drawn.get_texts(), patches, strict=True):
        # a dollar is no formula
        text.set_parse_math(False)
        text.set_text(label)
    with writing(output):
        figure.savefig(output, format='png', dpi=150)


def _make_figure(ratio: float, labels: Sequence[str]) -> tuple['Figure', int]:
    """Make room for two panels of a height per width, and for the columns of a legend.

    The panels are side by side unless they are flat.
    """
    from matplotlib.figure import Figure

    if ratio < _FLAT:
        rows, columns = 2, 1
        width, height = 1.6 * _PANEL_INCHES, max(1.6 * _PANEL_INCHES * ratio, 0.5)
    else:
        rows, columns = 1, 2
        height = min(_PANEL_INCHES * max(ratio, 1), 2 * _PANEL_INCHES)
        width = min(height / ratio, _PANEL_INCHES)
    # next to the panels: coordinates, titles and the colour bar
    width = columns * (width + 1) + 1
    # a letter is about a tenth of an inch wide, the patch before it six of them
    fitting = max(int(10 * width / (max(map(len, labels)) + 6)), 1)
    below = 0.25 * math.ceil(len(labels) / fitting) + 0.2
    figure = Figure((width, rows * (height + 0.9) + below), layout='constrained')
    figure.subplots(rows, columns)
    return figure, fitting


class _View:
    """How cells are laid out on the paper.

    Attributes:
        aspect: Height of a cell on the ground, in units of its width.
        ratio: Height of the map on the ground, in units of its width.
        metres: Width of a cell on the ground in metres; None if unknown.
        extent: Left, right, bottom and top of the image in the units of its axes.
    """

    def __init__(self, file: DatasetReader) -> None:
        transform, crs = file.transform, file.crs
        self.cells = (file.height, file.width)
        known = transform != rasterio.Affine.identity()
        self.upright = known and transform.b == transform.d == 0
        ground = ground_steps(crs if known else None, transform, *self.cells)
        self.crs = None if ground is None else crs
        self.geographic = crs is not None and crs.is_geographic
        flat = np.array([[transform.a, transform.d], [transform.b, transform.e]])
        across, down = np.hypot(*(flat if ground is None else ground).T)
        # near a pole a map in degrees would be a line
        most = np.hypot(*flat[1]) / np.hypot(*flat[0]) / _NARROWEST
        self.aspect = float(min(down / across, most))
        self.ratio = self.aspect * file.height / file.width
        self.metres = None if ground is None else float(across)
        right, bottom = transform @ (file.width, file.height)
        self.extent = (
            (transform.c, right, bottom, transform.f)
            if self.upright
            else (0, file.width, file.height, 0)
        )


def _read(file: DatasetReader, resampling: Resampling) -> NDArray[Any]:
    shrink = max(1, math.ceil(max(file.height, file.width) / _MOST_CELLS))
    shape = (math.ceil(file.height / shrink), math.ceil(file.width / shrink))
    return file.read(1, out_shape=shape, resampling=resampling)


def _draw_classes(
    axes: 'Axes', classes: NDArray[np.uint8], view: _View, legend: Legend
) -> None:
    palette = np.full((256, 3), 255, np.uint8)
    palette[1 : len(legend.colors) + 1] = legend.colors
    axes.imshow(palette[classes], extent=view.extent, interpolation='nearest')
    axes.set_title('Class')
    _label_axes(axes, view)
    _draw_scale_bar(axes, view)


def _make_patches(
    legend: Legend, cells: Mapping[str, int], nodata: bool
) -> dict[str, 'Patch']:
    """Return a patch for each label."""
    from matplotlib.patches import Patch

    mapped = max(sum(cells.values()), 1)
    shares = [f'{xml_text(n)} {100 * cells[n] / mapped:.1f} %' for n in legend.names]
    colors = {k: np.array(c) / 255 for k, c in zip(shares, legend.colors, strict=True)}
    if nodata:
        colors['nodata'] = np.ones(3)
    return {
        label: Patch(facecolor=color, edgecolor='black', linewidth=0.4)
        for label, color in colors.items()
    }


def _draw_confidence(
    axes: 'Axes', confidence: NDArray[np.float32], view: _View
) -> None:
    image = axes.imshow(
        confidence,
        extent=view.extent,
        interpolation='nearest',
        cmap='viridis',
        vmin=0,
        vmax=1,
    )
    axes.set_title('Confidence')
    # at the expense of both panels, so that they stay equal
    axes.figure.colorbar(image, ax=axes.figure.axes, shrink=0.9, aspect=30)
    _label_axes(axes, view)


def _label_axes(axes: 'Axes', view: _View) -> None:
    left, right, bottom, top = view.extent
    width, height = abs(right - left), abs(bottom - top)
    rows, columns = view.cells
    axes.set_aspect(view.aspect * rows / columns * width / height)
    axes.ticklabel_format(style='plain', useOffset=False)
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize='small')
    if not view.upright:
        names = 'column of the map', 'row of the map'
    elif view.geographic:
        names = 'longitude (°)', 'latitude (°)'
    else:
        names = f'easting ({view.crs or "no CRS"})', 'northing'
    axes.set_xlabel(names[0], fontsize='small')
    axes.set_ylabel(names[1], fontsize='small')


def _draw_scale_bar(axes: 'Axes', view: _View) -> None:
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    if view.metres is None:
        return
    columns = view.cells[1]
    length = _round_down(view.metres * columns / 4)
    label = f'{length / 1000:g} km' if length >= 1000 else f'{length:g} m'
    left, right = view.extent[:2]
    size = length / (view.metres * columns) * abs(right - left)
    bar = AnchoredSizeBar(axes.transData, size, label, 'lower right', pad=0.4)
    bar.patch.set_alpha(0.7)
    axes.add_artist(bar)


def _round_down(length: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten up to *length*."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= length)
