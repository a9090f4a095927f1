# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Names that callbacks and schedules wait for, checked before training."""

import warnings
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint

from ..errors import SettingError

#: Libraries whose classes log no metrics but those that are known.
KNOWN = frozenset({'lightning', 'torchgeo', 'torchgeo_discomkd', 'torch'})


def check_monitors(
    trainer: Trainer,
    module: LightningModule,
    names: Collection[str],
    monitored: Iterable[tuple[str, str]],
) -> None:
    """Check that what callbacks or learning rate schedules monitor will be logged.

    Lightning notices after an epoch, or later.

    Args:
        trainer: A trainer, before its training.
        module: The task.
        names: Names of all metrics that the task logs.
        monitored: What monitors, and the name that it waits for.

    Raises:
        SettingError: If a monitored name is not among them.

    Warns:
        UserWarning: Instead, if the task or a callback is of somebody else's class,
            which may log it.
    """
    parts = (module, *module.children(), *_callbacks(trainer))
    own = not KNOWN.issuperset(type(x).__module__.partition('.')[0] for x in parts)
    rates = any(isinstance(c, LearningRateMonitor) for c in _callbacks(trainer))
    for monitoring, name in monitored:
        if name in names or (rates and name.startswith('lr-')):
            continue
        message = (
            f'{monitoring} monitors {name!r}, which this training does not log: '
            f'{_suggestion(name, names)}.'
        )
        if not own:
            raise SettingError(message)
        warnings.warn(f'{message} A class of yours may.', stacklevel=2)


def monitoring_callbacks(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Yield each callback that monitors a metric, and the name of the metric.

    Args:
        trainer: The trainer.
    """
    for callback in _callbacks(trainer):
        name = getattr(callback, 'monitor', None)
        counted = isinstance(callback, ModelCheckpoint) and name in {'epoch', 'step'}
        if isinstance(name, str) and not counted:
            yield type(callback).__name__, name


def monitoring_schedules(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Yield each learning rate schedule that monitors a metric, and its name.

    Args:
        trainer: A trainer that has set up its optimizers.
    """
    for config in trainer.lr_scheduler_configs:
        # only these take a value
        if config.reduce_on_plateau and config.monitor is not None:
            yield type(config.scheduler).__name__, config.monitor


def _suggestion(name: str, names: Collection[str]) -> str:
    ordered = sorted(names)
    if name.startswith('val_') and not any(n.startswith('val_') for n in names):
        return 'it has no validation'
    near = get_close_matches(name, ordered, n=5, cutoff=0.4)
    scores = [n for n in ordered if n.startswith('val_') and n.endswith('_F1Score')]
    return f'choose, for example, {", ".join(near or scores or ordered)}'


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # ty: ignore[missing-attribute]
