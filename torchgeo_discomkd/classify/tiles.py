# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify tiles into a table, whatever their number."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from tqdm import tqdm

from ..rasters.finding import ImageFiles
from ..rasters.opening import many_threads
from ..rasters.scale import Scale
from ..rasters.tiles import Tile, TileSpec, batch_tiles, read_ahead
from ..tables import Prediction, PredictionTable
from ..tables.prediction import CLASSIFIED
from .band_order import warn_of_swapped_tiles
from .options import CACHE_BYTES, check_options
from .predictor import Predictor


@dataclass
class TilesSummary:
    """How many tiles of each status a table has.

    Attributes:
        output: The table.
        counts: Number of tiles by the first word of their status, for example
            'unreadable'.
        example: Path and status of the first tile without a label; None if all have
            one.
    """

    output: Path
    counts: Counter[str] = field(default_factory=Counter)
    example: str | None = None

    def add(self, path: str, status: str) -> None:
        """Count a tile.

        Args:
            path: Its path.
            status: Its status.
        """
        word = status.partition(':')[0]
        self.counts[word] += 1
        if self.example is None and word not in CLASSIFIED:
            self.example = f'{path}: {status}'

    @property
    def total(self) -> int:
        """Number of tiles."""
        return self.counts.total()

    @property
    def failed(self) -> int:
        """Number of tiles without a label."""
        return self.total - sum(self.counts[word] for word in CLASSIFIED)

    def __str__(self) -> str:
        """Return one line with the numbers."""
        words = sorted(
            self.counts, key=lambda word: (word not in CLASSIFIED, word != 'ok', word)
        )
        numbers = ', '.join(f'{self.counts[word]} {word}' for word in words)
        return f'{self.output}: {self.total} tiles, {self.failed} without a label ({numbers})'


def classify_tiles(
    predictor: Predictor,
    images: Sequence[ImageFiles],
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
) -> TilesSummary:
    """Classify tiles into a table, a row each, in the order of *images*.

    A tile that cannot be classified is a row with the reason as its status. Tiles of
    other sizes than the classifier's are cut or padded as :func:`.fit_size` says. Only
    some batches are in memory at a time, beside the paths.

    Args:
        predictor: The classifier.
        images: The tiles, each path once, as :func:`.find_images` finds them.
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
    check_options(predictor, batch_size, workers, min_confidence)
    spec = TileSpec(
        bands=predictor.bands,
        unit=predictor.unit,
        size=predictor.size,
        scale=scale,
        override=None if bands is None else tuple(bands),
        crs=crs,
        max_nodata=max_nodata,
    )
    settings = _settings(predictor, spec, images, min_confidence)
    summary = TilesSummary(Path(output))
    with PredictionTable(
        output, predictor.metadata.classes, crs, overwrite, resume, settings=settings
    ) as table:
        done = set()
        for path, status in table.finished():
            done.add(path)
            summary.add(path, status)
        todo = (files for files in images if files.name not in done)
        with tqdm(
            total=len(images), initial=len(done), unit=' tiles', disable=not progress
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
    images: Iterator[ImageFiles],
    spec: TileSpec,
    batch_size: int,
    workers: int,
    min_confidence: float,
) -> Iterator[list[Prediction]]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix='reader')
    checked = False
    with many_threads(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        try:
            tiles = read_ahead(pool, images, spec, batch_size, 2 * workers)
            for batch in batch_tiles(tiles, batch_size):
                checked = checked or warn_of_swapped_tiles(batch, spec.bands)
                yield _classify_batch(predictor, batch, batch_size, min_confidence)
        finally:
            pool.shutdown(cancel_futures=True)


def _classify_batch(
    predictor: Predictor, tiles: Sequence[Tile], batch_size: int, min_confidence: float
) -> list[Prediction]:
    """Return a row for each tile, by the mean probabilities over its windows."""
    rows = [Prediction.missing(t.files.name, t.status, t.footprint) for t in tiles]
    groups = defaultdict[tuple[int, ...], dict[int, NDArray[np.float32]]](dict)
    for index, tile in enumerate(tiles):
        if tile.windows is not None:
            groups[tile.windows.shape[1:]][index] = tile.windows
    for windows in groups.values():
        images = np.concatenate(list(windows.values()))
        values = np.concatenate(
            [
                predictor.probabilities(images[first : first + batch_size])
                for first in range(0, len(images), batch_size)
            ]
        )
        ends = np.cumsum([len(w) for w in windows.values()])[:-1]
        for index, own in zip(windows, np.split(values, ends), strict=True):
            tile = tiles[index]
            rows[index] = Prediction.from_probabilities(
                tile.files.name,
                own.mean(axis=0).tolist(),
                predictor.metadata.classes,
                tile.status,
                tile.footprint,
                min_confidence,
            )
    return rows


def _settings(
    predictor: Predictor,
    spec: TileSpec,
    images: Sequence[ImageFiles],
    min_confidence: float,
) -> dict[str, str]:
    """Return what the rows depend on, beside the files themselves."""
    relative = any(
        not Path(path).is_absolute() and '://' not in path
        for files in images
        for path in files.paths
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
