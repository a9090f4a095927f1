# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoint to resume from."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from .run_folder import keeps_files, run_folder


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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        if keeps_files(trainer):
            path = run_folder(trainer) / 'last.ckpt'
            trainer.save_checkpoint(path, weights_only=False)
