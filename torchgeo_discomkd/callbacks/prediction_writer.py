# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write predictions to tables."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from rich.console import Console
from torch import Tensor

from ..datasets import MultiModalDataset
from ..errors import RunFolderExistsError
from .run_folder import run_folder

if TYPE_CHECKING:
    from ..tasks import MultiModalTask


class PredictionWriter(BasePredictionWriter):
    """Write one CSV table per classifier: sample, label, confidence, probabilities.

    Rows are written batch by batch to ``predictions/<name>.csv.partial`` in the run
    folder, which loses its ending when all are there.
    """

    def __init__(self, folder: str | None = None) -> None:
        """Initialize a new PredictionWriter instance.

        Args:
            folder: Folder of the tables. Default: 'predictions' in the run folder.
        """
        super().__init__(write_interval='batch')
        self.folder = folder
        self._files: dict[str, TextIO] = {}
        self._rows: dict[str, int] = {}

    def _folder(self, trainer: Trainer) -> Path:
        return Path(self.folder) if self.folder else run_folder(trainer) / 'predictions'

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to overwrite tables.

        Args:
            trainer: The trainer.
            pl_module: The task.

        Raises:
            RunFolderExistsError: If a table exists.
        """
        existing = sorted(self._folder(trainer).glob('*.csv'))
        if existing:
            raise RunFolderExistsError(
                f'{existing[0]} exists: move it away, or choose another '
                '--trainer.default_root_dir.'
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
            batch_indices: Not used: the batch has its own 'index'.
            batch: The batch.
            batch_idx: Not used.
            dataloader_idx: Not used.
        """
        dataset = getattr(trainer.datamodule, 'predict_dataset', None)  # ty: ignore[missing-attribute]
        for name, probabilities in prediction.items():
            first = self._rows.get(name, 0)
            rows = range(first, first + len(probabilities))
            indices = batch['index'].tolist() if 'index' in batch else rows
            name_of = (
                dataset.identifier if isinstance(dataset, MultiModalDataset) else str
            )
            samples = [name_of(i) for i in indices]
            self._write(trainer, pl_module, name, samples, probabilities)  # ty: ignore[invalid-argument-type]

    def _write(
        self,
        trainer: Trainer,
        task: 'MultiModalTask',
        name: str,
        samples: list[str],
        probabilities: Tensor,
    ) -> None:
        if name not in self._files:
            path = self._folder(trainer) / f'{name}.csv.partial'
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[name] = path.open('w', newline='')
            self._rows[name] = 0
            header = ['sample', 'label', 'confidence', *task.classes]
            csv.writer(self._files[name]).writerow(header)
        rows = csv.writer(self._files[name])
        for sample, row in zip(samples, probabilities.tolist(), strict=True):
            confidence = max(row)
            label = task.classes[row.index(confidence)]
            values = [f'{p:.6f}' for p in (confidence, *row)]
            rows.writerow([sample, label, *values])
        self._rows[name] += len(samples)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the tables and say where they are.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        for name, file in self._files.items():
            file.close()
            partial = Path(file.name)
            path = partial.rename(partial.with_suffix(''))
            Console().print(
                f'{self._rows[name]} predictions: {path}',
                highlight=False,
                soft_wrap=True,
            )
        self._files.clear()
        self._rows.clear()
