# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files of a run, as the command line looks after them."""

import zipfile
from itertools import count
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info

from .callbacks.run_folder import run_folder
from .errors import CheckpointError, LayoutError, RunFolderExistsError

#: Checkpoints that Lightning finds itself.
LIGHTNING_CHECKPOINTS = frozenset({'best', 'hpc', 'last', 'registry'})


class RunConfigCallback(SaveConfigCallback):
    """Keep the configuration of a training run in its folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: data that does not fit must not leave a run folder.

        Args:
            trainer: The trainer.
            pl_module: The task.
            stage: Either 'fit', 'validate', 'test' or 'predict'.
        """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml``; evaluating a run does not replace it.

        Another file of that name is kept as ``config.1.yaml``, ``config.2.yaml``, ...

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        # else evaluating a resumed run would take its last weights, not its best files
        self.config = self.config.clone()
        self.config.ckpt_path = None
        path = run_folder(trainer) / self.config_filename
        kept = keep_aside(path)
        super().setup(trainer, pl_module, 'fit')
        if kept is not None:
            if kept.read_bytes() == path.read_bytes():
                kept.unlink()
            else:
                rank_zero_info(f'the {path.name} that was there is {kept} now')


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


def check_checkpoint(checkpoint: str) -> None:
    """Check that a checkpoint on this machine can be one.

    Args:
        checkpoint: Path, URL, or a word that Lightning knows, such as 'last'.

    Raises:
        CheckpointError: If it is missing, truncated, or another kind of file.
    """
    path = Path(checkpoint)
    known = '://' in checkpoint or checkpoint.split(':')[0] in LIGHTNING_CHECKPOINTS
    if known or path.is_dir():
        return
    if not path.is_file():
        raise CheckpointError(
            f'--ckpt_path {path}: there is no such file. Give last.ckpt of a run.'
        )
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f'--ckpt_path {path} is no checkpoint, or it is truncated: give last.ckpt of '
            'a run. Classifier files are for PretrainedClassification and classify.'
        )


def check_run_folder(folder: Path, checkpoint: str | None) -> None:
    """Check that a run will not overwrite another one.

    Args:
        folder: The run folder.
        checkpoint: Checkpoint that the run resumes from.

    Raises:
        RunFolderExistsError: If the folder holds results of a run that is not resumed.
    """
    if checkpoint and Path(checkpoint).resolve().parent == folder.resolve():
        return
    last = folder / 'last.ckpt'
    if last.exists() or (folder / 'best').exists():
        resume = f', or resume: --config {folder}/config.yaml --ckpt_path {last}'
        raise RunFolderExistsError(
            f'{folder} holds a run already. Choose another folder with '
            f'--trainer.default_root_dir{resume if last.exists() else ""}.'
        )


def best_files(folder: Path, students: bool = True) -> dict[str, str]:
    """Return the classifier files of a run.

    Args:
        folder: The run folder.
        students: Whether to include the plain students.

    Returns:
        File for each name; plain students are named '<modality>_student'.

    Raises:
        LayoutError: If the folder has none.
    """
    best = folder / 'best'
    files = {path.stem: str(path) for path in sorted(best.glob('*.safetensors'))}
    if students:
        for path in sorted((best / 'students').glob('*.safetensors')):
            files[f'{path.stem}_student'] = str(path)
    if not files:
        raise LayoutError(
            f'no classifier file in {best}: train first, give --ckpt_path, or name the '
            'folder of a run with --config <folder>/config.yaml.'
        )
    return files
