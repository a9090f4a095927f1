# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How cost and memory grow with the number of samples.

For each size, a pack of random 32x32 tiles (13 bands uint16, 2 bands float32) is made
and the same number of steps trained from it, each in its own process: setup (listing,
split, statistics), seconds per sample, and the most memory. Memory of the process is
distinguished from the mapped file, whose pages the system reclaims when it needs them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from torchgeo_discomkd.datamodules import PairedArraysDataModule
from torchgeo_discomkd.datasets import PairedArrays, write_pack
from torchgeo_discomkd.performance.memory import keep_freed_memory
from torchgeo_discomkd.tasks import DisCoMKD

from .measure import Row, parse, report
from .random_arrays import CLASSES, write_arrays

BATCH, SIZE = 128, 32


class Meter(Callback):
    """Time from start to first step, time of steps, and memory."""

    def __init__(self) -> None:
        """Initialize a new Meter instance."""
        self.created = self.started = perf_counter()
        self.own = self.samples = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the setup."""
        self.started = perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the samples and look at the memory."""
        self.samples += len(batch['image_ms'])
        self.own = max(self.own, memory('RssAnon'))


def main() -> None:
    """Measure and report."""
    options = parse(
        __doc__,
        (
            '--samples',
            {'type': int, 'nargs': '+', 'default': [1000, 4000, 16000, 64000]},
        ),
        ('--steps', {'type': int, 'default': 30}),
        ('--pack', {'help': 'train from this pack (used by the benchmark itself)'}),
    )
    if options.pack:
        sys.stdout.write(json.dumps(train(options.pack, options.steps)))
        return
    found = {}
    for samples in options.samples:
        with tempfile.TemporaryDirectory() as name:
            root = write_arrays(Path(name) / 'arrays', samples, SIZE)
            start = perf_counter()
            packed = Path(name) / 'arrays.safetensors'
            write_pack(PairedArrays(str(root)), packed)
            packing = perf_counter() - start
            arguments = ('--pack', str(packed), '--steps', str(options.steps))
            output = subprocess.run(
                (sys.executable, '-m', 'tests.speed.scaling', *arguments),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            found[samples] = json.loads(output.splitlines()[-1]) | {'packing': packing}
    times = {samples: f['seconds'] / f['samples'] for samples, f in found.items()}
    first = next(iter(times.values()))
    rows = [
        Row(f'{samples} samples', time, (time, time), 1 / time, first / time)
        for samples, time in times.items()
    ]
    report(
        'Growth with the number of samples',
        rows,
        'pairs',
        options.json,
        **{
            f'{samples} samples': (
                f'setup {f["setup"]:.1f} s, packing {f["packing"]:.1f} s, own memory '
                f'{f["own"]} MB, with mapped files {f["peak"]} MB'
            )
            for samples, f in found.items()
        },
    )


def train(packed: str, steps: int) -> dict[str, float]:
    """Train a few steps of DisCoM-KD with the smallest encoder.

    Args:
        packed: The pack.
        steps: Number of steps.

    Returns:
        Seconds of setup and of the steps, samples, and memory in MB.
    """
    keep_freed_memory()
    meter = Meter()
    trainer = Trainer(
        accelerator='cpu',
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(Path(packed).parent),
        callbacks=[meter],
    )
    task = DisCoMKD(
        in_channels={'ms': 13, 'sar': 2}, num_classes=CLASSES, model='test_resnet'
    )
    trainer.fit(task, datamodule=PairedArraysDataModule(packed, batch_size=BATCH))
    return {
        'setup': meter.started - meter.created,
        'seconds': perf_counter() - meter.started,
        'samples': meter.samples,
        'own': meter.own,
        'peak': memory('VmHWM'),
    }


def memory(name: str) -> int:
    """Return a figure of the system on this process.

    Args:
        name: Its name in ``/proc/self/status``.

    Returns:
        Megabytes.
    """
    for line in Path('/proc/self/status').read_text().splitlines():
        key, _, value = line.partition(':')
        if key == name:
            return int(value.split()[0]) // 1000
    raise KeyError(name)


if __name__ == '__main__':
    main()
