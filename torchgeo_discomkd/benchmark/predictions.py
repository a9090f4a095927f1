# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Predictions of every test sample, which intervals are resampled from."""

import gzip
import zlib
from collections.abc import Hashable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datamodules import MultiModalDataModule
from ..datasets import MultiModalDataset
from ..datasets.multilabel import label_names
from ..datasets.splits import read_groups
from ..datasets.stored import StoredDataset
from ..errors import CorruptFileError, SettingError
from ..files import write_atomically
from ..tables.prediction import SEPARATOR
from ..tables.text import cell_text, read_cell
from ..tasks import PretrainedClassification
from .config import BenchmarkConfig

#: Name of the file in the folder of a training.
FILE = 'test_predictions.csv'

#: Name of the file in the folder of a benchmark that joins those of all trainings.
JOINED = 'predictions.csv.gz'

#: Columns of the file of a training; the last ones are classes, by name.
COLUMNS = ['modality', 'sample', 'group', 'label', 'prediction']


class RecordedClassification(PretrainedClassification):
    """Scores classifier files and keeps what they predict for each test sample."""

    def on_test_start(self) -> None:
        """Begin a new record."""
        super().on_test_start()
        self._record: list[pd.DataFrame] = []

    def evaluate(self, batch: Sample, stage: str) -> dict[str, Tensor]:
        """Classify a batch, see :class:`PretrainedClassification`.

        Args:
            batch: 'image_<modality>' raw values, float32 (B, C, H, W); 'label' and
                'index', int64 (B,).
            stage: Either 'val', 'test' or 'predict'.

        Returns:
            Logits (B, classes) by name.
        """
        logits = super().evaluate(batch, stage)
        if stage == 'test':
            for name in self.classifier_names():
                columns = {
                    'index': batch['index'].cpu(),
                    'label': self._names(batch['label'].cpu()),
                    'prediction': self._names(self._predicted(name, logits[name])),
                }
                self._record.append(pd.DataFrame({'modality': name, **columns}))
        return logits

    def _predicted(self, name: str, logits: Tensor) -> Tensor:
        """Return class or labels of each sample, as a batch has them."""
        if self.thresholds(name) is None:
            return logits.argmax(1).cpu()
        return (self.decisions(name, logits.float()) > 0.5).long().cpu()

    def _names(self, labels: Tensor) -> list[str]:
        if self.task == 'multilabel':
            return [SEPARATOR.join(label_names(row, self.classes)) for row in labels]
        return [self.classes[label] for label in labels.tolist()]

    def predictions(self, groups: list[str] | None) -> pd.DataFrame:
        """Return the record of the last test.

        Args:
            groups: Group of each sample of the test split; None if it has none.

        Returns:
            A row for each classifier and sample, with :data:`COLUMNS`.
        """
        dataset = cast(MultiModalDataset, self.trainer.datamodule.test_dataset)  # ty: ignore[missing-attribute]
        frame = pd.concat(self._record, ignore_index=True)
        index = frame.pop('index')
        frame['sample'] = index.map(dataset.identifier)
        frame['group'] = '' if groups is None else index.map(groups.__getitem__)
        return frame[COLUMNS].sort_values(['modality', 'sample'])


def group_column(config: BenchmarkConfig) -> str | None:
    """Return the column of groups to resample; None without groups.

    Args:
        config: The configuration.
    """
    args = config.data.get('init_args') or {}
    if config.resample_by is None and args.get('split_scheme') == 'groups':
        return args.get('group_column', 'group')
    return config.resample_by


def sample_groups(
    datamodule: MultiModalDataModule, dataset: MultiModalDataset, column: str
) -> list[str]:
    """Return the group of each sample.

    Args:
        datamodule: The data module, which has a table of groups.
        dataset: One of its data sets.
        column: Column of the table.

    Raises:
        SettingError: If there is no table.
        SplitError: If the table has no such column, or lacks samples.
    """
    name, table = str(datamodule.kwargs.get('groups') or ''), None
    if isinstance(dataset, StoredDataset):
        table = dataset.store.read_table(name)
    if table is None:
        raise SettingError(
            f'resample_by={column}: the data have no table of groups. Name a CSV file '
            'with this column as data.init_args.groups.'
        )
    parts = [dataset.identifier(i).partition('/') for i in range(len(dataset))]
    return read_groups(table, name, column, [(c, stem) for c, _, stem in parts])


def write_predictions(folder: Path, frame: pd.DataFrame) -> None:
    """Write the predictions of a training into its folder.

    Args:
        folder: The folder.
        frame: A row for each classifier and sample, with :data:`COLUMNS`.
    """
    write_atomically(folder / FILE, _text(frame))


def read_predictions(folder: Path) -> pd.DataFrame | None:
    """Read the predictions of a training.

    Args:
        folder: Its folder.

    Returns:
        A row for each classifier and sample; None if there is no file, as in folders
        of earlier versions.

    Raises:
        CorruptFileError: If the file cannot be read.
    """
    return _read(folder / FILE, COLUMNS)


class KeptPredictions:
    """Predictions of all trainings of a benchmark.

    The folder of a training has its own. Where that is not kept, they are taken from
    the file that joins all, so that results can be copied without classifiers.
    """

    def __init__(self, folder: Path) -> None:
        """Initialize.

        Args:
            folder: Folder of the benchmark.
        """
        self.folder = folder

    def read(self, run: int, training: str) -> pd.DataFrame | None:
        """Read the predictions of a training.

        Args:
            run: Number of its run.
            training: Its name.

        Returns:
            A row for each classifier and sample, with :data:`COLUMNS`; None if they
            are not kept.

        Raises:
            CorruptFileError: If a file cannot be read.
        """
        frame = read_predictions(self.folder / 'runs' / f'run{run}' / training)
        return self._joined.get((f'{run}', training)) if frame is None else frame

    def join(self, trainings: Iterable[tuple[int, str]]) -> bytes | None:
        """Return the content of the file that joins the predictions of all.

        Args:
            trainings: Run and name of each training.

        Returns:
            The content; None if no predictions are kept.
        """
        found = {key: self.read(*key) for key in dict.fromkeys(trainings)}
        frames = [
            frame[COLUMNS].assign(run=run, training=name)
            for (run, name), frame in found.items()
            if frame is not None
        ]
        if not frames:
            return None
        # no time: the same predictions are the same file
        return gzip.compress(_text(pd.concat(frames)), mtime=0)

    @cached_property
    def _joined(self) -> dict[Hashable, pd.DataFrame]:
        frame = _read(self.folder / JOINED, [*COLUMNS, 'run', 'training'])
        if frame is None:
            return {}
        return dict(iter(frame.groupby(['run', 'training'])))


def _text(frame: pd.DataFrame) -> bytes:
    # names of samples and classes may begin like formulas
    cells = frame.map(lambda value: cell_text(f'{value}'))
    return cells.to_csv(index=False).encode()


def _read(path: Path, columns: list[str]) -> pd.DataFrame | None:
    if not path.exists():
        return None
    settings: dict[str, Any] = {'dtype': str, 'keep_default_na': False}
    try:
        return pd.read_csv(path, usecols=columns, **settings).map(read_cell)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(
            f'{path} is damaged ({error}): remove it, and the report is written '
            'without it.'
        ) from error
