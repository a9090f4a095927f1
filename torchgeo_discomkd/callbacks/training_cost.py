# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measure the cost of a training run."""

from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


class TrainingCost(Callback):
    """Count the seconds and floating-point operations of a training run.

    The operations of the first step (matrix products and convolutions, forward and
    backward, also of a frozen teacher) are counted by PyTorch and multiplied by the
    number of samples; the optimizer and validation are not counted. The seconds include
    validation and checkpoints. Both survive a resume. Of several processes, each counts
    its own.

    Example:
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> from torch.utils.data import DataLoader
        >>> from torchgeo_discomkd.callbacks import TrainingCost
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> tile = torch.rand(2, 32, 32)
        >>> samples = [{'image_sar': tile, 'label': i} for i in range(4)]
        >>> loader = DataLoader(samples, batch_size=4)
        >>> task = FusionClassification({'sar': 2}, num_classes=4, model='test_resnet')
        >>> cost = TrainingCost()
        >>> trainer = Trainer(
        ...     devices=1,
        ...     fast_dev_run=True,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ...     callbacks=[cost],
        ... )
        >>> trainer.fit(task, loader, loader)
        >>> cost.samples, cost.gflop > 0
        (4, True)
    """

    def __init__(self) -> None:
        """Initialize a new TrainingCost instance."""
        self.flop_per_sample = 0.0
        self.samples = 0
        self._seconds = 0.0
        self._started: float | None = None
        self._counter: FlopCounterMode | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        running = 0.0 if self._started is None else perf_counter() - self._started
        return self._seconds + running

    @property
    def gflop(self) -> float:
        """Floating-point operations of training so far, in 10^9."""
        return self.flop_per_sample * self.samples / 1e9

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far."""
        return {
            'seconds': self.seconds,
            'samples': self.samples,
            'flop_per_sample': self.flop_per_sample,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts of a run that is resumed.

        Args:
            state_dict: What :meth:`state_dict` returned.
        """
        self._seconds = state_dict['seconds']
        self.samples = state_dict['samples']
        self.flop_per_sample = state_dict['flop_per_sample']

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        self._started = perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        self._seconds, self._started = self.seconds, None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to count the operations of the first step.

        Args:
            trainer: The trainer.
            pl_module: The task.
            batch: A flat batch.
            batch_idx: Integer displaying index of this batch.
        """
        if not self.flop_per_sample:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the samples of a step.

        Args:
            trainer: The trainer.
            pl_module: The task.
            outputs: Not used.
            batch: A flat batch.
            batch_idx: Integer displaying index of this batch.
        """
        size = max(len(x) for x in batch.values() if isinstance(x, Tensor))
        self.samples += size
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.flop_per_sample = self._counter.get_total_flops() / size
            self._counter = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop counting the operations of a step that failed.

        Args:
            trainer: The trainer.
            pl_module: The task.
            exception: What stopped the training.
        """
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counter = None
