# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoint to resume from."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from ..files import open_atomically
from .run_folder import keeps_files, run_folder


class DirectCheckpointIO(TorchCheckpointIO):
    """Write checkpoints straight to the disk.

    Lightning writes a checkpoint into memory first: with Adam, three times the size of
    the weights, at every epoch.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint completely or not at all.

        Args:
            checkpoint: Everything to keep.
            path: A file; what is not on this machine is left to Lightning.
            storage_options: As for Lightning, which accepts none.

        Raises:
            OSError: If the file cannot be written.
            TypeError: If there are *storage_options*.
        """
        if storage_options is not None or '://' in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with open_atomically(Path(path)) as file:
            torch.save(checkpoint, file)


class LastCheckpoint(Checkpoint):
    """Write ``last.ckpt`` after every epoch, with all that is needed to resume.

    Lightning's ModelCheckpoint copies its last checkpoint only at a new best score, and
    a task cannot return one without dropping the user's own.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> from torchgeo_discomkd.callbacks import LastCheckpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(
        ...         default_root_dir=folder,
        ...         devices=1,
        ...         max_steps=1,
        ...         limit_val_batches=1,
        ...         logger=False,
        ...         enable_progress_bar=False,
        ...         enable_model_summary=False,
        ...         callbacks=[LastCheckpoint()],
        ...     )
        ...     trainer.fit(BoringModel())
        ...     print([path.name for path in Path(folder).iterdir()])
        ['last.ckpt']
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write checkpoints without a copy in memory, unless the user has a plugin.

        Args:
            trainer: The trainer.
            pl_module: The task.
            stage: Either 'fit', 'validate', 'test' or 'predict'.
        """
        strategy = trainer.strategy
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = DirectCheckpointIO()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        if keeps_files(trainer):
            path = run_folder(trainer) / 'last.ckpt'
            trainer.save_checkpoint(path, weights_only=False)
