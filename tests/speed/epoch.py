# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whole epochs of DisCoM-KD by the trainer of the command line, from a pack.

Four ResNet-18 on random tiles of 64x64 pixels, 13 + 2 bands; 70 % of the samples are
for training. On a GPU, the whole pack resides there. Only the last epoch counts.

python -m tests.speed.epoch --samples 27000
"""

import tempfile
from pathlib import Path
from time import perf_counter

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from torchgeo_discomkd.callbacks import CudaGraphs, TrainingCost
from torchgeo_discomkd.commands.fit import RunTrainer
from torchgeo_discomkd.datamodules import PairedArraysDataModule
from torchgeo_discomkd.datasets import PairedArrays, write_pack
from torchgeo_discomkd.performance.memory import keep_freed_memory
from torchgeo_discomkd.tasks import DisCoMKD

from .measure import Row, parse, report
from .random_arrays import CLASSES, write_arrays
from .training_step import device_of, most_memory, peak, wait

#: Epochs of a training in the paper.
EPOCHS = 300


class EpochClock(Callback):
    """Time each epoch of training."""

    def __init__(self) -> None:
        """Initialize a new EpochClock instance."""
        self.seconds: list[float] = []
        self._started = 0.0

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Start the clock when all earlier work is done."""
        wait(pl_module.device)
        self._started = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock when all work is done."""
        wait(pl_module.device)
        self.seconds.append(perf_counter() - self._started)


def train(
    root: Path,
    device: torch.device,
    precision: str,
    batch_size: int,
    epochs: int,
    graphs: bool = True,
) -> tuple[EpochClock, TrainingCost, str]:
    """Train from a pack; return the time and cost of it, and the precision."""
    clock, cost = EpochClock(), TrainingCost()
    trainer = RunTrainer(
        accelerator=device.type,
        devices=1,
        precision=precision,  # ty: ignore[invalid-argument-type]
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(root.parent / 'run'),
        callbacks=[clock, cost, CudaGraphs(graphs)],
    )
    task = DisCoMKD(in_channels={'ms': 13, 'sar': 2}, num_classes=CLASSES)
    datamodule = PairedArraysDataModule(
        str(root), batch_size=batch_size, resident=device.type == 'cuda'
    )
    trainer.fit(task, datamodule=datamodule)
    return clock, cost, trainer.precision


def main() -> None:
    """Measure and report."""
    options = parse(
        __doc__,
        ('--samples', {'type': int, 'default': 1000, 'help': 'default: %(default)s'}),
        ('--epochs', {'type': int, 'default': 2, 'help': 'default: %(default)s'}),
        ('--batch-size', {'type': int, 'default': 128}),
        ('--precision', {'default': 'auto', 'help': 'default: %(default)s'}),
        ('--device', {'type': device_of, 'default': device_of('auto')}),
        ('--no-graphs', {'action': 'store_true', 'help': 'without CUDA graphs'}),
    )
    device: torch.device = options.device
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        packed = Path(name) / 'arrays.safetensors'
        arrays = write_arrays(Path(name) / 'arrays', options.samples, 64)
        write_pack(PairedArrays(str(arrays)), packed)
        clock, cost, precision = train(
            packed,
            device,
            options.precision,
            options.batch_size,
            options.epochs,
            not options.no_graphs,
        )
    seconds = clock.seconds[-1]
    pairs = cost.samples // options.epochs
    rate = cost.gflop / options.epochs / seconds
    best = peak(torch.bfloat16 if 'bf16' in precision else torch.float32, device)
    rows = [Row('epoch', seconds, (seconds, seconds), pairs / seconds, 1.0)]
    report(
        f'Epochs of DisCoM-KD, {device.type}, {precision}',
        rows,
        'pairs',
        options.json,
        pairs=pairs,
        batch_size=options.batch_size,
        seconds_an_epoch=round(seconds, 2),
        first_epoch=round(clock.seconds[0], 2),
        hours_of_300_epochs=round(EPOCHS * seconds / 3600, 3),
        gib_at_most=round(most_memory(device), 2),
        gflop_per_second=round(rate),
        fraction_of_peak=round(rate / best, 3),
    )


if __name__ == '__main__':
    main()
