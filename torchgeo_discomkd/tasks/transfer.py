# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transfer between paired samples: which modality guides the others, and from when."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..callbacks.scored_weights import average_begun
from ..errors import ModalityError, SettingError
from ..losses import embedding_transfer_loss, prediction_transfer_loss
from ..models import DisCoMKDOutput
from .training import MultiModalTrainingTask

#: Settings that only count with ``transfer``, and their defaults.
SETTINGS = {
    'transfer_guide': None,
    'transfer_warmup': 1,
    'transfer_temperature': 4.0,
    'prediction_transfer_weight': 0.5,
    'embedding_transfer_weight': 1.0,
}


class Transfer:
    """The guide, which is named or chosen once, and the warm-up without transfer.

    Attributes:
        guide: The modality that guides the others; None until it is chosen.
        modalities: All modalities.
        named: Whether the guide is set by the user.
        warmup: Number of epochs without transfer.
        scores: Weighted F1 of the modalities in the last validation before the choice.
        began: Whether a guide has been active in this training.
    """

    def __init__(
        self, modalities: Sequence[str], guide: str | None, warmup: int
    ) -> None:
        """Initialize a new Transfer instance.

        Args:
            modalities: All modalities.
            guide: The guide; None to choose the best one.
            warmup: Number of epochs without transfer.

        Raises:
            ModalityError: If the guide is not a modality.
            SettingError: If the guide is to be chosen without a warm-up, or *warmup*
                is negative.
        """
        if guide is not None and guide not in modalities:
            raise ModalityError(
                f'transfer_guide={guide!r}: name one of {list(modalities)}.'
            )
        if warmup < 0:
            raise SettingError(f'transfer_warmup={warmup}: give 0 or more epochs.')
        if guide is None and warmup == 0:
            raise SettingError(
                'transfer_warmup=0: the guide is chosen by the validation at the end '
                'of the warm-up. Name it, --model.transfer_guide, or warm up for an '
                'epoch or more.'
            )
        self.modalities = tuple(modalities)
        self.named = guide is not None
        self.guide = guide
        self.warmup = warmup
        self.scores: dict[str, float] = {}
        self.began = False

    def active_guide(self, epoch: int) -> str | None:
        """Return the guide of an epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            The guide; None during the warm-up and until it is chosen.
        """
        return self.guide if epoch >= self.warmup else None

    def check(self, trainer: Trainer) -> None:
        """Check, before training, that it will come to a transfer.

        Args:
            trainer: The trainer.

        Raises:
            SettingError: If nothing is validated that would choose the guide, or all
                epochs are warm-up.
        """
        if not self.named and not trainer.enable_validation:
            raise SettingError(
                'transfer: without validation no guide can be chosen. Name it, '
                f'--model.transfer_guide, one of {list(self.modalities)}; or validate.'
            )
        first = self.warmup
        if not self.named:
            first = max(first, trainer.check_val_every_n_epoch or 1)
        epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        if 0 <= epochs <= first and not trainer.fast_dev_run:  # ty: ignore[missing-attribute]
            raise SettingError(
                f'transfer would begin after {first} epochs, but training ends after '
                f'{epochs}: train longer, --trainer.max_epochs, or set '
                '--model.transfer_warmup (0 with a --model.transfer_guide).'
            )

    def record(self, metrics: Mapping[str, Any]) -> None:
        """Keep the scores of a validation, as long as no guide is chosen.

        Args:
            metrics: The scores by name, such as 'val_<modality>_F1Score'.
        """
        if self.guide is None:
            self.scores = {
                m: float(metrics[key])
                for m in self.modalities
                if (key := f'val_{m}_F1Score') in metrics
            }

    def choose(self, epoch: int) -> None:
        """Choose the guide at the end of the warm-up, once and for all.

        The best score of the last validation wins, and the first modality in a tie.

        Args:
            epoch: Number of the epoch that ends, from 0.

        Raises:
            SettingError: If the validation has scored some of the modalities only.
        """
        if self.guide is not None or epoch < self.warmup - 1:
            return
        scores = self.scores
        if not scores:
            # validation is less frequent: the next one chooses
            return
        if len(scores) < len(self.modalities):
            raise SettingError(
                f'transfer: validation scored {list(scores)} of '
                f'{list(self.modalities)}, so no guide can be chosen. Name it, '
                '--model.transfer_guide.'
            )
        self.guide = max(scores, key=lambda m: scores[m])
        text = ', '.join(f'{m} {score:.4f}' for m, score in scores.items())
        others = [m for m in self.modalities if m != self.guide]
        rank_zero_info(
            f'transfer: {self.guide} guides {", ".join(others)} from epoch '
            f'{epoch + 1} on (validation F1: {text})'
        )

    def warn_unless_begun(self, trainer: Trainer) -> None:
        """Warn, after training, if it never came to a transfer.

        Args:
            trainer: The trainer.

        Warns:
            UserWarning: If no guide was active in any epoch.
        """
        if self.began or trainer.fast_dev_run:  # ty: ignore[missing-attribute]
            return
        epochs = '1 epoch' if (n := trainer.current_epoch) == 1 else f'{n} epochs'
        guide = 'no guide chosen' if self.guide is None else f'the guide {self.guide}'
        rank_zero_warn(
            f'transfer never began, because training ended after {epochs}, with '
            f'transfer_warmup={self.warmup} and {guide}: '
            'train longer, set a shorter --model.transfer_warmup, or name the guide, '
            '--model.transfer_guide, if no validation of trained weights came in time '
            'to choose it.'
        )


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the settings of a task.

    Args:
        settings: Arguments of the task by name.

    Raises:
        SettingError: If a setting is out of range, or has no effect because transfer is
            off.
    """
    if not settings['transfer']:
        for name, default in SETTINGS.items():
            if settings[name] != default:
                raise SettingError(
                    f'{name}={settings[name]!r} has no effect without transfer: set '
                    f'--model.transfer true, or leave {name} out.'
                )
    for name in ('prediction_transfer_weight', 'embedding_transfer_weight'):
        if not 0 <= settings[name] < float('inf'):
            raise SettingError(f'{name}={settings[name]}: give 0 or a positive number.')
    temperature = settings['transfer_temperature']
    if not 0 < temperature < float('inf'):
        raise SettingError(
            f'transfer_temperature={temperature}: give a positive number, for instance '
            '4.'
        )


class GuidedTask(MultiModalTrainingTask):
    """A task in which one modality may guide the others.

    Its arguments include ``transfer`` and :data:`SETTINGS`, and its constructor calls
    :meth:`configure_transfer`.
    """

    _transfer: Transfer | None = None

    def configure_transfer(self) -> None:
        """Check the settings of the transfer.

        Raises:
            ModalityError: If the guide is not a modality.
            SettingError: If a setting is out of range, or has no effect because
                transfer is off.
        """
        settings, modalities = self.hparams, tuple(self.in_channels)
        check_settings(settings)
        if settings['transfer']:
            guide, warmup = settings['transfer_guide'], settings['transfer_warmup']
            self._transfer = Transfer(modalities, guide, warmup)

    @property
    def pairing(self) -> str | None:
        """Why training needs the same samples in all modalities, if it does."""
        if self._transfer is None:
            return None
        return 'transfer compares the same samples in all modalities'

    @property
    def transfer_guide(self) -> str | None:
        """The modality that guides the others; None if there is none, or not yet."""
        return None if self._transfer is None else self._transfer.guide

    @property
    def active_guide(self) -> str | None:
        """The guide; None without transfer and during its warm-up."""
        if self._transfer is None:
            return None
        return self._transfer.active_guide(self.current_epoch)

    def prepare_data(self) -> None:
        """Refuse settings of transfer that cannot work with those of the trainer.

        Raises:
            SettingError: If training ends before transfer begins, or nothing is
                validated that would choose the guide.
        """
        if self._transfer is not None and self.trainer.training:
            self._transfer.check(self.trainer)

    def check_pairing(self, batch: Sample) -> None:
        """Refuse a training batch of different samples if they are to be the same.

        Args:
            batch: A training batch.

        Raises:
            ModalityError: If transfer is on and the batch is unpaired.
        """
        if self.pairing is not None and 'label' not in batch:
            raise ModalityError(
                f'{self.pairing}, but a training batch has other samples in each: set '
                '--data.paired true.'
            )

    def transfer_names(self) -> list[str]:
        """Return the names of what :meth:`transfer_terms` returns after the warm-up."""
        names = ['prediction_transfer', 'embedding_transfer']
        return [] if self._transfer is None else names

    def transfer_terms(
        self,
        output: DisCoMKDOutput,
        shared: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the terms of the transfer between paired samples.

        Args:
            output: Output of the network for the batch.
            shared: If samples lack modalities, rows of the guide and of another
                modality that are the same samples, for those that have any.

        Returns:
            'prediction_transfer' and 'embedding_transfer', without their weights; empty
            while no modality guides.
        """
        if (guide := self.active_guide) is None:
            return {}
        invariant = {m: e.invariant for m, e in output.embeddings.items()}
        temperature = self.hparams['transfer_temperature']
        logits = output.logits
        pairs = [(logits, invariant)]
        if shared is not None:
            pairs = [
                tuple(
                    {guide: rows[guide][first], m: rows[m][own]}
                    for rows in (logits, invariant)
                )
                for m, (first, own) in shared.items()
            ]
        zero = logits[guide].new_zeros(())
        several = self.hparams.get('task') == 'multilabel'
        return {
            'prediction_transfer': sum(
                (
                    prediction_transfer_loss(z, guide, temperature, several)
                    for z, _ in pairs
                ),
                zero,
            ),
            'embedding_transfer': sum(
                (embedding_transfer_loss(e, guide) for _, e in pairs), zero
            ),
        }

    def on_train_start(self) -> None:
        """Note whether a resumed training continues with a guide."""
        super().on_train_start()
        if self._transfer is not None:
            self._transfer.began = self.active_guide is not None

    def on_validation_epoch_end(self) -> None:
        """Log the scores and, while a guide is to be chosen, keep them.

        Checkpoints hold them: those of an earlier epoch may decide. Scores of an
        average of weights that has not begun are those of an untrained network.
        """
        super().on_validation_epoch_end()
        trainer = self.trainer
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if self._transfer is not None and fitting and average_begun(trainer):
            self._transfer.record(trainer.callback_metrics)

    def on_train_epoch_end(self) -> None:
        """Log the loss and its terms and, after the warm-up, choose the guide.

        Raises:
            SettingError: If the validation has scored some of the modalities only.
        """
        super().on_train_epoch_end()
        if self._transfer is not None:
            self._transfer.began |= self.active_guide is not None
            self._transfer.choose(self.current_epoch)

    def on_train_end(self) -> None:
        """Warn if it never came to a transfer.

        Warns:
            UserWarning: If transfer is on, but no guide was active in any epoch.
        """
        super().on_train_end()
        if self._transfer is not None:
            self._transfer.warn_unless_begun(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the guide, too, and the scores that may still choose it.

        Args:
            checkpoint: The checkpoint.
        """
        super().on_save_checkpoint(checkpoint)
        checkpoint['transfer_guide'] = self.transfer_guide
        if self._transfer is not None:
            checkpoint['transfer_scores'] = self._transfer.scores

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint and restore a guide that it chose, or is to choose.

        Args:
            checkpoint: The checkpoint.

        Raises:
            CheckpointError: If it is from another network.
            LabelError: If it has other classes.
            ModalityError: If it has other modalities.
        """
        super().on_load_checkpoint(checkpoint)
        transfer = self._transfer
        # one that was named, and no longer is, is to be chosen
        named = checkpoint.get('hyper_parameters', {}).get('transfer_guide')
        if transfer is not None and not transfer.named and named is None:
            transfer.guide = checkpoint.get('transfer_guide')
            transfer.scores = checkpoint.get('transfer_scores', {})
