# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run trainings side by side in workers of Ray."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from ..performance.memory import keep_freed_memory
from ..performance.ray_workers import Lost, RayWorkers
from .config import BenchmarkConfig
from .jobs import Outcome, quiet_lightning
from .plan import Training


class RayJobs:
    """Runs trainings side by side, each in a worker of Ray.

    Like :class:`.Processes`, but a training whose worker dies is tried again, and goes
    on from its last complete epoch.
    """

    def __init__(
        self,
        config: BenchmarkConfig,
        run: Callable[..., Outcome],
        jobs: int,
        address: str | None,
        report: Callable[[str], object],
    ) -> None:
        """Initialize a new RayJobs instance.

        Args:
            config: The configuration, whose files the workers must see.
            run: Runs a training; it must be importable, and is given picklable
                arguments.
            jobs: Number of workers.
            address: As for :class:`.RayWorkers`.
            report: As for :class:`.RayWorkers`.

        Raises:
            SettingError: As for :class:`.RayWorkers`.
        """
        self._run = run
        self._trainings: dict[str, Training] = {}
        data = [config.data.get('init_args'), config.run_data]
        self._workers = RayWorkers(
            address,
            jobs,
            gpu=config.trainer.get('accelerator', 'auto') != 'cpu',
            paths=[Path(config.results, 'benchmark.json'), *_existing(data)],
            report=report,
        )

    @property
    def free(self) -> int:
        """Number of trainings that can be started now."""
        return self._workers.free

    def __enter__(self) -> Self:
        """Connect to the cluster."""
        self._workers.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        """End all workers, whatever they are doing."""
        self._workers.__exit__(*args)

    def start(self, training: Training, *args: Any) -> None:
        """Start a training.

        Args:
            training: The training.
            *args: Further arguments of the function that runs it.
        """
        self._trainings[training.label] = training
        name = training.label
        self._workers.start(name, name, _train, self._run, training, *args)

    def next(self) -> tuple[Training, Outcome]:
        """Wait for the end of a training.

        Returns:
            The training and its outcome.
        """
        label, outcome, host = self._workers.next()
        if isinstance(outcome, Lost):
            outcome = f'{outcome.reason}. If memory is short, give fewer --jobs.'
        elif isinstance(outcome, str):
            # after an error on a GPU nothing would work in this process again
            self._workers.renew()
        if isinstance(outcome, str):
            outcome = f'on {host}: {outcome}'
        return self._trainings.pop(label), outcome


def _train(
    run: Callable[..., Outcome], *args: Any
) -> Outcome:  # pragma: no cover (another process)
    keep_freed_memory()
    with quiet_lightning():
        return run(*args)


def _existing(value: Any) -> Iterator[Path]:
    """Yield all files and folders that a part of a configuration names."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _existing(part)
    elif isinstance(value, str) and Path(value).exists():
        yield Path(value)
