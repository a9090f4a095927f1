# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run or resume all trainings of a benchmark, or estimate their time."""

import logging
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from rich.console import Console
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from ..datasets import MultiModalDataset
from ..errors import UserError
from ..models import FusionClassifier
from ..performance.precision import fast_precision
from .config import BenchmarkConfig
from .data import check_data, open_data
from .plan import Training, plan
from .results import Results
from .training import Fit, fit_config, score, train

#: Numbers of training samples and of steps that measure the speed.
SAMPLES = 32
STEPS = 3

#: Reports the progress of a benchmark, one line at a time.
Report = Callable[[str], None]


def run_benchmark(
    config: BenchmarkConfig, fit: Fit, report: Report | None = None
) -> Results:
    """Train and score everything that is not finished yet.

    A failed training does not stop the others; it is listed, and the next call tries it
    again. Finished trainings are never repeated; interrupted ones resume from their
    last complete epoch.

    Args:
        config: The configuration.
        fit: Runs one training: :func:`torchgeo_discomkd.commands.fit.run`.
        report: Called with each progress line. Default: prints it.

    Returns:
        All results.

    Raises:
        RunFolderExistsError: If the results folder belongs to another configuration.
        UserError: If the data cannot be used at all.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.benchmark.results import COLUMNS
        >>> from torchgeo_discomkd.commands.fit import run
        >>> folder = TemporaryDirectory()
        >>> config = BenchmarkConfig(
        ...     results=folder.name, data={'class_path': 'SimulatedMSSARDataModule'},
        ...     in_channels={'ms': 13, 'sar': 2}, num_classes=10, runs=1)
        >>> results = Results(config)
        >>> results.claim()
        >>> for training in plan(config):  # all are finished: nothing is left to train
        ...     row = dict.fromkeys(COLUMNS, 0) | {'training': training.name}
        ...     results.add(training, [row])
        >>> len(run_benchmark(config, run).rows)
        40
        >>> folder.cleanup()
    """
    report = report or _print
    results = Results(config)
    trainings = plan(config)
    left = [t for t in trainings if not results.finished(t)]
    if left:
        check_data(config)
    results.claim()
    # Lightning reports every trainer and seed
    for name in ('lightning.pytorch', 'lightning.fabric'):
        logging.getLogger(name).setLevel(logging.ERROR)
    clock = _Clock(left)
    for number, training in enumerate(trainings, 1):
        if results.finished(training):
            continue
        head = f'[{number}/{len(trainings)}] {training.label}'
        try:
            rows = _one(config, fit, results, training)
        # the others must continue, whatever went wrong
        except Exception as error:  # noqa: BLE001
            reason = str(error) or type(error).__name__
            results.fail(training, reason)
            line = f'failed: {reason.splitlines()[0]}'
        else:
            results.add(training, rows)
            full = [row for row in rows if row['readout'] == 'full']
            line = ', '.join(f'{r["modality"]} F1 {100 * r["F1"]:.2f}' for r in full)
        report(f'{head}: {line} ({clock.tick(training)})')
    return results


def _one(
    config: BenchmarkConfig, fit: Fit, results: Results, training: Training
) -> list[dict[str, Any]]:
    folder = results.run_folder(training)
    teacher, costs = _teacher(results, training)
    settings = fit_config(config, training, folder, teacher)
    log = folder.with_name(f'{folder.name}.log')
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as file, redirect_stdout(file), redirect_stderr(file):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', '.*does not have many workers')
                cli = train(fit, settings, folder)
                rows = score(cli, config, training, folder)
        except Exception:
            traceback.print_exc()
            raise
    # only needed to resume, and larger than everything else
    (folder / 'last.ckpt').unlink(missing_ok=True)
    return [row | costs for row in rows]


def _teacher(
    results: Results, training: Training
) -> tuple[Path | None, dict[str, float]]:
    if training.teacher is None:
        return None, {}
    row = next(iter(results.find(training.run, training.teacher)), None)
    if row is None:
        raise UserError(f'its teacher {training.teacher} failed.')
    folder = results.run_folder(training).with_name(training.teacher)
    costs = {f'teacher_{name}': row[name] for name in ('seconds', 'gflop')}
    return folder / 'best' / f'{row["modality"]}.safetensors', costs


class _Clock:
    """Estimates the time left from the work done and still to do."""

    def __init__(self, trainings: list[Training]) -> None:
        self._left = sum(t.work for t in trainings)
        self._done = 0
        self._started = self._last = perf_counter()

    def tick(self, training: Training) -> str:
        """Return the seconds of the training that has just ended, and the time left."""
        now = perf_counter()
        seconds, self._last = now - self._last, now
        self._left -= training.work
        self._done += training.work
        left = (now - self._started) / self._done * self._left
        return f'{seconds:.0f} s, {timedelta(seconds=round(left))} left'


def _print(line: str) -> None:
    Console().print(line, highlight=False, soft_wrap=True, markup=False)


def estimate_seconds(config: BenchmarkConfig, trainings: list[Training]) -> float:
    """Estimate the time of trainings from a few steps of one encoder on the CPU.

    Args:
        config: The configuration.
        trainings: The trainings.

    Returns:
        Seconds, without validation and setup.

    Raises:
        DatasetNotFoundError: If the data would have to be downloaded first.
        UserError: If the data cannot be used.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> folder = TemporaryDirectory()
        >>> root = folder.name
        >>> for prefix in ('RGB', 'DEPTH'):
        ...     images = np.zeros((30, 1, 16, 16))
        ...     np.save(f'{root}/{prefix}_data_normalized.npy', images)
        >>> np.save(f'{root}/labels.npy', np.arange(30) % 2)
        >>> for name, first in (('train', 0), ('valid', 10), ('test', 20)):
        ...     np.save(f'{root}/{name}_idx.npy', np.arange(first, first + 10))
        >>> data = {
        ...     'class_path': 'PairedArraysDataModule',
        ...     'init_args': {'root': root, 'run': None, 'batch_size': 8}}
        >>> channels = {'rgb': 1, 'depth': 1}
        >>> config = BenchmarkConfig(root, data, channels, 2, model='test_resnet')
        >>> estimate_seconds(config, plan(config)[:1]) > 0
        True
        >>> folder.cleanup()
    """
    datamodule = open_data(config, download=False)
    dataset = cast(MultiModalDataset, datamodule.train_dataset)
    batch = [dataset[i % len(dataset)] for i in range(SAMPLES)]
    started = perf_counter()
    for i in range(SAMPLES):
        dataset[i % len(dataset)]
    reading = (perf_counter() - started) / SAMPLES / len(config.modalities)
    modality = config.modalities[0]
    images = torch.stack([sample[f'image_{modality}'] for sample in batch])
    labels = torch.stack([sample['label'] for sample in batch])
    computing = _seconds_per_sample(config, modality, images, labels) / 3
    per_epoch = sum(
        t.work * computing + len(t.data_args['modalities']) * reading for t in trainings
    )
    epochs = config.trainer.get('max_epochs') or 1000
    return per_epoch * len(dataset) * epochs


def _seconds_per_sample(
    config: BenchmarkConfig, modality: str, images: torch.Tensor, labels: torch.Tensor
) -> float:
    channels = {modality: config.in_channels[modality]}
    with torch.random.fork_rng(devices=[]):
        network = FusionClassifier(channels, config.num_classes, config.model)
    optimizer = Adam(network.parameters(), fused=True)
    precision = str(config.trainer.get('precision', ''))
    if precision == 'auto':
        precision, _ = fast_precision(torch.device('cpu'))
    half = 'bf16' in precision
    started = 0.0
    for step in range(STEPS + 1):
        if step == 1:  # the first step prepares
            started = perf_counter()
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            loss = cross_entropy(network({modality: images}), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (perf_counter() - started) / (STEPS * len(images))
