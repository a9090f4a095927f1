# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where a run keeps its files."""

import pickle
import zipfile
from pathlib import Path

from lightning.pytorch import Trainer

from ..errors import CheckpointError, LayoutError, RunFolderExistsError
from ..models.checkpoint_file import UNREADABLE, find_damage, find_mistake, read_plain
from ..models.modalities import is_comparison

#: Checkpoints that Lightning finds by itself.
LIGHTNING_CHECKPOINTS = frozenset({'best', 'hpc', 'last', 'registry'})


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of a run: that of the first logger, or the trainer's root.

    Args:
        trainer: The trainer.

    Returns:
        The folder; it need not exist yet.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchgeo_discomkd.callbacks import run_folder
        >>> trainer = Trainer(default_root_dir='runs/quickstart', logger=False)
        >>> run_folder(trainer).as_posix()
        'runs/quickstart'
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def keeps_files(trainer: Trainer) -> bool:
    """Return whether this run writes files at all: not with ``fast_dev_run``.

    Args:
        trainer: The trainer.
    """
    return not trainer.fast_dev_run  # ty: ignore[missing-attribute]


def check_checkpoint(checkpoint: str, training: bool = False) -> None:
    """Check that a checkpoint on this machine can be one.

    Args:
        checkpoint: Path, URL, or a word that Lightning knows, such as 'last'.
        training: Whether it is to be resumed, not only evaluated.

    Raises:
        CheckpointError: If it is missing, damaged, or another kind of file.
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
            f'--ckpt_path {path} is not a checkpoint, or is truncated: give last.ckpt '
            'of a run. Classifier files are for PretrainedClassification and classify.'
        )
    if (problem := find_damage(path) or _find_mistake(path, training)) is not None:
        raise CheckpointError(
            f'--ckpt_path {path} is damaged or not a checkpoint of Lightning '
            f'({problem}): give last.ckpt of a run, or copy it again.'
        )


def _find_mistake(path: Path, training: bool) -> str | None:
    try:
        content = read_plain(path)
    except pickle.UnpicklingError:
        # more than plain values, from other callbacks: Lightning reads it
        return None
    except UNREADABLE as error:
        return str(error)
    mistake = find_mistake(content)
    if mistake is None and training:
        missing = {'optimizer_states', 'lr_schedulers', 'loops'} - set(content)
        return f'it lacks {sorted(missing)}' if missing else None
    return mistake


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
            f'{folder} already holds a run. Choose another folder with '
            f'--trainer.default_root_dir{resume if last.exists() else ""}.'
        )


def best_files(folder: Path, students: bool = True) -> dict[str, str]:
    """Return the classifier files of a run.

    Args:
        folder: The run folder.
        students: Whether to include what was trained for comparison.

    Returns:
        Path of the file by name; plain students are named '<modality>_student',
        controls of equal size '<modality>_same_size'.

    Raises:
        LayoutError: If the folder has none.
    """
    best = folder / 'best'
    files = {path.stem: str(path) for path in sorted(best.glob('*.safetensors'))}
    if not students:
        files = {name: path for name, path in files.items() if not is_comparison(name)}
    else:
        for path in sorted((best / 'students').glob('*.safetensors')):
            files[f'{path.stem}_student'] = str(path)
    if not files:
        raise LayoutError(
            f'no classifier file in {best}: train first, give --ckpt_path, or name the '
            'folder of a run with --config <folder>/config.yaml.'
        )
    return files
