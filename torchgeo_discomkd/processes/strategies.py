# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which strategies of Lightning a task of this package can be trained with."""

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DDPStrategy,
    ParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)

from ..errors import SettingError


def check_strategy(strategy: Strategy) -> None:
    """Check that a strategy keeps whole networks in every process.

    Args:
        strategy: The strategy of a trainer.

    Raises:
        SettingError: If it is neither for one device nor DistributedDataParallel.

    Example:
        >>> from lightning.pytorch.strategies import DDPStrategy
        >>> check_strategy(DDPStrategy())
    """
    # DeepSpeed's is a subclass
    if type(strategy) is DDPStrategy or isinstance(strategy, SingleDeviceStrategy):
        return
    raise SettingError(
        f'{type(strategy).__name__}: the networks of this package fit on every device, '
        'and are trained whole on each. Set --trainer.strategy ddp, or auto.'
    )


def is_divided(trainer: Trainer | None) -> bool:
    """Return whether Lightning would divide data loaders among processes.

    Args:
        trainer: The trainer.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> is_divided(Trainer(accelerator='cpu', devices=1, logger=False))
        False
        >>> is_divided(None)
        False
    """
    return trainer is not None and isinstance(trainer.strategy, ParallelStrategy)
