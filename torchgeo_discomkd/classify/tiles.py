# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify tiles into a table, whatever their number."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import SettingError
from ..rasters.ahead import batch_tiles, read_ahead
from ..rasters.opening import many_threads
from ..rasters.scale import Scale, check_scale
from ..rasters.sources import Source
from ..rasters.tiles import Tile, TileSpec
from ..tables import Prediction, PredictionTable
from ..tables.prediction import UNCERTAIN
from .predictor import Predictor
from .summary import Summary
from .swapped import warn_if_swapped

# Tiles are read once: GDAL need not keep 5 % of the memory for them.
_CACHE_BYTES = 64 * 2**20


def classify_tiles(
    predictor: Predictor,
    sources: Sequence[Source],
    output: str | Path,
    *,
    scale: Scale = 'auto',
    bands: Sequence[str] | None = None,
    batch_size: int = 128,
    workers: int = 1,
    min_confidence: float = 0.0,
    crs: str = 'EPSG:4326',
    max_nodata: float = 1.0,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> Summary:
    """Classify tiles into a table, a row each, in the order of *sources*.

    A tile that cannot be classified is a row with the reason as its status. Tiles of
    other sizes than the classifier's are cut or padded as :func:`fit_size` says. Only
    some batches are in memory at a time, beside the paths.

    Args:
        predictor: The classifier.
        sources: The tiles, each path once.
        output: Table to write: .parquet, .gpkg, .geojson or .csv.
        scale: Unit of the tiles: 'db', 'linear', or 'auto' to guess it for each.
        bands: Names or numbers (from 1) of the bands of the files, one for each band of
            the classifier; None finds them by name, or else by order.
        batch_size: Images that are classified at a time.
        workers: Threads that read.
        min_confidence: Below this confidence the label is 'uncertain'.
        crs: Coordinate reference system of all outlines.
        max_nodata: A tile is 'nodata' if at least this part of its pixels is missing.
        overwrite: Replace an existing table.
        resume: Continue a run that did not end.
        progress: Show a progress bar.

    Returns:
        Numbers of tiles by status, also those of the run that was continued.

    Raises:
        OutputError: If the table cannot be written.
        OutputExistsError: If it exists.
        SettingError: If a setting is unknown or out of range, or another one than in
            the run that is to be continued.

    Warns:
        UserWarning: If the first tiles look as if their bands were swapped.
    """
    metadata = predictor.metadata.modalities[predictor.modality]
    check_scale(scale, metadata.unit)
    _check_numbers(batch_size, workers, min_confidence, max_nodata)
    classes = predictor.metadata.classes
    if min_confidence > 0 and UNCERTAIN in classes:
        raise SettingError(
            f"The classifier has a class '{UNCERTAIN}' of its own: leave out "
            f'min_confidence={min_confidence}.'
        )
    spec = TileSpec(
        bands=metadata.bands,
        unit=metadata.unit,
        size=predictor.fixed_size or metadata.tile_size,
        scale=scale,
        override=None if bands is None else tuple(bands),
        crs=crs,
        max_nodata=max_nodata,
    )
    settings = _settings(predictor, spec, sources, min_confidence)
    summary = Summary(Path(output))
    with PredictionTable(
        output, classes, crs, overwrite, resume, settings=settings
    ) as table:
        done = set()
        for path, status in table.finished():
            done.add(path)
            summary.add(path, status)
        todo = (source for source in sources if source.name not in done)
        with tqdm(
            total=len(sources), initial=len(done), unit=' tiles', disable=not progress
        ) as bar:
            for rows in _classify(
                predictor, todo, spec, batch_size, workers, min_confidence
            ):
                table.write(rows)
                for row in rows:
                    summary.add(row.path, row.status)
                bar.update(len(rows))
        table.finish()
    return summary


def _classify(
    predictor: Predictor,
    sources: Iterator[Source],
    spec: TileSpec,
    batch_size: int,
    workers: int,
    min_confidence: float,
) -> Iterator[list[Prediction]]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix='reader')
    checked = False
    with many_threads(), rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
        try:
            tiles = read_ahead(pool, sources, spec, batch_size, 2 * workers)
            for batch in batch_tiles(tiles, batch_size):
                checked = checked or warn_if_swapped(batch, spec.bands)
                probabilities = classify_windows(predictor, batch, batch_size)
                yield [
                    _row(tile, values, predictor.metadata.classes, min_confidence)
                    for tile, values in zip(batch, probabilities, strict=True)
                ]
        finally:
            pool.shutdown(cancel_futures=True)


def classify_windows(
    predictor: Predictor, tiles: Sequence[Tile], batch_size: int
) -> list[NDArray[np.float32] | None]:
    """Classify tiles of any sizes.

    Args:
        predictor: The classifier.
        tiles: The tiles.
        batch_size: Images that are classified at a time.

    Returns:
        Probabilities of each tile, float32 (K,), the mean over its windows; None for a
        tile without any.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, tile in enumerate(tiles):
        if tile.windows is not None:
            groups[tile.windows.shape[1:]].append(index)
    probabilities: list[NDArray[np.float32] | None] = [None] * len(tiles)
    for members in groups.values():
        windows = [w for i in members if (w := tiles[i].windows) is not None]
        images = np.concatenate(windows)
        values = np.concatenate(
            [
                predictor.probabilities(images[first : first + batch_size])
                for first in range(0, len(images), batch_size)
            ]
        )
        ends = np.cumsum([len(w) for w in windows])[:-1]
        for index, own in zip(members, np.split(values, ends), strict=True):
            probabilities[index] = own.mean(axis=0)
    return probabilities


def _row(
    tile: Tile,
    probabilities: NDArray[np.float32] | None,
    classes: Sequence[str],
    min_confidence: float,
) -> Prediction:
    path, status, footprint = tile.source.name, tile.status, tile.footprint
    if probabilities is None:
        return Prediction.missing(path, status, footprint)
    return Prediction.from_probabilities(
        path, probabilities.tolist(), classes, status, footprint, min_confidence
    )


def _settings(
    predictor: Predictor,
    spec: TileSpec,
    sources: Sequence[Source],
    min_confidence: float,
) -> dict[str, str]:
    """Return what the rows depend on, beside the files themselves."""
    relative = any(
        not Path(path).is_absolute() and '://' not in path
        for source in sources
        for path in source.paths
    )
    return {
        'model': predictor.description,
        'scale': spec.scale,
        'bands': ','.join(spec.override or ()),
        'min_confidence': str(min_confidence),
        'max_nodata': str(spec.max_nodata),
        # in another folder, paths that start from it are other files
        'folder': str(Path.cwd()) if relative else '',
    }


def _check_numbers(
    batch_size: int, workers: int, min_confidence: float, max_nodata: float
) -> None:
    problems = {
        f'batch_size={batch_size}: give 1 or more.': batch_size < 1,
        f'workers={workers}: give 1 or more.': workers < 1,
        f'min_confidence={min_confidence}: give a number from 0 to 1.': not (
            0 <= min_confidence <= 1
        ),
        f'max_nodata={max_nodata}: give a number above 0, at most 1.': not (
            0 < max_nodata <= 1
        ),
    }
    for problem, present in problems.items():
        if present:
            raise SettingError(problem)
