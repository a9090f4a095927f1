# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A progress bar with rate and time left."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _RateColumn(ProgressColumn):
    """Things done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        # its own speed is that of the last half minute, and None at the beginning
        speed = None if task.finished else task.speed
        if speed is None:
            speed = (task.completed - task.fields['done']) / (task.elapsed or 1)
        return Text(f'{speed:,.{0 if speed >= 10 else 1}f} {self.unit}/s')


@contextmanager
def progress_bar(
    total: int, unit: str, show: bool = True, done: int = 0
) -> Generator[Callable[[int], None]]:
    """Show a progress bar on the standard error.

    Args:
        total: How many things there are.
        unit: What they are, for example 'tiles'.
        show: Whether to show it.
        done: How many were done in an earlier run.

    Yields:
        A function that is told how many more are done.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not show) as progress:
        task = progress.add_task(unit, total=total, completed=done, done=done)
        yield lambda count: progress.advance(task, count)
