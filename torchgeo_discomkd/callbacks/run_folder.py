# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where a run keeps its files."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of a run: that of the first logger, or the trainer's root.

    Args:
        trainer: The trainer.

    Returns:
        The folder; it need not exist yet.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def keeps_files(trainer: Trainer) -> bool:
    """Return whether this run writes files at all: not with ``fast_dev_run``.

    Args:
        trainer: The trainer.
    """
    return not trainer.fast_dev_run  # ty: ignore[missing-attribute]
