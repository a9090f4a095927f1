# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run or resume all trainings of a benchmark, or estimate their time."""

import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal, cast

import torch
from rich.console import Console
from torch.optim import Adam

from ..datasets import MultiModalDataset
from ..errors import SettingError, UserError
from ..files import only_writer, utf8_text
from ..models import FusionClassifier
from ..performance.precision import fast_precision
from ..performance.ray_workers import check_ray
from .config import BenchmarkConfig
from .data import check_data, open_data
from .jobs import InProcess, Outcome, Processes, check_jobs, quiet_lightning
from .plan import Training, plan
from .ray_jobs import RayJobs
from .results import Results
from .training import Fit, check_one_device, fit_config, score, train

#: Numbers of training samples and of steps that measure the speed.
SAMPLES = 32
STEPS = 3

#: Reports the progress of a benchmark, one line at a time.
Report = Callable[[str], None]

#: What runs trainings: this process and others of this machine, or Ray.
type Engine = Literal['local', 'ray']


def run_benchmark(
    config: BenchmarkConfig,
    fit: Fit,
    report: Report | None = None,
    jobs: int = 1,
    engine: Engine = 'local',
    address: str | None = None,
) -> Results:
    """Train and score everything that is not finished yet.

    A failed training does not stop the others; it is listed, and the next call tries it
    again. Finished trainings are never repeated; interrupted ones resume from their
    last complete epoch.

    Args:
        config: The configuration.
        fit: Runs one training: :func:`torchgeo_discomkd.commands.fit.run`. With several
            *jobs*, it must be a function that other processes can import.
        report: Called with each progress line. Default: prints it.
        jobs: Number of trainings side by side. 1 trains in this process; more are
            processes of their own, which share the threads of PyTorch.
        engine: 'local', or 'ray' to train in workers of Ray, which share the machines
            of a cluster. A training whose worker dies is tried again.
        address: Address of a running Ray cluster, <host>:<port> or 'auto'. Default: a
            Ray on this machine that ends with the benchmark.

    Returns:
        All results.

    Raises:
        ClusterError: If the Ray cluster cannot be used or goes away.
        OutputInUseError: If another process runs a benchmark into the results folder.
        OutputError: If the results folder cannot be written.
        RunFolderExistsError: If the results folder belongs to another configuration.
        SettingError: If this machine or cluster cannot run *jobs* trainings side by
            side, or there is an *address* without 'ray'.
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
    check_engine(config, jobs, engine, address)
    with only_writer(folders=[Path(config.results)]):
        return _run(config, fit, report or _print, jobs, engine, address)


def check_engine(
    config: BenchmarkConfig, jobs: int, engine: Engine, address: str | None
) -> None:
    """Check what can be checked before anything is started.

    Args:
        config: The configuration of the benchmark.
        jobs: As for :func:`run_benchmark`.
        engine: As for :func:`run_benchmark`.
        address: As for :func:`run_benchmark`.

    Raises:
        ClusterError: If Ray is asked for and not installed.
        SettingError: If this machine cannot run *jobs* trainings side by side, there is
            an *address* without 'ray', or a training has several devices.
    """
    check_one_device(config)
    if engine == 'local':
        if address is not None:
            raise SettingError(f'address={address}: only with --engine ray.')
        check_jobs(config, jobs)
    else:
        check_ray(address, jobs)


def _run(
    config: BenchmarkConfig,
    fit: Fit,
    report: Report,
    jobs: int,
    engine: Engine,
    address: str | None,
) -> Results:
    results = Results(config)
    trainings = plan(config)
    waiting = [t for t in trainings if not results.finished(t)]
    if waiting:
        check_data(config)
    results.claim()
    progress = _Progress(trainings, waiting, report)
    busy: list[Training] = []
    run = partial(run_training, config, fit)
    if engine == 'ray' and waiting:
        made = RayJobs(config, run, jobs, address, report)
    else:
        made = Processes(jobs, run) if jobs > 1 else InProcess(run)
    with quiet_lightning(), made as workers:
        while waiting or busy:
            for training in _ready(waiting, busy)[: workers.free]:
                waiting.remove(training)
                busy.append(training)
                progress.start(training)
                taught = results.find(training.run, training.teacher or '')[:1]
                workers.start(training, results.run_folder(training), *taught)
            training, outcome = workers.next()
            busy.remove(training)
            if isinstance(outcome, str):
                results.fail(training, outcome)
            else:
                results.add(training, outcome)
            progress.end(training, outcome)
    return results


def _ready(waiting: list[Training], busy: list[Training]) -> list[Training]:
    """Return the trainings whose teachers have finished or failed."""
    unfinished = [(t.run, t.name) for t in (*waiting, *busy)]
    return [t for t in waiting if (t.run, t.teacher) not in unfinished]


def run_training(
    config: BenchmarkConfig,
    fit: Fit,
    training: Training,
    folder: Path,
    taught: dict[str, Any] | None = None,
) -> Outcome:
    """Run or resume one training, and score its classifiers.

    Args:
        config: The configuration.
        fit: Runs a configuration of ``fit``.
        training: The training.
        folder: Its run folder; ``<folder>.log`` gets its output.
        taught: Row of its teacher; None if it has none or its teacher failed.

    Returns:
        Its rows, or the reason why it failed.
    """
    try:
        teacher, costs = _teacher(training, folder, taught)
        settings = fit_config(config, training, folder, teacher)
        log = folder.with_name(f'{folder.name}.log')
        log.parent.mkdir(parents=True, exist_ok=True)
        with (
            log.open('a', errors='backslashreplace') as file,
            redirect_stdout(file),
            redirect_stderr(file),
        ):
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings('ignore', '.*does not have many workers')
                    cli = train(fit, settings, folder)
                    rows = score(cli, config, training, folder)
            except Exception:
                traceback.print_exc()
                raise
    # the others must continue, whatever went wrong
    except Exception as error:  # noqa: BLE001
        return utf8_text(str(error)) or type(error).__name__
    # only needed to resume, and larger than everything else
    (folder / 'last.ckpt').unlink(missing_ok=True)
    return [row | costs for row in rows]


def _teacher(
    training: Training, folder: Path, taught: dict[str, Any] | None
) -> tuple[Path | None, dict[str, float]]:
    if training.teacher is None:
        return None, {}
    if taught is None:
        raise UserError(f'its teacher {training.teacher} failed.')
    costs = {f'teacher_{name}': taught[name] for name in ('seconds', 'gflop')}
    best = folder.with_name(training.teacher) / 'best'
    path = best / f'{taught["modality"]}.safetensors'
    if not path.exists():
        raise UserError(
            f'its teacher {path} is missing: copy it, or remove the rows of '
            f'{training.teacher} from results.csv to train it again.'
        )
    return path, costs


class _Progress:
    """Reports what ended, and estimates the time left from the work still to do."""

    def __init__(
        self, trainings: list[Training], left: list[Training], report: Report
    ) -> None:
        self._labels = [t.label for t in trainings]
        self._left = sum(t.work for t in left)
        self._done = 0
        self._report = report
        self._began = perf_counter()
        self._started: dict[str, float] = {}

    def start(self, training: Training) -> None:
        self._started[training.label] = perf_counter()

    def end(self, training: Training, outcome: Outcome) -> None:
        """Report the scores of a training or its failure, its seconds, the time left.

        What runs side by side counts when it ends, so the rate is that of all jobs.
        """
        now, label = perf_counter(), training.label
        self._left -= training.work
        self._done += training.work
        left = timedelta(seconds=round((now - self._began) / self._done * self._left))
        if isinstance(outcome, str):
            line = f'failed: {outcome.splitlines()[0]}'
        else:
            full = [row for row in outcome if row['readout'] == 'full']
            line = ', '.join(f'{r["modality"]} F1 {100 * r["F1"]:.2f}' for r in full)
        head = f'[{self._labels.index(label) + 1}/{len(self._labels)}] {label}'
        seconds = now - self._started[label]
        self._report(f'{head}: {line} ({seconds:.0f} s, {left} left)')


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
    reading = _median_seconds(lambda i: dataset[i % len(dataset)], SAMPLES)
    reading /= len(config.modalities)
    modality = config.modalities[0]
    images = torch.stack([sample[f'image_{modality}'] for sample in batch])
    computing = _seconds_per_sample(config, modality, images) / 3
    per_epoch = sum(
        t.work * computing + len(t.data_args['modalities']) * reading for t in trainings
    )
    epochs = config.trainer.get('max_epochs') or 1000
    return per_epoch * len(dataset) * epochs


def _seconds_per_sample(
    config: BenchmarkConfig, modality: str, images: torch.Tensor
) -> float:
    channels = {modality: config.in_channels[modality]}
    with torch.random.fork_rng(devices=[]):
        network = FusionClassifier(channels, config.num_classes, config.model)
    optimizer = Adam(network.parameters(), fused=True)
    precision = str(config.trainer.get('precision', ''))
    if precision == 'auto':
        precision, _ = fast_precision(torch.device('cpu'))
    half = 'bf16' in precision

    def step(number: int) -> None:
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            # which loss and labels makes no difference to the time
            loss = network({modality: images}).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step(0)  # the first step prepares
    return _median_seconds(step, STEPS) / len(images)


def _median_seconds(function: Callable[[int], object], times: int) -> float:
    # a pause of the machine says nothing about the hours to come
    seconds = []
    for number in range(times):
        started = perf_counter()
        function(number)
        seconds.append(perf_counter() - started)
    return median(seconds)
