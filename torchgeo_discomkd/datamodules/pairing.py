# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Paired and unpaired training batches: the task decides unless it is set."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torchgeo.datasets.utils import Sample

from ..errors import SettingError


def are_paired(setting: bool | None, task: object | None) -> bool:
    """Return whether training batches hold the same samples in all modalities.

    Args:
        setting: What the user set; None if nothing.
        task: The task that is trained, if it is known. Its attribute *pairing* says why
            it needs paired batches; it is None, or missing, if it does not.

    Raises:
        SettingError: If the task needs what the user switched off.
    """
    reason: str | None = getattr(task, 'pairing', None)
    if reason is None:
        return bool(setting)
    if setting is False:
        raise SettingError(
            f'{reason}, but --data.paired is false: set --data.paired true, or leave '
            'it out.'
        )
    if setting is None:
        rank_zero_info(f'training batches are paired: {reason}')
    return True


def flat_batch(batch: Any) -> Sample:
    """Merge the batches of unpaired loaders into one flat dictionary.

    Args:
        batch: A flat batch, or one batch for each modality.

    Returns:
        A flat batch.
    """
    parts = list(batch.values())
    if not all(isinstance(part, dict) for part in parts):
        return batch
    if len(parts) == 1 and 'image' in parts[0]:
        # renamed by ModalityToImage
        return parts[0]
    merged: Sample = {}
    for modality, part in batch.items():
        merged[f'image_{modality}'] = part[f'image_{modality}']
        merged[f'label_{modality}'] = part['label']
        merged[f'index_{modality}'] = part['index']
    return merged
