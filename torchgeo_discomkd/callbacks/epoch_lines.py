# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Progress of a training where a progress bar cannot be drawn."""

from collections.abc import Mapping
from datetime import timedelta
from time import perf_counter

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from ..models.modalities import COMPARISONS, is_comparison


class EpochLines(ProgressBar):
    """Print one line after every epoch of training, for logs and pipes.

    The line has the number of the epoch, from 0, and that of the last one, its seconds
    with validation, the time left at the mean speed so far, if the number of epochs is
    known, and the F1 of each classifier that was validated in it (what the task logs as
    ``val_<name>_F1Score``).
    ``fit`` uses it in place of Lightning's RichProgressBar if its output is no
    terminal.

    Example:
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> from torch.utils.data import DataLoader
        >>> from torchgeo_discomkd.callbacks import EpochLines
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> tile = torch.rand(2, 32, 32)
        >>> samples = [{'image_sar': tile, 'label': 1} for _ in range(4)]
        >>> loader = DataLoader(samples, batch_size=4)
        >>> task = FusionClassification({'sar': 2}, num_classes=4, model='test_resnet')
        >>> trainer = Trainer(
        ...     devices=1,
        ...     fast_dev_run=True,
        ...     enable_model_summary=False,
        ...     callbacks=[EpochLines()],
        ... )
        >>> trainer.fit(task, loader, loader)  # doctest: +ELLIPSIS
        epoch 0/0, ... s; validation F1: sar ...
    """

    def __init__(self) -> None:
        """Initialize a new EpochLines instance."""
        super().__init__()
        self._enabled = True
        self._validated = False
        self._first = 0
        self._started = self._epoch_started = 0.0

    def enable(self) -> None:
        """Print lines."""
        self._enabled = True

    def disable(self) -> None:
        """Print no lines."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed training has no times of its earlier epochs.

        Args:
            trainer: The trainer.
            pl_module: Any task.
        """
        self._first, self._started = trainer.current_epoch, perf_counter()

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Start the clock of the epoch.

        Args:
            trainer: The trainer.
            pl_module: Any task.
        """
        self._epoch_started, self._validated = perf_counter(), False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the scores are those of this epoch.

        Args:
            trainer: The trainer.
            pl_module: Any task.
        """
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch.

        Args:
            trainer: The trainer.
            pl_module: Any task.
        """
        if self._enabled:
            # a pipe would show it after the run otherwise
            self.print(self._line(trainer), flush=True)

    def _line(self, trainer: Trainer) -> str:
        now, done = perf_counter(), trainer.current_epoch + 1
        total = trainer.max_epochs if (trainer.max_epochs or 0) > 0 else None
        # counted like those of Lightning's bar, metrics and checkpoints
        last = f'/{total - 1}' if total else ''
        line = f'epoch {trainer.current_epoch}{last}'
        line += f', {now - self._epoch_started:.1f} s'
        # max_steps may end the training in any epoch
        if total and trainer.max_steps == -1:
            per_epoch = (now - self._started) / (done - self._first)
            line += f', {timedelta(seconds=round(per_epoch * (total - done)))} left'
        scores = scores_text(trainer.callback_metrics) if self._validated else ''
        return f'{line}; validation F1: {scores}' if scores else line


def scores_text(metrics: Mapping[str, Tensor]) -> str:
    """Return the F1 of each classifier of a task of this package in words.

    Args:
        metrics: Metrics of a trainer by name.

    Returns:
        Text; empty if there are none.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.callbacks.epoch_lines import scores_text
        >>> names = ('val_ms_F1Score', 'val_ms_student_F1Score', 'val_fusion_F1Score')
        >>> scores_text({name: torch.tensor(0.5) for name in names})
        'ms 0.500 (alone 0.500), fusion 0.500'
    """
    scores = {
        key.removeprefix('val_').removesuffix('_F1Score'): float(value)
        for key, value in metrics.items()
        if key.startswith('val_') and key.endswith('_F1Score')
    }
    texts = []
    for name, score in scores.items():
        if is_comparison(name):
            continue
        others = [
            f'{heading} {scores[name + suffix]:.3f}'
            for suffix, heading in COMPARISONS.items()
            if name + suffix in scores
        ]
        text = f' ({", ".join(others)})' if others else ''
        texts.append(f'{name} {score:.3f}{text}')
    return ', '.join(texts)
