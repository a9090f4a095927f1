# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify any number of tiles into a table."""

import warnings
from collections import Counter, defaultdict
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from tqdm import tqdm

from ..files import only_writer, remove_abandoned
from ..rasters.finding import ImageFiles
from ..rasters.opening import many_threads
from ..rasters.scale import Scale
from ..rasters.tiles import Tile, TileSpec, batch_tiles, read_ahead
from ..tables import Prediction, PredictionTable
from ..tables.prediction import CLASSIFIED
from .band_order import warn_of_swapped_tiles
from .options import CACHE_BYTES, check_options
from .predictor import Predictor
from .ray_engine import RayEngine


@dataclass
class TilesSummary:
    """Number of tiles of each status in a table.

    Attributes:
        output: The table.
        counts: Number of tiles by the first word of their status, for example
            'unreadable'.
        example: Path and status of the first tile without a label; None if all have
            one.
        readings: Number of tiles by how the numbers in their files were understood.
        unusual: Number of tiles that differ from those of training.
        modalities: Number of tiles by the modalities that classify them, if several
            classifiers are combined.

    Example:
        >>> summary = TilesSummary(Path('tiles.parquet'))
        >>> summary.add('a.tif', 'ok')
        >>> summary.add('b.tif', 'unreadable: truncated')
        >>> print(summary)
        tiles.parquet: 2 tiles, 1 without a label (1 ok, 1 unreadable)
    """

    output: Path
    counts: Counter[str] = field(default_factory=Counter)
    example: str | None = None
    readings: Counter[str] = field(default_factory=Counter)
    unusual: int = 0
    modalities: Counter[str] = field(default_factory=Counter)

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
        """Return a summary in one line."""
        words = sorted(
            self.counts, key=lambda word: (word not in CLASSIFIED, word != 'ok', word)
        )
        numbers = ', '.join(f'{self.counts[word]} {word}' for word in words)
        failed = f'{self.failed} without a label'
        return f'{self.output}: {self.total} tiles, {failed} ({numbers})'


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
    nodata: float | None = None,
    strict: bool = False,
    resample: bool = False,
    engine: RayEngine | None = None,
) -> TilesSummary:
    """Classify tiles into a table with one row each, in the order of *images*.

    If a tile cannot be classified, its status states the reason. Tiles whose size
    differs from the classifier's are cropped or padded, see :func:`.fit_size`. Memory
    holds only the paths and a few batches at a time.

    Args:
        predictor: The classifier.
        images: The tiles, each path once, from :func:`.find_images`.
        output: Table to write: .parquet, .gpkg, .geojson or .csv.
        scale: Unit of the tiles: 'db', 'linear' (power), 'amplitude', 'db_x10' or
            'db_x100' (integers that stand for dB); 'auto' tells dB from linear power
            for each.
        bands: Names or numbers (from 1) of the bands of the files, one for each band of
            the classifier. Default: match them by name, or else by order.
        batch_size: Number of images classified at a time.
        workers: Number of threads that read.
        min_confidence: Below this confidence, the label is 'uncertain'.
        crs: Coordinate reference system of all outlines.
        max_nodata: A tile is 'nodata' if at least this share of its pixels is missing.
        overwrite: Replace an existing table.
        resume: Continue an interrupted run.
        progress: Show a progress bar.
        nodata: A number in the files that stands for missing pixels although they do
            not say so.
        strict: Give no label to tiles that are unusual: their values or the size of
            their pixels differ from those of training, or too many pixels have the
            same value.
        resample: Read tiles with pixels of the size in training.
        engine: Workers of Ray that classify. Default: this process.

    Returns:
        Numbers of tiles by status, including those of the resumed run.

    Raises:
        ClusterError: If the Ray cluster cannot be used or goes away.
        OutputError: If the table cannot be written.
        OutputExistsError: If it exists.
        OutputInUseError: If another process writes it.
        SettingError: If a setting is unknown, out of range, differs from the run to
            resume, or needs what the classifier file does not say.

    Warns:
        UserWarning: If the bands of the first tiles seem to be swapped, tiles are
            unusual, or the resumed run has tiles that are not among *images*.

    Example:
        >>> import pandas
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata
        >>> from torchgeo_discomkd.rasters import find_images
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> def compute(images):  # any function from pixels to probabilities
        ...     water = np.float32(images.mean(axis=(1, 2, 3)) < -15)
        ...     return np.stack([1 - water, water], axis=1)
        >>> predictor = Predictor(metadata, 'sar', 'threshold', None, 'cpu', compute)
        >>> rng = np.random.default_rng(0)
        >>> water = rng.normal([[[-20]], [[-25]]], 1, (2, 32, 32))
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/lake.npy', np.float32(water))
        ...     tiles = find_images([folder], predictor.bands)
        ...     output = f'{folder}/tiles.csv'
        ...     summary = classify_tiles(predictor, tiles, output, progress=False)
        ...     table = pandas.read_csv(output)
        >>> summary.total, summary.failed
        (1, 0)
        >>> table[['label', 'status']].values.tolist()
        [['Water', 'ok']]
    """
    check_options(predictor, batch_size, workers, min_confidence)
    spec = predictor.tile_spec(
        scale=scale,
        override=None if bands is None else tuple(bands),
        crs=crs,
        max_nodata=max_nodata,
        nodata=nodata,
        strict=strict,
        resample=resample,
    )
    settings = table_settings(predictor, spec, images, min_confidence)
    summary = TilesSummary(Path(output))
    with (
        only_writer(summary.output),
        PredictionTable(
            output,
            predictor.metadata.classes,
            crs,
            overwrite,
            resume,
            settings=settings,
            several=predictor.metadata.decision_thresholds is not None,
        ) as table,
    ):
        options = {'workers': workers, 'min_confidence': min_confidence}

        def classify(done: Collection[str]) -> Iterable[list[Prediction]]:
            _warn_of_other_tiles(done, images)
            todo = [files for files in images if files.name not in done]
            return _batches(predictor, todo, engine, spec, batch_size, options)

        fill_table(table, summary, len(images), classify, progress)
    return summary


def _warn_of_other_tiles(done: Collection[str], images: Sequence[ImageFiles]) -> None:
    """Say that a resumed table has rows of tiles that were not asked for again."""
    if others := set(done) - {files.name for files in images}:
        warnings.warn(
            f'resume: the table keeps {len(others)} rows of tiles that are not among '
            f'the inputs now, such as {min(others)}. Start again with --overwrite to '
            'leave them out.',
            stacklevel=4,
        )


def fill_table(
    table: PredictionTable,
    summary: TilesSummary,
    total: int,
    classify: Callable[[Collection[str]], Iterable[list[Prediction]]],
    progress: bool,
) -> None:
    """Write the rows that a table lacks, and finish it.

    Args:
        table: The table, of which this process is the only writer.
        summary: Summary of the table, changed in place.
        total: Number of its rows.
        classify: Yields the rows, given the paths of those that are finished.
        progress: Show a progress bar.
    """
    remove_abandoned(summary.output)
    done = set()
    for path, status in table.finished():
        done.add(path)
        summary.add(path, status)
    with tqdm(
        total=total, initial=len(done), unit=' tiles', disable=not progress
    ) as bar:
        for rows in classify(done):
            table.write(rows)
            for row in rows:
                summary.add(row.path, row.status)
            bar.update(len(rows))
    table.close()
    summary.readings = table.readings()
    summary.unusual = table.warn_of_unusual()
    if table.combined:
        summary.modalities = table.count('modalities')
    table.finish()


@contextmanager
def reading_threads(workers: int) -> Generator[Executor]:
    """Prepare GDAL for threads that read.

    Args:
        workers: Number of threads.

    Yields:
        The threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix='reader')
    with many_threads(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def classify_batches(
    predictor: Predictor,
    images: Iterable[ImageFiles],
    spec: TileSpec,
    pool: Executor,
    batch_size: int,
    workers: int,
    min_confidence: float,
) -> Iterator[list[Prediction]]:
    """Classify tiles with one classifier.

    Args:
        predictor: The classifier.
        images: The tiles.
        spec: What the classifier needs of them.
        pool: Threads that read.
        batch_size: Number of images classified at a time.
        workers: Number of threads.
        min_confidence: Below this confidence, the label is 'uncertain'.

    Yields:
        The rows of some tiles, in order.
    """
    checked = False
    tiles = read_ahead(pool, images, spec, batch_size, 2 * workers)
    for batch in batch_tiles(tiles, batch_size):
        checked = checked or warn_of_swapped_tiles(batch, spec.bands)
        yield _classify_batch(predictor, batch, batch_size, min_confidence)


def _batches(
    predictor: Predictor,
    images: Sequence[ImageFiles],
    engine: RayEngine | None,
    spec: TileSpec,
    batch_size: int,
    options: dict[str, Any],
) -> Iterable[list[Prediction]]:
    """Classify tiles here, or in workers, which must see the first of them."""
    options = {'spec': spec, 'batch_size': batch_size} | options
    if engine is None:
        return _classify(predictor, iter(images), **options)
    return engine.classify(
        partial(_rows, **options),
        predictor,
        images,
        batch_size,
        attrgetter('name'),
        Prediction.missing,
        [path for files in images[:1] for path in files.paths],
        once=True,
    )


def _classify(
    predictor: Predictor, images: Iterable[ImageFiles], workers: int, **options: Any
) -> Iterator[list[Prediction]]:
    with reading_threads(workers) as pool:
        yield from classify_batches(
            predictor, images, pool=pool, workers=workers, **options
        )


def _rows(
    predictor: Predictor, images: Sequence[ImageFiles], **options: Any
) -> list[Prediction]:  # pragma: no cover (in workers of Ray)
    return list(chain.from_iterable(_classify(predictor, iter(images), **options)))


def _classify_batch(
    predictor: Predictor, tiles: Sequence[Tile], batch_size: int, min_confidence: float
) -> list[Prediction]:
    """Return a row for each tile, from the mean probabilities of its windows."""
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
                predictor.metadata.decision_thresholds,
            )
    return [
        replace(row, unusual=tile.unusual, reading=tile.reading)
        for row, tile in zip(rows, tiles, strict=True)
    ]


def table_settings(
    predictor: Predictor,
    spec: TileSpec,
    images: Sequence[ImageFiles],
    min_confidence: float,
) -> dict[str, str]:
    """Return what the rows depend on, apart from the files themselves.

    Args:
        predictor: The classifier.
        spec: What it needs of the tiles.
        images: The tiles.
        min_confidence: Below this confidence, the label is 'uncertain'.
    """
    relative = any(
        not Path(path).is_absolute() and '://' not in path
        for files in images
        for path in files.paths
    )
    return {
        'model': predictor.description,
        'scale': spec.scale,
        'nodata': '' if spec.nodata is None else f'{spec.nodata}',
        'strict': str(spec.strict),
        'resample': str(spec.resample),
        'bands': ','.join(spec.override or ()),
        'min_confidence': str(min_confidence),
        'max_nodata': str(spec.max_nodata),
        # relative paths mean other files in another folder
        'folder': str(Path.cwd()) if relative else '',
    }
