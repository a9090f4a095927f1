# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Settings that a resumed training takes from its checkpoint, whatever it is given."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from ..errors import CheckpointError


def check_same_settings(
    began: Mapping[str, Any], settings: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Check that a training resumes with settings that it cannot change any more.

    Args:
        began: Hyperparameters in the checkpoint.
        settings: Hyperparameters of the task.
        names: Those that the checkpoint decides.

    Raises:
        CheckpointError: If one differs.
    """
    for name in names:
        if name in began and began[name] != settings.get(name):
            raise CheckpointError(
                f'the checkpoint has {name}={began[name]!r}, but the task has '
                f'{settings.get(name)!r}, which a resumed training would ignore: '
                'resume with the configuration of its run, or begin a new training '
                'with what load_from_checkpoint returns.'
            )


def warn_of_other_rates(
    saved: Sequence[Mapping[str, Any]], optimizers: Sequence[Optimizer], scheduled: bool
) -> None:
    """Warn if an optimizer is to go on with another learning rate than it was given.

    Args:
        saved: States of the optimizers in the checkpoint.
        optimizers: The optimizers, before these states are restored.
        scheduled: Whether schedules change the learning rates.

    Warns:
        UserWarning: If a learning rate or a weight decay differs.
    """
    # schedules keep the rate that they began with, or say nothing about it
    names = ['initial_lr', 'weight_decay'] + ([] if scheduled else ['lr'])
    for state, optimizer in zip(saved, optimizers, strict=False):
        groups = zip(state['param_groups'], optimizer.param_groups, strict=False)
        for began, own in groups:
            for name in names:
                if name in began and name in own and began[name] != own[name]:
                    rank_zero_warn(
                        f'the optimizer goes on with {name}={began[name]} of the '
                        f'checkpoint, not with {own[name]}.'
                    )
                    return
