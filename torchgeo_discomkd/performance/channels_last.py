# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Memory format of the weights.

Measured: a training step is 1.1 to 1.3 times as fast on a processor, and 1.4 to 1.5
times as a CUDA graph (``python -m tests.speed.training_step``).
"""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy


class ChannelsLast(Callback):
    """Train with the weights in channels-last memory format, which many devices prefer.

    Every training on a CPU has it, and on a GPU with CUDA graphs, where steps are
    faster in float32 and in bfloat16; elsewhere it is a choice. Results differ by
    rounding only; files of classifiers are the same.

    Example:
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> from torchgeo_discomkd.callbacks import ChannelsLast
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> task = FusionClassification({'sar': 2}, num_classes=3, model='test_resnet')
        >>> ChannelsLast().on_fit_start(Trainer(accelerator='cpu', logger=False), task)
        >>> weight = task.model.encoders['sar'].conv1[0].weight
        >>> weight.is_contiguous(memory_format=torch.channels_last)
        True
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Change the memory format, if several processes are to train.

        DistributedDataParallel notes the format when it is created: if that changed
        later, the gradients of its first step would be in the wrong places.

        Args:
            trainer: The trainer.
            pl_module: The task.
            stage: Either 'fit', 'validate', 'test' or 'predict'.
        """
        if stage == 'fit' and isinstance(trainer.strategy, ParallelStrategy):
            pl_module.to(memory_format=torch.channels_last)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Change the memory format.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        if not isinstance(trainer.strategy, ParallelStrategy):
            pl_module.to(memory_format=torch.channels_last)
