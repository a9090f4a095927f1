# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run trainings one after the other, or side by side in processes of their own."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Self, cast

import torch

from ..errors import SettingError
from ..performance.memory import keep_freed_memory
from .config import BenchmarkConfig
from .plan import Training

#: Rows of a training, or the reason why it failed.
type Outcome = list[dict[str, Any]] | str

#: Seconds for a process to end its step before it is killed.
PATIENCE = 10


def check_jobs(config: BenchmarkConfig, jobs: int) -> None:
    """Check that this machine can run as many trainings side by side.

    Args:
        config: The configuration of the benchmark.
        jobs: Number of trainings.

    Raises:
        SettingError: If it cannot.
    """
    if jobs < 1:
        raise SettingError(f'jobs={jobs}: give 1 or more.')
    accelerator = config.trainer.get('accelerator', 'auto')
    cores = _cores()
    on_cpu = accelerator == 'cpu' or not torch.accelerator.is_available()
    if on_cpu and jobs > cores:
        raise SettingError(
            f'jobs={jobs}: trainings on the CPU need a core each, and this process may '
            f'use {cores}: give {cores} or fewer.'
        )


class InProcess:
    """Runs one training at a time, in this process."""

    free = 1

    def __init__(self, run: Callable[..., Outcome]) -> None:
        """Initialize a new InProcess instance.

        Args:
            run: Runs a training.
        """
        self._run = run
        self._started: list[tuple[Any, ...]] = []

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *args: object) -> None:
        """Do nothing."""

    def start(self, training: Training, *args: Any) -> None:
        """Take a training; :meth:`next` runs it.

        Args:
            training: The training.
            *args: Further arguments of the function that runs it.
        """
        self._started.append((training, *args))

    def next(self) -> tuple[Training, Outcome]:
        """Run the training.

        Returns:
            The training and its outcome.
        """
        training, *args = self._started.pop()
        return training, self._run(training, *args)


class Processes:
    """Runs trainings side by side, each in a process of its own.

    A process is used for one training after the other, because its imports take
    seconds. If it is killed, its training has failed, and the next training gets a new
    process. All end with the block, and with the process that started them.
    """

    def __init__(self, count: int, run: Callable[..., Outcome]) -> None:
        """Initialize a new Processes instance.

        Args:
            count: Number of processes.
            run: Runs a training; it must be importable, and is given picklable
                arguments.
        """
        self._count, self._run = count, run
        self._threads = max(1, torch.get_num_threads() // count)
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, Training]] = {}

    @property
    def free(self) -> int:
        """Number of trainings that can be started now."""
        return self._count - len(self._busy)

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *args: object) -> None:
        """End all processes, whatever they are doing."""
        processes = [*self._idle, *(process for process, _ in self._busy.values())]
        for process in processes:
            process.process.terminate()
        for process in processes:
            process.process.join(PATIENCE)
            process.process.kill()
            process.process.join()

    def start(self, training: Training, *args: Any) -> None:
        """Start a training.

        Args:
            training: The training.
            *args: Further arguments of the function that runs it.
        """
        if not self._idle:
            self._idle.append(_Process(self._run, self._threads))
        process = self._idle.pop()
        self._busy[process.connection] = process, training
        # fails if the process was killed while idle, which next() finds out
        with suppress(BrokenPipeError):
            process.connection.send((training, *args))

    def next(self) -> tuple[Training, Outcome]:
        """Wait for the end of a training.

        Returns:
            The training and its outcome.
        """
        connection = cast(Connection, wait(list(self._busy))[0])
        process, training = self._busy[connection]
        try:
            outcome = connection.recv()
            if isinstance(outcome, str):
                # after an error on a GPU nothing would work in this process again
                process.end()
            else:
                self._idle.append(process)
        except (EOFError, ConnectionError):
            outcome = process.why_it_ended()
        del self._busy[connection]
        return training, outcome


class _Process:
    """A process, and the connection to it."""

    def __init__(self, run: Callable[..., Outcome], threads: int) -> None:
        # forked processes cannot use a GPU, and inherit locks
        context = multiprocessing.get_context('spawn')
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, run, threads))
        with _without_interrupt():
            self.process.start()
        # so that the end of the process can be seen
        other.close()

    def end(self) -> None:
        self.connection.close()
        self.process.join()

    def why_it_ended(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        by = signal.Signals(-code).name if code < 0 else f'exit code {code}'
        return (
            f'its process ended with {by}. If memory is short, give fewer --jobs. To '
            'try again, run the same command.'
        )


@contextmanager
def _without_interrupt() -> Generator[None]:
    """Let processes that start in this block ignore Ctrl-C, which reaches them too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(
    connection: Connection, run: Callable[..., Outcome], threads: int
) -> None:  # pragma: no cover (another process)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    with quiet_lightning():
        while True:
            try:
                args = connection.recv()
            except EOFError:
                return
            connection.send(run(*args))


def _end_with_parent() -> None:  # pragma: no cover (another process)
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # else it would train on, into a folder that the next call uses
        os._exit(1)


@contextmanager
def quiet_lightning() -> Generator[None]:
    """Let Lightning report warnings no longer: it does so for every trainer."""
    names = 'lightning.pytorch', 'lightning.fabric'
    before = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in before:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
