# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where a run keeps its files."""

import pickle
import zipfile
from pathlib import Path
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities import rank_zero_info

from ..errors import CheckpointError, LayoutError, RunFolderExistsError
from ..models.checkpoint_file import UNREADABLE, find_damage, find_mistake, read_plain
from ..models.modalities import is_comparison
from ..processes import first_decides

#: Checkpoints that Lightning finds by itself.
LIGHTNING_CHECKPOINTS = frozenset({'best', 'hpc', 'last', 'registry'})

#: The folder in which each trainer has trained.
_trained: WeakKeyDictionary[Trainer, Path] = WeakKeyDictionary()


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of a run.

    It is that of the first TensorBoard or CSV logger, which have a folder for each run.
    Other loggers may share theirs: a training with them, or without any, is kept in the
    *default_root_dir* that the trainer was given. If it was given none, or one that
    other loggers have filled with another run, the run gets a new folder
    ``version_<n>``, in ``lightning_logs`` or in the one given. A trainer class with a
    *log_dir* of its own decides itself.

    Args:
        trainer: The trainer. In a training of several processes, all must ask before
            one does alone.

    Returns:
        The folder; it need not exist yet.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchgeo_discomkd.callbacks import run_folder
        >>> trainer = Trainer(default_root_dir='runs/quickstart', logger=False)
        >>> run_folder(trainer).as_posix()
        'runs/quickstart'
    """
    if type(trainer).log_dir is not Trainer.log_dir:
        return Path(str(trainer.log_dir))
    if trainer in _trained:
        return _trained[trainer]
    trains = trainer.state.fn == TrainerFn.FITTING and keeps_files(trainer)
    if not trains or trainer.state.status == TrainerStatus.INTERRUPTED:
        # asked by one process alone, perhaps, and no new folder is needed
        return _choose(trainer, new=False)
    # one process takes a number, for all
    _trained[trainer] = first_decides(trainer, lambda: _choose(trainer, new=True))
    return _trained[trainer]


def _choose(trainer: Trainer, new: bool) -> Path:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger | CSVLogger):
            return Path(logger.log_dir)
    root = Path(trainer.default_root_dir)
    given = Path(trainer.default_root_dir) != Path.cwd()
    if not new or (given and not trainer.loggers):
        return root
    numbered = root if given else root / 'lightning_logs'
    if trainer.ckpt_path is not None:
        folder = Path(trainer.ckpt_path).absolute().parent
        if root.absolute() == folder or numbered.absolute() == folder.parent:
            return folder
    if given and not holds_run(root):
        return root
    folder = _new_folder(numbered)
    rank_zero_info(f'This run is kept in {folder}')
    return folder


def _new_folder(parent: Path) -> Path:
    number = 0
    while True:
        folder = parent / f'version_{number}'
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


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


def holds_run(folder: Path) -> bool:
    """Return whether a folder has a checkpoint or a classifier file of a run.

    Args:
        folder: A folder.
    """
    best = (folder / 'best').rglob('*.safetensors')
    return (folder / 'last.ckpt').exists() or any(best)


def check_run_folder(folder: Path, checkpoint: str | Path | None) -> None:
    """Check that a run will not overwrite another one.

    Args:
        folder: The run folder.
        checkpoint: Checkpoint that the run resumes from.

    Raises:
        RunFolderExistsError: If the folder holds results of a run that is not resumed.
    """
    if checkpoint and Path(checkpoint).resolve().parent == folder.resolve():
        return
    if holds_run(folder):
        last = folder / 'last.ckpt'
        if last.exists():
            more = f', or resume: --config {folder}/config.yaml --ckpt_path {last}.'
        else:
            # killed between the first classifier file and the end of the first epoch
            more = (
                f'. Without {last} nothing can be resumed: if this run was stopped in '
                f'its first epoch, remove {folder / "best"} and train again.'
            )
        raise RunFolderExistsError(
            f'{folder} already holds a run. Choose another folder with '
            '--trainer.default_root_dir (in Python, default_root_dir or a new logger '
            f'for each run){more}'
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
