# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The configuration of a run, kept in its folder."""

from itertools import count
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info

from .run_folder import run_folder


class RunConfigCallback(SaveConfigCallback):
    """Keep the configuration of a training run in its folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: data that does not fit must not leave a run folder behind.

        Args:
            trainer: The trainer.
            pl_module: The task.
            stage: Either 'fit', 'validate', 'test' or 'predict'.
        """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml``; evaluating a run does not replace it.

        A different file of that name is kept as ``config.1.yaml``, ``config.2.yaml``...

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        # else evaluating a resumed run would use its last weights, not its best files
        self.config = self.config.clone()
        self.config.ckpt_path = None
        path = run_folder(trainer) / self.config_filename
        kept = keep_aside(path)
        super().setup(trainer, pl_module, 'fit')
        if kept is not None:
            if kept.read_bytes() == path.read_bytes():
                kept.unlink()
            else:
                rank_zero_info(f'the previous {path.name} is now {kept}')


def keep_aside(path: Path) -> Path | None:
    """Copy a file to the first free name with a number.

    Args:
        path: The file.

    Returns:
        The copy; None if there is no file.
    """
    if not path.is_file():
        return None
    copies = (path.with_suffix(f'.{number}{path.suffix}') for number in count(1))
    copy = next(copy for copy in copies if not copy.exists())
    copy.write_bytes(path.read_bytes())
    return copy
