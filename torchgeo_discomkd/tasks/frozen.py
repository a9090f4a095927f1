# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Encoders that keep their pretrained weights."""

from collections.abc import Iterable, Mapping

from torch import nn

from ..errors import SettingError
from ..models.modalities import check_known

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


def freeze(encoder: nn.Module) -> None:
    """Keep an encoder as it is: no gradients, and no new statistics.

    Args:
        encoder: The encoder, changed in place.
    """
    encoder.requires_grad_(False).eval()
