# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write predictions to tables."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import CombinedLoader
from rich.console import Console
from shapely import MultiPolygon, Polygon
from torch import Tensor

from ..datasets import MultiModalDataset, SARTiles
from ..errors import OutputError, OutputExistsError, SettingError
from ..files import only_writer, remove_abandoned
from ..processes import first_decides
from ..rasters.footprints import make_footprint
from ..tables import Prediction, PredictionTable, TableFormat
from ..tables.prediction import CLASSIFIED
from .classifier_task import ClassifierTask
from .run_folder import run_folder


class _PredictedTile(NamedTuple):
    """A tile of a batch.

    Attributes:
        path: Path, or another name that is unique in the data set.
        status: 'ok', or what is unusual about it.
        footprint: Outline; None if unknown.
        images: Number of its images in the batch, one after the other.
        unusual: How it differs from the tiles of training; None if it does not.
        reading: How the numbers in its files were understood.
    """

    path: str
    status: str = 'ok'
    footprint: Polygon | MultiPolygon | None = None
    images: int = 1
    unusual: str | None = None
    reading: str | None = None


class PredictionWriter(BasePredictionWriter):
    """Write one table per classifier: path, label, confidence, probabilities, outline.

    The tables are ``predictions/<name>.parquet`` in the run folder (or another format),
    the same that ``classify`` writes. Every process writes its rows, batch by batch, to
    files of its own in ``<table>.partial``; when all are there, the first process
    merges them into the table, which appears complete or not at all.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> from torch.utils.data import DataLoader
        >>> from torchgeo_discomkd.callbacks import PredictionWriter
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> tile = torch.rand(2, 32, 32)
        >>> samples = [{'image_sar': tile, 'index': i} for i in range(4)]
        >>> loader = DataLoader(samples, batch_size=4)
        >>> task = FusionClassification({'sar': 2}, num_classes=3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(
        ...         devices=1,
        ...         logger=False,
        ...         enable_progress_bar=False,
        ...         callbacks=[PredictionWriter(folder)],
        ...     )
        ...     _ = trainer.predict(task, loader)  # doctest: +ELLIPSIS
        4 predictions: ...sar.csv
    """

    def __init__(
        self,
        folder: str | None = None,
        format: TableFormat | None = None,
        min_confidence: float = 0.0,
        overwrite: bool = False,
    ) -> None:
        """Initialize a new PredictionWriter instance.

        Args:
            folder: Folder of the tables. Default: 'predictions' in the run folder.
            format: GeoParquet, GeoPackage, GeoJSON or comma-separated values. Default:
                'parquet' for :class:`~torchgeo_discomkd.datasets.SARTiles`, else 'csv'.
            min_confidence: Below this confidence the label is 'uncertain'.
            overwrite: Whether to replace tables of an earlier run.
        """
        super().__init__(write_interval='batch')
        self.folder = folder
        self.format = format
        self.min_confidence = min_confidence
        self.overwrite = overwrite
        self._crs = 'EPSG:4326'
        self._tables: dict[str, PredictionTable] = {}
        self._thresholds: dict[str, tuple[float, ...] | None] = {}
        self._locks = ExitStack()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a table for each classifier.

        Args:
            trainer: The trainer.
            pl_module: The task.

        Raises:
            OutputError: If a table cannot be written.
            OutputExistsError: If a table exists.
            OutputInUseError: If another process writes a table.
            SettingError: If *min_confidence* is set for several labels in a sample.
        """
        task = cast(ClassifierTask, pl_module)
        tiles = _dataset(trainer, 0)
        is_sar = isinstance(tiles, SARTiles)
        suffix = self.format or ('parquet' if is_sar else 'csv')
        self._crs = tiles.spec.crs if is_sar else 'EPSG:4326'
        folder = self.folder or run_folder(trainer) / 'predictions'
        # loggers may have numbered other folders in other processes
        folder = trainer.strategy.broadcast(folder)
        paths = {n: Path(folder) / f'{n}.{suffix}' for n in task.classifier_names()}
        self._thresholds = {name: task.thresholds(name) for name in paths}
        if self.min_confidence > 0 and any(self._thresholds.values()):
            raise SettingError(
                f'min_confidence={self.min_confidence}: a classifier of several labels '
                'has no single confidence. Omit it.'
            )

        def prepare() -> None:
            self._locks.enter_context(only_writer(*paths.values()))
            remove_abandoned(*paths.values())
            self._check_new(paths.values())
            self._open(paths, task.classes, part=0)

        # the first process makes the folders
        first_decides(trainer, prepare)
        if not trainer.is_global_zero:
            self._open(paths, task.classes, part=trainer.global_rank)

    def _open(
        self, paths: Mapping[str, Path], classes: Sequence[str], part: int
    ) -> None:
        for name, path in paths.items():
            several = self._thresholds[name] is not None
            self._tables[name] = PredictionTable(
                path, classes, self._crs, self.overwrite, part=part, several=several
            )

    def _check_new(self, paths: Iterable[Path]) -> None:
        for path in paths:
            for existing in (path, _partial_folder(path)):
                if existing.exists() and not self.overwrite:
                    raise OutputExistsError(
                        f'{existing} exists: move it, choose another '
                        '--trainer.default_root_dir, or replace it with the callback '
                        'PredictionWriter(overwrite=True).'
                    )

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the rows of a batch.

        Args:
            trainer: The trainer.
            pl_module: The task.
            prediction: Probabilities (B, classes) for each classifier.
            batch_indices: Positions in the data set, for batches without an 'index'.
            batch: The batch.
            batch_idx: Not used.
            dataloader_idx: Index of the data loader.

        Raises:
            OutputError: If the rows cannot be written.
            SettingError: If it is unknown which samples the batch has.
        """
        tables = {name: self._tables[name] for name in prediction}
        tiles = self._tiles(trainer, batch, batch_indices, dataloader_idx)
        for name, table in tables.items():
            images = prediction[name].float().cpu().split([t.images for t in tiles])
            rows = zip(tiles, images, strict=True)
            table.write(
                [self._row(*row, table.classes, self._thresholds[name]) for row in rows]
            )

    def _tiles(
        self,
        trainer: Trainer,
        batch: Any,
        indices: Sequence[int] | None,
        dataloader_idx: int,
    ) -> list[_PredictedTile]:
        if 'windows' in batch:
            batch = {**batch, 'images': batch['windows'].tolist()}
            columns = (batch[key] for key in _PredictedTile._fields)
            return [_PredictedTile(*row) for row in zip(*columns, strict=True)]
        if 'index' in batch:
            indices = batch['index'].tolist()
        if not indices:
            raise SettingError(
                "the batch has neither 'windows' nor 'index', and its data loader does "
                "not give positions in the data set: add 'index' to the samples."
            )
        dataset = _dataset(trainer, dataloader_idx)
        if not isinstance(dataset, MultiModalDataset):
            return [_PredictedTile(str(i)) for i in indices]
        return [
            _PredictedTile(
                dataset.identifier(i), footprint=_outline(dataset, i, self._crs)
            )
            for i in indices
        ]

    def _row(
        self,
        tile: _PredictedTile,
        probabilities: Tensor,
        classes: Sequence[str],
        thresholds: Sequence[float] | None,
    ) -> Prediction:
        if tile.status in CLASSIFIED:
            row = Prediction.from_probabilities(
                tile.path,
                probabilities.mean(dim=0).tolist(),
                classes,
                tile.status,
                tile.footprint,
                self.min_confidence,
                thresholds,
            )
        else:
            row = Prediction.missing(tile.path, tile.status, tile.footprint)
        return replace(row, unusual=tile.unusual, reading=tile.reading)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the tables and print where they are.

        Args:
            trainer: The trainer.
            pl_module: The task.

        Raises:
            OutputError: If a table cannot be written; its rows are kept.

        Warns:
            UserWarning: If tiles are unusual.
        """
        self._close()
        trainer.strategy.barrier('rows')
        tables, self._tables = self._tables, {}
        if trainer.is_global_zero:
            with self._locks:
                self._finish(tables.values())

    def _finish(self, tables: Iterable[PredictionTable]) -> None:
        for table in tables:
            statuses = [status for _, status in table.finished()]
            if not statuses:
                # its modality is not in the data
                shutil.rmtree(_partial_folder(table.path))
                continue
            table.warn_of_unusual()
            failed = sum(status not in CLASSIFIED for status in statuses)
            text = f'{len(statuses)} predictions: {table.finish()}'
            if failed:
                text += f' ({failed} without a label, see the column status)'
            Console().print(text, highlight=False, soft_wrap=True)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keep the rows that are finished.

        Args:
            trainer: The trainer.
            pl_module: The task.
            exception: What stopped the prediction.
        """
        # a full disk has been reported already
        if not isinstance(exception, OutputError):
            self._close()
        tables, self._tables = self._tables, {}
        for table in tables.values() if trainer.is_global_zero else ():
            if not any(table.finished()):
                shutil.rmtree(_partial_folder(table.path), ignore_errors=True)
        self._locks.close()

    def _close(self) -> None:
        for table in self._tables.values():
            table.close()


def _dataset(trainer: Trainer, dataloader_idx: int) -> Any:
    """Return a data set that is predicted; None if its loader has none."""
    loaders = CombinedLoader(trainer.predict_dataloaders, 'sequential').flattened
    return getattr(loaders[dataloader_idx], 'dataset', None)


def _outline(
    dataset: MultiModalDataset, index: int, crs: str
) -> Polygon | MultiPolygon | None:
    sizes = {dataset.tile_size(modality) for modality in dataset.modalities}
    place = dataset.georeference(index)
    # if sizes differ, it is unknown to which modality the transform belongs
    if place is None or len(sizes) > 1:
        return None
    return make_footprint(*place, sizes.pop(), crs)


def _partial_folder(path: Path) -> Path:
    return path.with_name(f'{path.name}.partial')
