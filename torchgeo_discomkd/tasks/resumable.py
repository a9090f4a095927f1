# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A task whose checkpoints only fit the run that they are from."""

import warnings
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn

from ..datasets.classes import same_classes
from ..errors import CheckpointError, LabelError, ModalityError
from .division import check_division, note_division
from .layer_rates import check_same_decay
from .resumed_settings import check_same_settings, warn_of_other_rates
from .watched import WatchedTask


class ResumableTask(WatchedTask):
    """What a checkpoint says about its run, and what must be the same to go on.

    Attributes:
        split_hash: Hash of the training split; empty if there is none.
    """

    split_hash: str = ''

    _resumed: Sequence[dict[str, Any]] = ()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record modalities, classes and split in the checkpoint.

        Args:
            checkpoint: The checkpoint.

        Raises:
            NonFiniteError: If losses or weights are not finite.
        """
        super().on_save_checkpoint(checkpoint)
        checkpoint['in_channels'] = dict(self.in_channels)
        checkpoint['classes'] = list(self.classes)
        checkpoint['split_hash'] = self.split_hash
        if self._trainer is not None:
            checkpoint['division'] = note_division(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint has the same modalities, and join its classes.

        Args:
            checkpoint: The checkpoint.

        Raises:
            CheckpointError: If it is from another network, or training is resumed
                with other frozen encoders, learning rates or normalisation, or by
                other processes with other batches.
            LabelError: If it has other classes than the data to train on, or does not
                know a class of the data to evaluate.
            ModalityError: If it has other modalities.
        """
        in_channels = checkpoint.get('in_channels', self.in_channels)
        # their order gives the indices of the modalities
        if list(in_channels.items()) != list(self.in_channels.items()):
            raise ModalityError(
                f'the checkpoint has in_channels={in_channels}, but the task has '
                f'{self.in_channels}: use the configuration of its run.'
            )
        if classes := checkpoint.get('classes'):
            self._restore_classes(classes)
        if self.split_hash not in {'', checkpoint.get('split_hash', '')}:
            warnings.warn(
                'the checkpoint was trained on another training split: its scores are '
                'not comparable with those that follow.',
                stacklevel=2,
            )
        saved = checkpoint.get('hyper_parameters', {}).get('task', 'multiclass')
        if saved != self.task:
            raise CheckpointError(
                f'the checkpoint is of task={saved!r}, but the task is {self.task!r}: '
                f'set --model.task {saved}, as in the configuration of its run.'
            )
        self._check_network(checkpoint)
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            check_division(self.trainer, checkpoint.get('division'))
        if self._trainer is not None and self._trainer.training:
            self._check_settings(checkpoint)
        super().on_load_checkpoint(checkpoint)

    def _check_settings(self, checkpoint: dict[str, Any]) -> None:
        check_same_decay(checkpoint, self.hparams)
        fixed = ['normalization']
        if self.optimizer_replaced:
            self._resumed = checkpoint.get('optimizer_states', ())
        else:
            fixed.append('lr')
        began = checkpoint.get('hyper_parameters', {})
        check_same_settings(began, self.hparams, fixed)

    @property
    def optimizer_replaced(self) -> bool:
        """Whether Lightning's command line has set another one, for --optimizer."""
        return 'configure_optimizers' in vars(self)

    def on_fit_start(self) -> None:
        """Warn if an optimizer of the command line resumes with another learning rate.

        Warns:
            UserWarning: If the optimizer of the checkpoint has another one.
        """
        super().on_fit_start()
        trainer = self.trainer
        scheduled = bool(trainer.lr_scheduler_configs)
        warn_of_other_rates(self._resumed, trainer.optimizers, scheduled)
        self._resumed = ()

    def _restore_classes(self, classes: Sequence[str]) -> None:
        if len(classes) != self.hparams['num_classes']:
            raise LabelError(
                f'the checkpoint has the classes {classes}, but the task has '
                f'num_classes={self.hparams["num_classes"]}: use the configuration of '
                'its run.'
            )
        if self._evaluated is None:
            # data without classes, such as tiles to predict
            self.classes = tuple(classes)
        elif self.trainer.state.fn != TrainerFn.FITTING:
            self.join_classes(classes)
        elif not same_classes(classes, self.classes):
            raise LabelError(
                f'the checkpoint has the classes {classes}, but the data has '
                f'{list(self.classes)}: resume with the data of its run, or train from '
                'scratch.'
            )
        self.trained_classes = tuple(classes)

    def _check_network(self, checkpoint: dict[str, Any]) -> None:
        saved, own = checkpoint['state_dict'], self.state_dict()
        if {k: v.shape for k, v in saved.items()} == {
            k: v.shape for k, v in own.items()
        }:
            return
        settings = checkpoint.get('hyper_parameters', {})
        changed = [
            f'{name}={value!r}, not {self.hparams[name]!r}'
            for name, value in settings.items()
            if name in self.hparams and self.hparams[name] != value
        ]
        raise CheckpointError(
            f'the checkpoint is from another network than that of the task '
            f'({"; ".join(changed) or "other weights"}): use the configuration of its '
            'run.'
        )
