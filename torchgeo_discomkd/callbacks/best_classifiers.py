# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Keep the best classifier of each modality."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ..models import load_metadata
from ..processes import first_decides
from .classifier_task import ClassifierTask
from .run_folder import check_run_folder, keeps_files, run_folder
from .scored_weights import average_begun, check_averaging

#: Scores that a classifier file keeps.
SCORES = ('F1Score', 'OverallAccuracy', 'AverageAccuracy')


class BestClassifiers(Callback):
    """Write a classifier file whenever its validation score improves.

    Each classifier has its own best epoch, by weighted F1; an equal score is no
    improvement. The file holds the weights that were scored, also if another callback
    has swapped them for the validation, such as an average; before an average has
    begun, nothing is written. The best scores are part of
    the checkpoint and of the files, so a resumed run never replaces a better classifier
    with a worse one in the same folder, from whichever of its checkpoints. Files:
    ``best/<name>.safetensors``, where the name of the control of equal size is
    ``<modality>_same_size``, and ``best/students/<modality>.safetensors`` for plain
    students.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchgeo_discomkd.callbacks import BestClassifiers
        >>> best = BestClassifiers()
        >>> trainer = Trainer(default_root_dir='runs/quickstart', logger=False)
        >>> best.path(trainer, 'sar').as_posix()
        'runs/quickstart/best/sar.safetensors'
        >>> best.path(trainer, 'sar_student').as_posix()
        'runs/quickstart/best/students/sar.safetensors'
    """

    def __init__(self) -> None:
        """Initialize a new BestClassifiers instance."""
        self.scores: dict[str, float] = {}
        self.epochs: dict[str, int] = {}
        self._untrained = False

    def state_dict(self) -> dict[str, Any]:
        """Return best scores and their epochs."""
        return {'scores': dict(self.scores), 'epochs': dict(self.epochs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore best scores and their epochs.

        Args:
            state_dict: What :meth:`state_dict` returned.
        """
        self.scores = dict(state_dict['scores'])
        self.epochs = dict(state_dict['epochs'])

    def path(self, trainer: Trainer, name: str) -> Path:
        """Return the file of a classifier.

        Args:
            trainer: The trainer.
            name: Name of the classifier.

        Returns:
            The file; it need not exist yet.
        """
        best = run_folder(trainer) / 'best'
        if name.endswith('_student'):
            best, name = best / 'students', name.removesuffix('_student')
        return best / f'{name}.safetensors'

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse averages of weights that no validation would score.

        Args:
            trainer: The trainer.
            pl_module: The task.
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Raises:
            SettingError: If StochasticWeightAveraging averages after the last one.
        """
        self._untrained = False
        if stage == 'fit' and keeps_files(trainer):
            check_averaging(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to overwrite the classifiers of another run, or better ones of this.

        Args:
            trainer: The trainer.
            pl_module: The task.

        Raises:
            ClassifierFileError: If a file of this run is damaged.
            RunFolderExistsError: If the run is not resumed and its folder holds another
                one.
        """
        if not keeps_files(trainer):
            return
        folder = run_folder(trainer)
        # resumed in another folder: the old files are not here, so write new ones
        paths = {name: self.path(trainer, name) for name in self.scores}
        for name in first_decides(
            trainer, lambda: [n for n, path in paths.items() if not path.exists()]
        ):
            del self.scores[name], self.epochs[name]
        if not self.scores:
            first_decides(trainer, lambda: check_run_folder(folder, trainer.ckpt_path))
        task = cast(ClassifierTask, pl_module)
        names = [*task.classifier_names(), *task.comparison_names()]
        better = first_decides(trainer, lambda: self._better_files(trainer, names))
        for name, (score, epoch) in better.items():
            self.scores[name], self.epochs[name] = score, epoch
            rank_zero_info(
                f'{self.path(trainer, name)} is kept until its score is exceeded: '
                f'{score:.4f}, of epoch {epoch}, is better than those of the checkpoint'
            )

    def _better_files(
        self, trainer: Trainer, names: Iterable[str]
    ) -> dict[str, tuple[float, int]]:
        """Return scores and epochs of files that a later part of this run has written.

        It goes on from an earlier checkpoint, or was stopped in the middle of an epoch.
        """
        found = {}
        for name in names:
            if (path := self.path(trainer, name)).exists():
                metadata = load_metadata(path)
                score, epoch = metadata.scores.get('val_F1Score'), metadata.epoch
                known = score is not None and epoch is not None
                if known and score > self.scores.get(name, -1.0):
                    found[name] = score, epoch
        return found

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the classifiers that have improved.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        fitting = trainer.state.fn == TrainerFn.FITTING
        if trainer.sanity_checking or not fitting or not keeps_files(trainer):
            return
        if not average_begun(trainer):
            self._untrained = True
            return
        task, metrics = cast(ClassifierTask, pl_module), trainer.callback_metrics
        for name in [*task.classifier_names(), *task.comparison_names()]:
            value = metrics.get(f'val_{name}_F1Score')
            # a first score of 0 is written too: a run should never end without a file
            if value is not None and float(value) > self.scores.get(name, -1.0):
                self.scores[name] = float(value)
                self.epochs[name] = trainer.current_epoch
                if trainer.is_global_zero:
                    scores = {
                        f'val_{k}': float(metrics[f'val_{name}_{k}']) for k in SCORES
                    }
                    path = self.path(trainer, name)
                    with task.scored.restored(pl_module):
                        task.save_classifier(name, path, scores, trainer.current_epoch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if no classifier was written, because an average never began.

        Args:
            trainer: The trainer.
            pl_module: The task.

        Warns:
            UserWarning: If so.
        """
        if self._untrained and not self.scores:
            rank_zero_warn(
                'no classifier file was written, because the average of '
                'WeightAveraging began before no validation: train longer, let it '
                'start earlier, or, if the callback has served another training, '
                'create a new one.'
            )


def best_classifiers(trainer: Trainer) -> BestClassifiers:
    """Return the callback of a trainer that keeps the best classifiers.

    Args:
        trainer: The trainer.
    """
    return next(c for c in trainer.callbacks if isinstance(c, BestClassifiers))  # ty: ignore[missing-attribute]
