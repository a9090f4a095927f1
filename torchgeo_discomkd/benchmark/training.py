# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run one training of a benchmark and score its classifiers."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.cli import LightningCLI

from .. import __version__
from ..callbacks import TrainingCost
from ..callbacks.run_folder import best_files
from ..callbacks.run_manifest import git_commit, hardware
from ..datamodules import MultiModalDataModule
from ..datasets import MultiModalDataset
from ..errors import SettingError
from ..models import load_classifier, load_metadata
from .config import BenchmarkConfig
from .data import data_config
from .plan import SYMBOLS, Training
from .predictions import (
    RecordedClassification,
    group_column,
    sample_groups,
    write_predictions,
)

#: Runs a configuration, {'subcommand': 'fit', 'fit': {...}}, like the command ``fit``.
type Fit = Callable[[dict[str, Any]], LightningCLI]

#: Names of the read-outs in the paper (Table 4).
TABLE_4 = {'': 'full', '_invariant': 'only z_inv', '_informative': 'only z_inf'}


def fit_config(
    config: BenchmarkConfig,
    training: Training,
    folder: Path,
    teacher: Path | None = None,
) -> dict[str, Any]:
    """Return the configuration of ``fit`` for one training.

    Args:
        config: The configuration of the benchmark.
        training: The training.
        folder: Its run folder.
        teacher: File of its teacher.

    Returns:
        A configuration for ``python -m torchgeo_discomkd fit --config``.
    """
    quiet = {
        'enable_progress_bar': False,
        'enable_model_summary': False,
        # hundreds of runs: numbers only, no figures of confusion matrices
        'logger': {
            'class_path': 'CSVLogger',
            'init_args': {'save_dir': str(folder), 'name': 'metrics'},
        },
    }
    # 'auto' would take all GPUs for each training
    devices = config.trainer.get('devices', 'auto')
    callbacks = list(config.trainer.get('callbacks') or [])
    callbacks.append({'class_path': 'TrainingCost'})
    task_args = {
        'num_classes': config.num_classes,
        'model': config.model,
        'normalization': config.normalization,
        'lr': config.lr,
        **training.task_args,
    }
    if config.task != 'multiclass':
        task_args['task'] = config.task
    if teacher is not None:
        task_args['teacher'] = str(teacher)
    result = {
        'seed_everything': config.seed + training.run,
        'trainer': {
            **quiet,
            **config.trainer,
            'devices': 1 if devices == 'auto' else devices,
            'callbacks': callbacks,
            'default_root_dir': str(folder),
        },
        'model': {'class_path': training.task, 'init_args': task_args},
        'data': data_config(config, training.run, training.data_args),
    }
    for name in ('optimizer', 'lr_scheduler'):
        if (value := getattr(config, name)) is not None:
            result[name] = value
    return result


def check_one_device(config: BenchmarkConfig) -> None:
    """Refuse to run a training on several devices, of which each would score a part.

    Args:
        config: The configuration.

    Raises:
        SettingError: If its trainer has several devices or machines, or this process is
            one of several.
    """
    devices = config.trainer.get('devices', 'auto')
    one = devices in ('auto', '1', 1) or (
        isinstance(devices, list) and len(devices) == 1
    )
    wrong = '' if one else f'trainer.devices={devices}'
    if (nodes := config.trainer.get('num_nodes', 1)) != 1:
        wrong = f'trainer.num_nodes={nodes}'
    if (size := os.environ.get('WORLD_SIZE', '1')) != '1':
        wrong = f'WORLD_SIZE={size}'
    if wrong:
        raise SettingError(
            f'{wrong}: each training of a benchmark runs in one process on one device. '
            'Use several for trainings side by side: --jobs, or --engine ray.'
        )


def train(fit: Fit, settings: dict[str, Any], folder: Path) -> LightningCLI:
    """Train, or resume an interrupted training.

    Args:
        fit: Runs a configuration.
        settings: Configuration of ``fit``.
        folder: Its run folder.

    Returns:
        The command line with trainer and data module.

    Raises:
        SettingError: If the configuration has an unknown setting or a wrong value.
    """
    last = folder / 'last.ckpt'
    if last.exists():
        settings = {**settings, 'ckpt_path': str(last)}
    elif folder.exists():
        # stopped before the end of its first epoch: nothing to resume
        shutil.rmtree(folder)
    return fit({'subcommand': 'fit', 'fit': settings})


def score(
    cli: LightningCLI, config: BenchmarkConfig, training: Training, folder: Path
) -> list[dict[str, Any]]:
    """Score the best classifiers of a training on the test split.

    What they predict for each sample is kept in the folder.

    Args:
        cli: The command line that trained them.
        config: The configuration of the benchmark.
        training: The training.
        folder: Its run folder.

    Returns:
        A row for each classifier and read-out.

    Raises:
        KeyboardInterrupt: If it is stopped.
    """
    files = best_files(folder)
    task = RecordedClassification(files)
    try:
        [scores] = cli.trainer.test(task, datamodule=cli.datamodule, verbose=False)
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
    _keep_predictions(cli, config, task, folder)
    cost = next(c for c in cli.trainer.callbacks if isinstance(c, TrainingCost))  # ty: ignore[missing-attribute]
    common = {
        'run': training.run,
        'seed': config.seed + training.run,
        'scenario': training.scenario,
        'method': training.method,
        'variant': training.variant,
        'ablation': SYMBOLS.get(training.ablation, '-'),
        'teacher': training.teacher or '-',
        'seconds': round(cost.seconds, 3),
        'gflop': round(cost.gflop, 3),
        'teacher_seconds': 0.0,
        'teacher_gflop': 0.0,
        'training': training.name,
        'version': _version(),
        'hardware': _machine(cli),
    }
    rows = []
    for name, path in files.items():
        loaded, metadata = load_classifier(path), load_metadata(path)
        count = sum(p.numel() for p in loaded.classifier.parameters())
        read_outs = TABLE_4 if loaded.auxiliary is not None else {'': 'full'}
        for suffix, readout in read_outs.items():
            rows.append(
                {
                    **common,
                    'readout': readout,
                    'modality': name,
                    **_scores(scores, f'test_{name}{suffix}', task.classes),
                    'val_F1': metadata.scores['val_F1Score'],
                    'epoch': metadata.epoch,
                    'parameters': count,
                }
            )
    return rows


def _keep_predictions(
    cli: LightningCLI,
    config: BenchmarkConfig,
    task: RecordedClassification,
    folder: Path,
) -> None:
    datamodule = cast(MultiModalDataModule, cli.datamodule)
    groups, column = None, group_column(config)
    if column is not None:
        dataset = cast(MultiModalDataset, datamodule.test_dataset)
        groups = sample_groups(datamodule, dataset, column)
    write_predictions(folder, task.predictions(groups))


def _version() -> str:
    commit = git_commit()
    return __version__ if commit is None else f'{__version__}+{commit[:9]}'


def _machine(cli: LightningCLI) -> str:
    found = hardware(cli.trainer)
    name = found['processor'] if found['device'] == 'cpu' else found['device']
    return f'{name}, {found["threads"]} threads'


def _scores(
    scores: Mapping[str, float], prefix: str, classes: tuple[str, ...]
) -> dict[str, float]:
    return (
        {
            'F1': scores[f'{prefix}_F1Score'],
            'OverallAccuracy': scores[f'{prefix}_OverallAccuracy'],
            'AverageAccuracy': scores[f'{prefix}_AverageAccuracy'],
        }
        | {
            # with several labels in a sample
            name: scores[f'{prefix}_{name}']
            for name in ('MicroF1Score', 'MacroF1Score', 'MeanAveragePrecision')
            if f'{prefix}_{name}' in scores
        }
        | {
            f'F1_{c}': scores[f'{prefix}_ClasswiseF1Score_{c}']
            for c in classes
            # not of classes without test samples
            if f'{prefix}_ClasswiseF1Score_{c}' in scores
        }
    )
