# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Record of a run."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from .. import __version__
from ..files import write_atomically
from .best_classifiers import best_classifiers
from .classifier_task import ClassifierTask
from .run_folder import keeps_files, run_folder


def git_commit() -> str | None:
    """Return the commit of the package if it runs from a git checkout."""
    file = Path(__file__)
    # an environment inside another project's checkout has a commit that is not ours
    tracked = ['ls-files', '--error-unmatch', file.name]
    try:
        for arguments in (tracked, ['rev-parse', 'HEAD']):
            command = ['git', '-C', str(file.parent), *arguments]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def processor_name() -> str:
    """Return the model of the processor, or its architecture if nothing tells it."""
    # on Linux, platform.processor() only knows the architecture
    file = Path('/proc/cpuinfo')
    lines = file.read_text().splitlines() if file.exists() else []
    models = [x.partition(':')[2].strip() for x in lines if x.startswith('model name')]
    return next(iter(models), platform.processor() or platform.machine())


def hardware(trainer: Trainer) -> dict[str, Any]:
    """Return the hardware and the precision that a run is computed with.

    Args:
        trainer: The trainer.
    """
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else None
    return {
        'platform': platform.platform(),
        'processor': processor_name(),
        'threads': torch.get_num_threads(),
        'device': name or str(device),
        'precision': str(trainer.precision),
        'processes': trainer.world_size,
        'machines': trainer.num_nodes,
    }


def write_manifest(trainer: Trainer, manifest: dict[str, Any]) -> None:
    """Write the manifest into the run folder.

    Args:
        trainer: The trainer.
        manifest: Values that can be written as JSON.
    """
    text = json.dumps(manifest, indent=2) + '\n'
    write_atomically(run_folder(trainer) / 'manifest.json', text.encode('utf-8'))


def add_to_manifest(
    trainer: Trainer, values: Mapping[str, Mapping[str, float]]
) -> None:
    """Add values to the best classifiers in the manifest, if there is one.

    Args:
        trainer: The trainer.
        values: For each name of a classifier, values by name.
    """
    path = run_folder(trainer) / 'manifest.json'
    if path.exists():
        manifest = json.loads(path.read_text(encoding='utf-8'))
        for name, added in values.items():
            manifest['best'].setdefault(name, {}).update(added)
        write_manifest(trainer, manifest)


class RunManifest(Callback):
    """Write ``manifest.json``: what was run, on which data and machine, best scores.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchgeo_discomkd.callbacks import BestClassifiers, RunManifest
        >>> from torchgeo_discomkd.tasks import DisCoMKD
        >>> task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> trainer = Trainer(logger=False, callbacks=[BestClassifiers()])
        >>> manifest = RunManifest().manifest(trainer, task)
        >>> manifest['task'], manifest['classes'], manifest['best']
        ('DisCoMKD', ['0', '1', '2'], {})
    """

    def __init__(self) -> None:
        """Initialize a new RunManifest instance."""
        self.started = datetime.now(UTC).isoformat(timespec='seconds')
        self.commit = git_commit()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the manifest up to date.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        if trainer.is_global_zero and keeps_files(trainer):
            write_manifest(
                trainer, self.manifest(trainer, cast(ClassifierTask, pl_module))
            )

    def manifest(self, trainer: Trainer, task: ClassifierTask) -> dict[str, Any]:
        """Return the manifest of a run.

        Args:
            trainer: The trainer.
            task: The task.

        Returns:
            Values that can be written as JSON.
        """
        best = best_classifiers(trainer)
        return {
            'package': {'torchgeo_discomkd': __version__, 'commit': self.commit}
            | {name: version(name) for name in ('torch', 'torchgeo', 'lightning')},
            'command': sys.argv,
            'started': self.started,
            'updated': datetime.now(UTC).isoformat(timespec='seconds'),
            'epochs': trainer.current_epoch + 1,
            'steps': trainer.global_step,
            'seed': task.seed,
            'task': type(task).__name__,
            'classes': list(task.classes),
            'data_fingerprint': task.fingerprint,
            'split_hash': task.split_hash,
            'hardware': hardware(trainer),
            'best': {
                name: {'val_F1Score': best.scores[name], 'epoch': best.epochs[name]}
                for name in best.scores
            },
        }
