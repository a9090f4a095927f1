# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whether training batches are paired, which the task decides unless it is set."""

from lightning.pytorch.utilities import rank_zero_info

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
