# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify tiles with whichever of several sensors there are."""

import hashlib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import batched, chain, combinations
from pathlib import Path

from ..errors import ClassifierFileError, ModalityError, SettingError
from ..files import only_writer
from ..rasters.footprints import overlap
from ..rasters.scale import Scale
from ..rasters.tiles import TileSpec
from ..tables import Combination, Prediction, PredictionTable
from ..tables.combination import FILE
from ..tables.prediction import CLASSIFIED
from .options import check_options
from .predictor import Predictor, load_predictor
from .sensors import SensorTile
from .tiles import (
    TilesSummary,
    classify_batches,
    fill_table,
    reading_threads,
    table_settings,
)

# Share of the smaller outline that two images of one place have in common: neighbours
# in a grid only share an edge.
_OVERLAP = 0.5


@dataclass(frozen=True)
class CombinedPredictor:
    """Classifiers of several modalities, and how their probabilities are combined.

    Attributes:
        predictors: The classifiers by modality.
        combination: Their weights.

    Example:
        >>> import numpy as np
        >>> from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata
        >>> def make(modality):
        ...     images = ModalityMetadata(1, ('B1',), 'unknown', None)
        ...     metadata = ClassifierMetadata(
        ...         'disentangled', 'test_resnet', ('Land', 'Water'),
        ...         {modality: images}, 'linear_bn_relu', 'none', 1.0, {}, None, '', '',
        ...         None, '')
        ...     def compute(images):
        ...         return np.full((len(images), 2), 0.5, np.float32)
        ...     return Predictor(metadata, modality, 'even', None, 'cpu', compute)
        >>> both = CombinedPredictor({'ms': make('ms'), 'sar': make('sar')})
        >>> both.classes, str(both.combination)
        (('Land', 'Water'), 'equal weights')
    """

    predictors: Mapping[str, Predictor]
    combination: Combination = field(default_factory=Combination)

    def __post_init__(self) -> None:
        """Check that the classifiers belong together.

        Raises:
            ClassifierFileError: If their classes differ, or are labels of which a tile
                may have several.
        """
        first, *others = self.predictors.values()
        for predictor in self.predictors.values():
            if predictor.metadata.task == 'multilabel':
                raise ClassifierFileError(
                    f'{predictor.description} answers with several labels for a tile, '
                    'which cannot be combined: classify with one sensor at a time.'
                )
        for other in others:
            if other.metadata.classes != first.metadata.classes:
                raise ClassifierFileError(
                    f'{first.description} has the classes '
                    f'{list(first.metadata.classes)}, but {other.description} has '
                    f'{list(other.metadata.classes)}: combine classifiers of the same '
                    'classes in the same order.'
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return next(iter(self.predictors.values())).metadata.classes


def load_combined(
    models: Sequence[str | Path], device: str = 'auto', precision: str = 'auto'
) -> CombinedPredictor:
    """Read model files of several modalities, and the weights that a run has fitted.

    Args:
        models: One file for each modality, as for :func:`load_predictor`. Their weights
            are in ``combination.json`` next to one of them; without it, or if it is for
            others, all have equal weights.
        device: As for :func:`load_predictor`.
        precision: As for :func:`load_predictor`.

    Returns:
        The classifiers.

    Raises:
        ClassifierFileError: If a file is missing or damaged, or classes differ.
        ModalityError: If two files are of one modality, or one is of several.
        SettingError: If *device* or *precision* are unknown or not possible.

    Warns:
        UserWarning: If the weights are equal because none were fitted for these files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.tasks import DisCoMKD
        >>> task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> with TemporaryDirectory() as folder:
        ...     files = [Path(folder, f'{m}.safetensors') for m in ('ms', 'sar')]
        ...     for path in files:
        ...         task.save_classifier(path.stem, path, scores={}, epoch=0)
        ...     Combination({('ms', 'sar'): (1.0, 0.3)}).write(
        ...         Path(folder, 'combination.json'),
        ...         {path.stem: load_predictor(path).metadata for path in files})
        ...     print(load_combined(files, device='cpu').combination)
        ms 1 sar 0.3
    """
    predictors: dict[str, Predictor] = {}
    for path in models:
        predictor = load_predictor(path, None, device, precision)  # ty: ignore[invalid-argument-type]
        if (other := predictors.get(predictor.modality)) is not None:
            raise ModalityError(
                f'{other.description} and {predictor.description} both classify '
                f"'{predictor.modality}': give one file for each modality."
            )
        predictors[predictor.modality] = predictor
    metadata = {m: p.metadata for m, p in predictors.items()}
    for folder in dict.fromkeys(Path(path).parent for path in models):
        if (found := Combination.read(folder / FILE, metadata)) is not None:
            return CombinedPredictor(predictors, found)
    combined = CombinedPredictor(predictors)
    splits = {d.split_hash for d in metadata.values()}
    several = len(splits) > 1
    why = 'they are from different runs' if several else f'no {FILE} is for them'
    warnings.warn(
        f'{", ".join(map(str, models))} have equal weights, because {why}.',
        stacklevel=2,
    )
    return combined


def classify_combined(
    predictor: CombinedPredictor,
    tiles: Sequence[SensorTile],
    output: str | Path,
    *,
    scale: Scale = 'auto',
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
) -> TilesSummary:
    """Classify tiles into a table, with the sensors that each has.

    A row has the probabilities of the classifier of its only sensor, exactly as
    :func:`classify_tiles` writes them, or those of several combined. Two columns say
    which: 'modalities' names those that were used, such as 'ms+sar', and 'unused' the
    others with the reason: 'no tile', 'skipped', or the status that the classifier
    alone would give. An image that is unusual is only used if all are. A tile without
    an image that can be used has the status 'no_modality'; images of the same name
    that share less than half of the smaller outline have 'place'.

    Args:
        predictor: The classifiers.
        tiles: The tiles, from :func:`.match_tiles`.
        output: Table to write: .parquet, .gpkg, .geojson or .csv.
        scale: Unit of the tiles in which backscatter is classified; see
            :func:`classify_tiles`.
        batch_size: Number of images classified at a time.
        workers: Number of threads that read, for each modality.
        min_confidence: Below this confidence, the label is 'uncertain'.
        crs: Coordinate reference system of all outlines.
        max_nodata: An image is not used if at least this share of its pixels is
            missing.
        overwrite: Replace an existing table.
        resume: Continue an interrupted run.
        progress: Show a progress bar.
        nodata: A number in the files of all modalities that stands for missing pixels
            although they do not say so.
        strict: Use no image that is unusual.
        resample: Read images with pixels of the size in training.

    Returns:
        Numbers of tiles by status and by the modalities used, including those of the
        resumed run.

    Raises:
        OutputError: If the table cannot be written.
        OutputExistsError: If it exists.
        OutputInUseError: If another process writes it.
        SettingError: If a setting is unknown, out of range, differs from the run to
            resume, or needs what a classifier file does not say, or if tiles of the run
            to resume have other images now.

    Warns:
        UserWarning: If the bands of the first tiles seem to be swapped, or tiles are
            unusual.

    Example:
        >>> import numpy as np
        >>> import pandas
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.classify import match_tiles
        >>> from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata
        >>> from torchgeo_discomkd.rasters import find_images
        >>> def make(modality):
        ...     images = ModalityMetadata(1, ('B1',), 'unknown', None)
        ...     metadata = ClassifierMetadata(
        ...         'disentangled', 'test_resnet', ('Land', 'Water'),
        ...         {modality: images}, 'linear_bn_relu', 'none', 1.0, {}, None, '', '',
        ...         None, '')
        ...     def compute(images):  # any function from pixels to probabilities
        ...         water = images.mean(axis=(1, 2, 3))
        ...         return np.stack([1 - water, water], axis=1)
        ...     return Predictor(metadata, modality, 'mean', None, 'cpu', compute)
        >>> both = CombinedPredictor({'ms': make('ms'), 'sar': make('sar')})
        >>> with TemporaryDirectory() as folder:
        ...     for name in ('ms/a', 'sar/a', 'sar/b'):
        ...         path = Path(folder, f'{name}.npy')
        ...         path.parent.mkdir(exist_ok=True)
        ...         np.save(path, np.full((1, 8, 8), 0.75, np.float32))
        ...     images = {m: find_images([f'{folder}/{m}']) for m in ('ms', 'sar')}
        ...     output = f'{folder}/tiles.csv'
        ...     classify_combined(
        ...         both, match_tiles(images), output, progress=False).failed
        ...     table = pandas.read_csv(output)
        0
        >>> table[['label', 'modalities', 'unused']].fillna('').values.tolist()
        [['Water', 'ms+sar', ''], ['Water', 'sar', 'ms: no tile']]
    """
    units = {one.unit for one in predictor.predictors.values()}
    backscatter = units & {'dB', 'linear'} or units
    specs = {}
    for modality, one in predictor.predictors.items():
        check_options(one, batch_size, workers, min_confidence)
        specs[modality] = one.tile_spec(
            scale=scale if one.unit in backscatter else 'auto',
            crs=crs,
            max_nodata=max_nodata,
            nodata=nodata,
            strict=strict,
            resample=resample,
        )
    settings = _settings(predictor, specs, tiles, min_confidence)
    summary = TilesSummary(Path(output))
    with (
        only_writer(summary.output),
        PredictionTable(
            *(output, predictor.classes, crs, overwrite, resume),
            settings=settings,
            combined=True,
        ) as table,
    ):

        def classify(done: Collection[str]) -> Iterator[list[Prediction]]:
            _check_finished(done, tiles)
            todo = [tile for tile in tiles if tile.path not in done]
            rows = _rows(predictor, todo, specs, batch_size, workers)
            for some in batched(zip(todo, rows, strict=True), batch_size):
                yield [_combine(predictor, *pair, min_confidence) for pair in some]

        fill_table(table, summary, len(tiles), classify, progress)
    return summary


def _rows(
    predictor: CombinedPredictor,
    tiles: Sequence[SensorTile],
    specs: Mapping[str, TileSpec],
    batch_size: int,
    workers: int,
) -> Iterator[dict[str, Prediction]]:
    """Yield for each tile what the classifiers of its images say."""
    with reading_threads(workers * len(specs)) as pool:
        rows = {}
        for modality, spec in specs.items():
            images = [
                tile.images[modality]
                for tile in tiles
                if modality in tile.images and modality not in tile.skipped
            ]
            one = predictor.predictors[modality]
            # in the same batches as if it classified them alone
            rows[modality] = chain.from_iterable(
                classify_batches(one, images, spec, pool, batch_size, workers, 0)
            )
        for tile in tiles:
            used = [m for m in tile.images if m not in tile.skipped]
            yield {m: next(rows[m]) for m in used}


def _combine(
    predictor: CombinedPredictor,
    tile: SensorTile,
    rows: Mapping[str, Prediction],
    min_confidence: float,
) -> Prediction:
    """Return the row of a tile, from those of its images."""
    usable = {m: row for m, row in rows.items() if row.probabilities is not None}
    used = {m: row for m, row in usable.items() if row.unusual is None} or usable
    reasons = {m: row.status for m, row in rows.items() if m not in used}
    reasons |= {m: f'unusual: {usable[m].unusual}' for m in usable if m not in used}
    reasons |= dict.fromkeys(tile.skipped, 'skipped')
    reasons |= {m: 'no tile' for m in predictor.predictors if m not in tile.images}
    unused = _join({m: reasons.get(m) for m in predictor.predictors}, '; ')
    outlines = [r.footprint for r in (*used.values(), *rows.values()) if r.footprint]
    footprint = outlines[0] if outlines else None
    if not used:
        row = Prediction.missing(tile.path, f'no_modality: {unused}', footprint)
        return replace(row, unused=unused)
    for (one, a), (other, b) in combinations(used.items(), 2):
        if a.footprint is None or b.footprint is None:
            continue
        shared = overlap(a.footprint, b.footprint)
        if shared < _OVERLAP:
            status = f'place: the images of {one} and {other} share {shared:.0%} of '
            status += f'the smaller one, and {_OVERLAP:.0%} are needed'
            return Prediction.missing(tile.path, status, footprint)
    row = Prediction.from_probabilities(
        tile.path,
        predictor.combination.pool({m: r.probabilities or () for m, r in used.items()}),
        predictor.classes,
        # the last of them is not the size of the classifier
        max((r.status for r in used.values()), key=CLASSIFIED.index),
        footprint,
        min_confidence,
    )
    return replace(
        row,
        unusual=_join({m: r.unusual for m, r in used.items()}),
        reading=_join({m: r.reading for m, r in used.items()}),
        modalities='+'.join(used),
        unused=unused,
    )


def _join(texts: Mapping[str, str | None], separator: str = ' | ') -> str | None:
    return separator.join(f'{m}: {text}' for m, text in texts.items() if text) or None


def _check_finished(done: Collection[str], tiles: Sequence[SensorTile]) -> None:
    """Refuse rows of tiles that are no longer there: a new row would double them."""
    if gone := sorted(set(done) - {tile.path for tile in tiles}):
        raise SettingError(
            f'resume: the interrupted run has {len(gone)} tiles with other images than '
            f'there are now, such as {gone[0]}: restore the files, or start again with '
            '--overwrite.'
        )


def _settings(
    predictor: CombinedPredictor,
    specs: Mapping[str, TileSpec],
    tiles: Sequence[SensorTile],
    min_confidence: float,
) -> dict[str, str]:
    """Return what the rows depend on, apart from the files themselves."""
    settings = {'weights': str(predictor.combination)}
    for modality, one in predictor.predictors.items():
        images = [tile.images[modality] for tile in tiles if modality in tile.images]
        of_one = table_settings(one, specs[modality], images, min_confidence)
        settings |= {f'{modality}: {name}': value for name, value in of_one.items()}
    skipped = ''.join(f'{t.path} {sorted(t.skipped)}\n' for t in tiles if t.skipped)
    digest = hashlib.sha256(skipped.encode()).hexdigest()[:16]
    return settings | {'skipped': digest if skipped else ''}
