# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Encoders that keep their pretrained weights."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from ..errors import CheckpointError, SettingError
from ..models.modalities import check_known
from ..models.weights import weights_by_modality
from .base import MultiModalTask

#: Whether encoders are frozen: all, or by modality.
type FreezeBackbone = bool | Mapping[str, bool]


def frozen_modalities(
    setting: FreezeBackbone, modalities: Iterable[str]
) -> tuple[str, ...]:
    """Return the modalities whose encoders are frozen.

    Args:
        setting: The argument *freeze_backbone*.
        modalities: Modalities of the task.

    Raises:
        ModalityError: If *setting* names an unknown modality.
        SettingError: If it is of another type.
    """
    modalities = list(modalities)
    if isinstance(setting, bool):
        return tuple(modalities) if setting else ()
    if not isinstance(setting, Mapping) or not all(
        isinstance(value, bool) for value in setting.values()
    ):
        raise SettingError(
            f'freeze_backbone={setting!r:.80}: give true or false, or these by '
            'modality, such as {sar: true}.'
        )
    check_known(setting, modalities, 'freeze_backbone')
    return tuple(m for m in modalities if setting.get(m, False))


class FreezingTask(MultiModalTask):
    """A task whose argument ``freeze_backbone`` freezes encoders.

    They have no gradients and stay in evaluation mode.
    """

    _restored: bool = False

    def __init__(self) -> None:
        """Initialize the task, and freeze the encoders that are to stay as they are.

        Raises:
            ModalityError: If *freeze_backbone* names an unknown modality.
            SettingError: If it is of another type, or the task has no encoders.
        """
        super().__init__()
        for encoder in self._frozen_encoders():
            encoder.requires_grad_(False).eval()

    def encoders(self) -> Iterable[tuple[str, nn.Module]]:
        """Yield modality and encoder of every classifier, which may then be frozen."""
        return ()

    @property
    def frozen(self) -> tuple[str, ...]:
        """Modalities whose encoders are frozen."""
        setting = self.hparams.get('freeze_backbone', False)
        return frozen_modalities(setting, self.in_channels)

    def _frozen_encoders(self) -> list[nn.Module]:
        if not (frozen := self.frozen):
            return []
        found = [encoder for m, encoder in self.encoders() if m in frozen]
        if not found:
            raise SettingError(
                f'freeze_backbone: {type(self).__name__} names no encoders of '
                f'{list(frozen)}; a class of your own does so in encoders().'
            )
        return found

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all but the frozen encoders.

        Args:
            mode: Whether to train, rather than to evaluate.

        Returns:
            The task.
        """
        super().train(mode)
        for encoder in self._frozen_encoders():
            encoder.eval()
        return self

    def on_train_start(self) -> None:
        """Warn of frozen encoders that were never trained.

        Warns:
            UserWarning: If one starts from random weights.
        """
        super().on_train_start()
        weights = weights_by_modality(getattr(self, 'weights', None), self.in_channels)
        random = [m for m in self.frozen if not weights[m]]
        if random and not self._restored:
            rank_zero_warn(
                f'freeze_backbone: the encoders of {random} keep random weights, '
                'unless you have loaded others: give them weights.'
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the same encoders are frozen.

        Args:
            checkpoint: The checkpoint.

        Raises:
            CheckpointError: If training is resumed with others.
        """
        self._restored = True
        # the optimizer of the checkpoint has the parameters that were trained
        settings = checkpoint.get('hyper_parameters', {})
        setting = settings.get('freeze_backbone', False)
        own = self.hparams.get('freeze_backbone', False)
        resumes = self._trainer is not None and self._trainer.training
        if resumes and frozen_modalities(setting, self.in_channels) != self.frozen:
            raise CheckpointError(
                f'the checkpoint has freeze_backbone={setting}, but the task has '
                f'{own}: resume with the configuration of its run. To unfreeze, train '
                'what load_from_checkpoint(path, freeze_backbone=False) returns.'
            )
