# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Settings of a scene: checked before anything is read, and sizes derived from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...errors import SettingError
from ...rasters.scale import Scale
from ...rasters.tiles import TileSpec
from ..options import check_options
from ..predictor import Predictor
from .legend import Legend, make_legend
from .windows import WindowAxis

# Memory for the pixels and the sums of a panel, and for a batch of windows, each.
_MEMORY_BYTES = 96 * 2**20

_FLOAT32, _FLOAT64 = 4, 8


@dataclass(frozen=True)
class SceneSettings:
    """How a scene is classified.

    Attributes:
        tile: Height and width of a window in pixels.
        stride: Height and width of a map cell in pixels.
        batch_size: Windows that are classified together at most.
        min_confidence: Lower confidence makes a cell 'uncertain'.
        spec: What the classifier needs, and what the user states about the scene.
        workers: Number of threads that decode and compress.
        legend: Classes of the map.
    """

    tile: tuple[int, int]
    stride: int
    batch_size: int
    min_confidence: float
    spec: TileSpec
    workers: int
    legend: Legend


def make_settings(
    predictor: Predictor,
    *,
    scale: Scale,
    bands: Sequence[str] | None,
    stride: int | None,
    max_nodata: float,
    batch_size: int,
    workers: int,
    min_confidence: float,
    nodata: float | None,
    strict: bool,
    resample: bool,
) -> SceneSettings:
    """Check settings and fill in their defaults.

    Args:
        predictor: The classifier.
        scale: As for :func:`.classify_scene`.
        bands: As for :func:`.classify_scene`.
        stride: As for :func:`.classify_scene`.
        max_nodata: As for :func:`.classify_scene`.
        batch_size: As for :func:`.classify_scene`.
        workers: As for :func:`.classify_scene`.
        min_confidence: As for :func:`.classify_scene`.
        nodata: As for :func:`.classify_scene`.
        strict: As for :func:`.classify_scene`.
        resample: As for :func:`.classify_scene`.

    Returns:
        The settings.

    Raises:
        SettingError: If one is unknown or out of range, the classifier has too many
            classes for a map, or its file does not say what is needed.
    """
    tile = predictor.size
    if tile is None:
        raise SettingError(
            'The classifier file does not state the tile size of its training data, '
            'which is the size of the windows: classify tiles into a table instead, or '
            'train again with a data module of this package.'
        )
    if predictor.metadata.task == 'multilabel':
        raise SettingError(
            f'{predictor.description} gives a tile any number of labels, but a map has '
            'one class in each cell: cut the scene into tiles and classify these into '
            'a table (.gpkg), which has a column for each label.'
        )
    if stride is None:
        stride = max(min(tile) // 2, 1)
    if not 1 <= stride <= min(tile):
        raise SettingError(
            f'stride={stride}: give 1 to {min(tile)}, the size of the windows.'
        )
    spec = predictor.tile_spec(
        size=tile,
        scale=scale,
        override=None if bands is None else tuple(bands),
        max_nodata=max_nodata,
        nodata=nodata,
        strict=strict,
        resample=resample,
    )
    check_options(predictor, batch_size, workers, min_confidence)
    window_bytes = len(predictor.bands) * tile[0] * tile[1] * _FLOAT32
    return SceneSettings(
        tile=tile,
        stride=stride,
        batch_size=max(min(batch_size, _MEMORY_BYTES // window_bytes), 1),
        min_confidence=min_confidence,
        spec=spec,
        workers=workers,
        legend=make_legend(predictor.metadata.classes, min_confidence > 0),
    )


def split_panels(
    columns: WindowAxis, settings: SceneSettings, bands: int, block: int, classes: int
) -> list[WindowAxis]:
    """Split a scene into panels that fit into memory, usually a single one.

    Windows that cover cells of two panels are classified in both.

    Args:
        columns: Columns of windows of the scene.
        settings: How it is classified.
        bands: Number of bands.
        block: Rows of pixels that are read together.
        classes: Number of classes.

    Returns:
        Columns of windows of each panel, from left to right.
    """
    tile, stride = settings.tile[0], settings.stride
    # the strip at work and the next one, twice as high as a window, and those blocks
    # that are read, copied and joined
    pixels = bands * _FLOAT32 * (4 * tile + 4 * max(block, tile))
    # rows of sums that are open, and the probabilities that are added to them
    rows = 2 * tile // stride + 2
    sums = classes * (_FLOAT64 + _FLOAT32) * rows // stride
    width = max(_MEMORY_BYTES // (pixels + sums), 2 * settings.tile[1])
    count = -(-columns.cells * stride // width)
    edges = np.linspace(0, columns.cells, count + 1).astype(int).tolist()
    return [columns.part(begin, end) for begin, end in pairwise(edges) if begin < end]


def rows_per_strip(columns: WindowAxis, settings: SceneSettings, bands: int) -> int:
    """Return how many rows of windows of a panel are read together.

    Args:
        columns: Columns of windows of the panel.
        settings: How the scene is classified.
        bands: Number of bands.

    Returns:
        As many as fill a batch, or as are within the height of a window, so that few
        cells are in two strips; 1 or more, but no more than fit into the memory.
    """
    width = int(columns.starts[-1] - columns.starts[0]) + columns.tile
    row_bytes = 6 * bands * _FLOAT32 * width * settings.stride
    full = -(-settings.batch_size // len(columns.starts))
    within = settings.tile[0] // settings.stride
    return max(within, min(full, _MEMORY_BYTES // row_bytes), 1)
